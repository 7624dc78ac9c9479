"""The application under uvicorn, with raw clients that send wrong lengths, stall or disconnect."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import httpx
import pytest
from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.types import HTTPReceiveMessage, HTTPScope, Receive
from pydantic import SecretStr

from backend.core.errors import IncompleteUpload
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.core.uploads.buffers import MIB
from backend.web.bodies import stream_body
from tests.backend.conftest import TOKEN, stored_keys
from tests.backend.raw_http import AUTHORIZATION, SECONDS, Server, serving
from tests.backend.test_playback import published, run_of

LIMIT = 64 * MIB
FORM = "Content-Type: multipart/form-data; boundary=b"
FORM_HEAD = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"


@pytest.fixture
def settings() -> ApiSettings:
    return ApiSettings(admin_token=SecretStr(TOKEN), max_upload_bytes=LIMIT)


@pytest.fixture
async def server(app: Litestar) -> AsyncIterator[Server]:
    async with serving(app) as running:
        yield running


async def _until_a_multipart_upload_is_open(buckets: Buckets) -> None:
    async with asyncio.timeout(SECONDS):
        while not await stored_keys(buckets):  # noqa: ASYNC110  # a bucket has no events
            await asyncio.sleep(0.005)
    assert [key.startswith("open upload") for key in await stored_keys(buckets)] == [True]


async def _until_nothing_is_stored(buckets: Buckets) -> None:
    async with asyncio.timeout(SECONDS):
        while await stored_keys(buckets):  # noqa: ASYNC110  # a bucket has no events
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("target", "headers", "first"),
    [
        ("/api/videos", [f"Content-Length: {40 * MIB}"], b""),
        ("/api/videos", ["Transfer-Encoding: chunked"], f"{40 * MIB:x}\r\n".encode()),
        ("/api/upload", [f"Content-Length: {40 * MIB}", FORM], FORM_HEAD),
    ],
)
async def test_disconnected_client_leaves_nothing(
    server: Server, buckets: Buckets, target: str, headers: list[str], first: bytes
) -> None:
    client = await server.connect()
    await client.send_head(f"POST {target}", AUTHORIZATION, *headers)
    await client.send(first + bytes(26 * MIB))
    await _until_a_multipart_upload_is_open(buckets)
    client.disconnect()
    await _until_nothing_is_stored(buckets)


@pytest.mark.parametrize("target", ["/api/videos", "/api/upload"])
async def test_rejects_a_too_large_content_length_before_the_body(
    server: Server, buckets: Buckets, target: str
) -> None:
    client = await server.connect()
    await client.send_head(f"POST {target}", AUTHORIZATION, FORM, f"Content-Length: {LIMIT + MIB}")
    status, body = await client.answer()
    assert status == 413
    assert b"upload_too_large" in body
    assert await stored_keys(buckets) == []
    client.disconnect()


async def test_rejects_an_unauthenticated_upload_before_the_body(server: Server) -> None:
    client = await server.connect()
    await client.send_head("POST /api/videos", f"Content-Length: {MIB}")
    assert (await client.answer())[0] == 401
    client.disconnect()


async def test_rejects_an_endless_chunked_body_at_the_limit(server: Server, buckets: Buckets) -> None:
    client = await server.connect()
    await client.send_head("POST /api/videos", AUTHORIZATION, "Transfer-Encoding: chunked")
    chunk = f"{8 * MIB:x}\r\n".encode() + bytes(8 * MIB) + b"\r\n"
    for _ in range(LIMIT // (8 * MIB) + 1):
        await client.send(chunk)
    status, body = await client.answer()
    assert status == 413
    assert b"upload_too_large" in body
    assert await stored_keys(buckets) == []
    client.disconnect()


async def test_truncated_body_is_not_kept(server: Server, buckets: Buckets) -> None:
    client = await server.connect()
    await client.send_head("POST /api/videos", AUTHORIZATION, "Content-Length: 100")
    await client.send(b"x" * 99)
    client.writer.write_eof()
    answered = await asyncio.wait_for(client.reader.read(), SECONDS)
    assert b" 201 " not in answered
    assert await stored_keys(buckets) == []
    client.disconnect()


async def test_slow_body_arrives_complete(server: Server, buckets: Buckets) -> None:
    client = await server.connect()
    await client.send_head("POST /api/videos", AUTHORIZATION, "Content-Length: 20")
    for byte in range(20):
        await client.send(bytes([byte]))
        await asyncio.sleep(0.002)
    assert (await client.answer())[0] == 201
    [source] = [key for key in await stored_keys(buckets) if key.startswith("uploads/")]
    assert (await buckets.raw.get(source)).body == bytes(range(20))
    client.disconnect()


async def test_stalled_client_is_disconnected() -> None:
    async def silence() -> HTTPReceiveMessage:
        return await asyncio.Future()

    scope = cast(HTTPScope, {"type": "http", "headers": []})
    request: Request[object, object, State] = Request(scope, receive=cast(Receive, silence))
    with pytest.raises(IncompleteUpload, match="No data"):
        await anext(stream_body(request, idle_seconds=0.01))


async def test_no_path_spelling_escapes_the_run(
    server: Server, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, prefix, grant = await published(admin, buckets)
    root = f"{grant}/{run_of(prefix)}"
    other, other_prefix, _ = await published(admin, buckets)
    await admin.post(f"/api/videos/{other}/captions/en", content=b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello")
    attempts = [
        "../status.json",
        "..%2fstatus.json",
        "%2e%2e/status.json",
        f"../../{other}/r0-0-abc/hls/master.m3u8",
        f"..%2f..%2f{other}%2fvideo.json",
        f"/{other_prefix}hls/master.m3u8",
        f"%2f{other_prefix}hls/master.m3u8",
        "hls//master.m3u8",
        "hls/./master.m3u8",
        "hls/%6daster.m3u8",
        "hls/master.m3u8/",
        "hls\\master.m3u8",
        "hls/master.m3u8%00",
        "hls/master.m3u8;x",
        ".hidden",
        "",
        "captions/en.vtt",
        "captions/en.m3u8",
        "captions/../hls/master.m3u8",
        "captions/%2e%2e/hls/master.m3u8",
        f"captions/../../../{other}/captions/en.vtt",
        f"captions/..%2f..%2f{other}%2fcaptions%2fen.vtt",
        f"captions/{other}/captions/en.vtt",
    ]
    client = await server.connect()
    await client.send_head(f"GET {root}/hls/master.m3u8")
    assert (await client.answer())[0] == 200
    for attempt in attempts:
        await client.send_head(f"GET {root}/{attempt}")
        status, body = await client.answer()
        assert status in (400, 403, 404), attempt
        assert b"EXTM3U" not in body
        assert b"WEBVTT" not in body
    client.disconnect()
