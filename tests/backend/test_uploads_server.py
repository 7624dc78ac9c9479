"""Resumable uploads under uvicorn, with raw clients that disconnect, stall or send wrong lengths."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from pydantic import SecretStr

from backend.core import keys
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.core.uploads.buffers import MIB
from tests.backend.conftest import TOKEN, stored_keys
from tests.backend.raw_http import AUTHORIZATION, SECONDS, Answer, Connection, Server, serving

UPLOADS = "/api/uploads"
TUS = "Tus-Resumable: 1.0.0"
BYTES = "Content-Type: application/offset+octet-stream"
LIMIT = 64 * MIB
FILM = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 4 * 1024 * 18
"""18 MiB: two parts and a tail."""
UNREAD_BYTES = 128 * 1024
"""The server discards what it has read ahead when it detects the disconnect."""


@pytest.fixture
def settings() -> ApiSettings:
    return ApiSettings(admin_token=SecretStr(TOKEN), max_upload_bytes=LIMIT)


@pytest.fixture
async def server(app: Litestar) -> AsyncIterator[Server]:
    async with serving(app) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Connection]:
    """A second connection from the same client, which checks the state."""
    connection = await server.connect()
    yield connection
    connection.disconnect()


async def _create(client: Connection, length: int | None = len(FILM)) -> str:
    length_header = f"Upload-Length: {length}" if length is not None else "Upload-Defer-Length: 1"
    await client.send_head(f"POST {UPLOADS}", AUTHORIZATION, TUS, length_header, "Content-Length: 0")
    answer = await client.whole_answer()
    assert answer.status == 201, answer
    return answer.headers["location"]


async def _head(client: Connection, url: str) -> Answer:
    await client.send_head(f"HEAD {url}", AUTHORIZATION, TUS)
    return await client.whole_answer(has_body=False)


async def _begin(client: Connection, url: str, offset: int, *headers: str) -> None:
    await client.send_head(f"PATCH {url}", AUTHORIZATION, TUS, BYTES, f"Upload-Offset: {offset}", *headers)


async def _send_rest(client: Connection, url: str, offset: int) -> Answer:
    await _begin(client, url, offset, f"Content-Length: {len(FILM) - offset}")
    await client.send(FILM[offset:])
    return await client.whole_answer()


async def _arrives(client: Connection, buckets: Buckets, url: str, offset: int) -> None:
    """Assert that the upload resumes at `offset` and that the stored file is correct."""
    answer = await _send_rest(client, url, offset)
    assert (answer.status, answer.headers["upload-offset"]) == (204, str(len(FILM)))
    assert (await buckets.raw.get(keys.upload(answer.headers["video-id"]))).body == FILM


async def _kept(client: Connection, url: str) -> int:
    """Return the upload's offset once no request holds it."""
    for _ in range(100):
        at = int((await _head(client, url)).headers["upload-offset"])
        await _begin(client, url, at, "Content-Length: 0")
        if (await client.whole_answer()).status == 204:
            return at
    raise AssertionError("somebody holds the upload still")


async def test_response_to_a_post_overridden_by_head_ends(
    server: Server, client: Connection, buckets: Buckets
) -> None:
    """The server frames a response by the original method, and the connection stays usable."""
    url = await _create(client)
    for target, status in ((url, 200), (f"{url}0", 404), (UPLOADS, 405)):
        await client.send_head(
            f"POST {target}", AUTHORIZATION, TUS, "X-HTTP-Method-Override: HEAD", "Content-Length: 0"
        )
        answer = await client.whole_answer()
        assert (answer.status, "content-length" in answer.headers) == (status, True)
        assert (answer.body == b"") == (status == 200)
    await client.send_head(
        f"HEAD {url}", AUTHORIZATION, TUS, BYTES, "X-HTTP-Method-Override: PATCH", "Upload-Offset: 7"
    )
    assert (await client.whole_answer(has_body=False)).status == 409
    await _arrives(client, buckets, url, 0)


@pytest.mark.parametrize("sent", [1, 17 * MIB + 3])
@pytest.mark.parametrize("chunked", [False, True])
async def test_keeps_what_arrived_from_a_disconnected_client(
    server: Server, client: Connection, buckets: Buckets, sent: int, chunked: bool
) -> None:
    url = await _create(client)
    vanishing = await server.connect()
    if chunked:
        await _begin(vanishing, url, 0, "Transfer-Encoding: chunked")
        await vanishing.send(f"{sent:x}\r\n".encode() + FILM[:sent] + b"\r\n")
    else:
        await _begin(vanishing, url, 0, f"Content-Length: {len(FILM)}")
        await vanishing.send(FILM[:sent])
    vanishing.disconnect()
    kept = await _kept(client, url)
    assert sent - UNREAD_BYTES <= kept <= sent
    await _arrives(client, buckets, url, kept)


async def test_keeps_everything_from_a_stalled_client(
    server: Server, client: Connection, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.routes.resumable_uploads.IDLE_SECONDS", 0.2)
    url = await _create(client)
    stalling = await server.connect()
    await _begin(stalling, url, 0, f"Content-Length: {len(FILM)}")
    await stalling.send(FILM[: 9 * MIB])
    status, body = await stalling.answer()
    assert (status, b"offset_mismatch" in body) == (409, True), body
    assert (await _head(client, url)).headers["upload-offset"] == str(9 * MIB)
    await _arrives(client, buckets, url, 9 * MIB)
    stalling.disconnect()


async def test_client_on_a_new_network_does_not_wait_for_its_old_connection(
    server: Server, client: Connection, buckets: Buckets
) -> None:
    url = await _create(client)
    old = await server.connect()
    await _begin(old, url, 0, f"Content-Length: {len(FILM)}")
    await old.send(FILM[: 9 * MIB])
    assert await _kept(client, url) == 9 * MIB
    await _arrives(client, buckets, url, 9 * MIB)
    old.disconnect()


async def test_keeps_a_body_shorter_than_its_content_length(
    server: Server, client: Connection, buckets: Buckets
) -> None:
    url = await _create(client)
    lying = await server.connect()
    await _begin(lying, url, 0, f"Content-Length: {len(FILM)}")
    await lying.send(FILM[:1000])
    lying.writer.write_eof()
    kept = await _kept(client, url)
    assert kept <= 1000
    await _arrives(client, buckets, url, kept)
    lying.disconnect()


async def test_bytes_after_the_content_length_are_ignored(
    server: Server, client: Connection, buckets: Buckets
) -> None:
    url = await _create(client)
    lying = await server.connect()
    await _begin(lying, url, 0, "Content-Length: 1000")
    await lying.send(FILM[:2000])
    assert (await lying.whole_answer()).status in (204, 400)  # the rest is not a valid request
    kept = await _kept(client, url)
    assert kept <= 1000
    await _arrives(client, buckets, url, kept)
    lying.disconnect()


async def test_chunked_body_beyond_the_upload_length_is_rejected(
    server: Server, client: Connection, buckets: Buckets
) -> None:
    url = await _create(client)
    lying = await server.connect()
    await _begin(lying, url, 0, "Transfer-Encoding: chunked")
    await lying.send(f"{len(FILM) + 1:x}\r\n".encode() + FILM + b"!\r\n")
    status, body = await lying.answer()
    assert status == 413
    assert b"upload_too_large" in body
    kept = int((await _head(client, url)).headers["upload-offset"])
    assert 16 * MIB <= kept <= len(FILM)
    await _arrives(client, buckets, url, kept)
    lying.disconnect()


@pytest.mark.parametrize(
    ("status", "code", "headers"),
    [
        (401, b"unauthorized", ("Authorization: Bearer wrong", TUS, BYTES, "Upload-Offset: 0")),
        (412, b"unsupported_tus_version", (AUTHORIZATION, BYTES, "Upload-Offset: 0")),
        (415, b"wrong_body_type", (AUTHORIZATION, TUS, "Content-Type: video/mp4", "Upload-Offset: 0")),
        (409, b"offset_mismatch", (AUTHORIZATION, TUS, BYTES, "Upload-Offset: 5")),
        (400, b"bad_request", (AUTHORIZATION, TUS, BYTES)),
    ],
)
async def test_rejects_an_invalid_request_before_100_continue(
    server: Server, client: Connection, status: int, code: bytes, headers: tuple[str, ...]
) -> None:
    url = await _create(client)
    asking = await server.connect()
    await asking.send_head(f"PATCH {url}", *headers, "Expect: 100-continue", f"Content-Length: {len(FILM)}")
    answer = await asking.whole_answer()
    assert (answer.status, code in answer.body) == (status, True), answer
    assert (await _head(client, url)).headers["upload-offset"] == "0"
    asking.disconnect()


async def test_rejects_a_too_long_request_before_100_continue(
    server: Server, client: Connection, buckets: Buckets
) -> None:
    url = await _create(client)
    for target, headers in (
        (f"PATCH {url}", [BYTES, "Upload-Offset: 0", f"Content-Length: {len(FILM) + 1}"]),
        (f"POST {UPLOADS}", [BYTES, f"Upload-Length: {LIMIT + 1}", f"Content-Length: {LIMIT + 1}"]),
    ):
        asking = await server.connect()
        await asking.send_head(target, AUTHORIZATION, TUS, *headers, "Expect: 100-continue")
        status, body = await asking.answer()
        assert (status, b"upload_too_large" in body) == (413, True)
        asking.disconnect()
    await _arrives(client, buckets, url, 0)


async def test_sends_100_continue_when_the_body_is_acceptable(server: Server, client: Connection) -> None:
    url = await _create(client)
    asking = await server.connect()
    await _begin(asking, url, 0, "Expect: 100-continue", "Content-Length: 1000")
    assert (await asking.whole_answer()).status == 100
    await asking.send(FILM[:1000])
    assert (await asking.whole_answer()).headers["upload-offset"] == "1000"
    asking.disconnect()


@pytest.mark.parametrize(
    ("body", "rest", "status"), [(b"%PDF-1.7\n" + bytes(8000), 0, 415), (FILM[:MIB], 5 * MIB, None)]
)
async def test_upload_whose_url_was_never_sent_leaves_nothing(
    server: Server, buckets: Buckets, body: bytes, rest: int, status: int | None
) -> None:
    """It was created with its first bytes. Without a response, the client cannot resume it."""
    creating = await server.connect()
    length = len(body) + rest
    lengths = (f"Upload-Length: {length}", f"Content-Length: {length}")
    await creating.send_head(f"POST {UPLOADS}", AUTHORIZATION, TUS, BYTES, *lengths)
    await creating.send(body)
    if status is not None:
        assert (await creating.answer())[0] == status
    creating.disconnect()
    async with asyncio.timeout(SECONDS):
        while await stored_keys(buckets):  # noqa: ASYNC110  # a bucket has no events
            await asyncio.sleep(0.005)
