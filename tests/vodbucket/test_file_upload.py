"""Uploads from the command line to an API process, interrupted and resumed anywhere."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import HttpUrl, SecretStr

from backend.core import keys
from backend.core.library.videos import read_video
from backend.core.settings import ClientSettings
from backend.core.store.s3 import S3Buckets, open_buckets
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.quota import UploadRules
from backend.core.uploads.resumable import locks as upload_locks
from backend.core.uploads.resumable.service import ResumableUploads
from tests.lab.checker import store_settings
from tests.lab.product import ADMIN_TOKEN, Product, stop
from tests.lab.server import StoreServer
from tests.vodbucket.conftest import POLL_SECONDS, during
from vodbucket.client.api import Api, Response, open_api
from vodbucket.client.errors import NotFound, RequestRejected, ServerUnavailable, TokenRejected
from vodbucket.client.file_upload import MAX_LOST_UPLOADS, FileUpload
from vodbucket.client.local_file import LocalFile, inspect_file, keeping_original
from vodbucket.client.patience import Patience
from vodbucket.client.responses import Resumption
from vodbucket.client.tus_client import UPLOADS, path_of

MIB = 1024 * 1024
FILM_BYTES = 17 * MIB + 12345
SECONDS = 120.0
TUS = {"tus-resumable": "1.0.0"}


@pytest.fixture
async def api(product: Product) -> AsyncIterator[Api]:
    async with open_api(_settings(product)) as opened:
        yield opened


@pytest.fixture
async def buckets(product: Product) -> AsyncIterator[S3Buckets]:
    async with open_buckets(store_settings(product.environment)) as opened:
        yield opened


def _settings(product: Product, token: str = ADMIN_TOKEN) -> ClientSettings:
    return ClientSettings(vodbucket_url=HttpUrl(product.url), admin_token=SecretStr(token))


@pytest.fixture
def film(tmp_path: Path) -> LocalFile:
    return _file(tmp_path / "film.mp4")


def _file(path: Path, size_bytes: int = FILM_BYTES) -> LocalFile:
    path.write_bytes(b"\x00\x00\x00\x18ftypisom" + random.randbytes(size_bytes - 12))
    return inspect_file(path)


class RecordingDisplay:
    """Records what is displayed, and reacts to progress."""

    def __init__(self, on_progress: Callable[[int], None] = lambda _: None) -> None:
        self.offsets: list[int] = []
        self.printed: asyncio.Queue[str] = asyncio.Queue()
        self._sent = 0
        self._on_progress = on_progress

    def set_offset(self, offset: int) -> None:
        self.offsets.append(offset)

    def advance(self, size_bytes: int) -> None:
        self._sent += size_bytes
        self._on_progress(self._sent)

    def print(self, sentence: str) -> None:
        self.printed.put_nowait(sentence)


async def _upload(
    api: Api, file: LocalFile, display: RecordingDisplay | None = None, title: str | None = None
) -> str:
    seen = display or RecordingDisplay()
    async with asyncio.timeout(SECONDS):
        return await FileUpload(api, file, title, Patience(SECONDS, seen.print), seen).run()


async def _interrupt(api: Api, file: LocalFile, after_bytes: int, title: str | None = None) -> None:
    """Upload until about this many bytes were sent, then stop as Ctrl-C does."""
    enough = asyncio.Event()
    display = RecordingDisplay(lambda sent: enough.set() if sent >= after_bytes else None)
    uploading = asyncio.create_task(_upload(api, file, display, title))
    await during(uploading, enough.wait())
    uploading.cancel()
    with suppress(asyncio.CancelledError):
        await uploading


async def _assert_arrived(buckets: S3Buckets, video_id: str, file: LocalFile) -> None:
    assert (await buckets.raw.get(keys.upload(video_id))).body == file.path.read_bytes()


async def _noted_upload(api: Api, file: LocalFile) -> str:
    resumption = await api.resumption(file.fingerprint)
    assert resumption is not None
    assert resumption.upload_url is not None
    return resumption.upload_url.rpartition("/")[2]


async def _wait_until_released(buckets: S3Buckets, upload_id: str) -> int:
    """Wait until the server has stored everything from a client that is gone, and return the offset."""
    locks = upload_locks.UploadLocks(buckets.raw)
    async with asyncio.timeout(SECONDS):
        while True:
            progress = await locks.stat(upload_id)
            if progress.offset > 0 and not progress.held:
                return progress.offset
            await asyncio.sleep(POLL_SECONDS)


async def test_upload_creates_video_and_deletes_its_resumption(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    display = RecordingDisplay()
    video_id = await _upload(api, film, display, title="Harbour, 6 o’clock")

    await _assert_arrived(buckets, video_id, film)
    video = await api.video(video_id)
    assert (video.title, video.filename, video.content_type) == (
        "Harbour, 6 o’clock",
        "film.mp4",
        "video/mp4",
    )
    assert await api.resumption(film.fingerprint) is None
    assert (display.offsets, display.printed.empty()) == ([0], True)


async def test_interrupted_upload_resumes_from_another_machine(
    product: Product, api: Api, buckets: S3Buckets, film: LocalFile, tmp_path: Path
) -> None:
    await _interrupt(api, film, 10 * MIB)
    copy = tmp_path / "elsewhere" / "copy.mp4"
    copy.parent.mkdir()
    copy.write_bytes(film.path.read_bytes())
    display = RecordingDisplay()
    async with open_api(_settings(product)) as elsewhere:
        video_id = await _upload(elsewhere, inspect_file(copy), display, title="Renamed on the way")

    assert display.offsets[0] > 0
    await _assert_arrived(buckets, video_id, film)
    assert (await api.video(video_id)).title == "Renamed on the way"


async def test_one_file_with_two_titles_becomes_two_videos(api: Api, film: LocalFile) -> None:
    await _interrupt(api, film, 10 * MIB, title="One")
    two = await _upload(api, film, title="Two")
    display = RecordingDisplay()
    one = await _upload(api, film, display, title="One")

    assert [(await api.video(video)).title for video in (one, two)] == ["One", "Two"]
    assert display.offsets[0] > 0


async def test_an_interrupted_upload_is_not_resumed_with_the_wish_to_keep_the_file(
    api: Api, film: LocalFile, buckets: S3Buckets
) -> None:
    await _interrupt(api, film, 9 * MIB)

    video = await read_video(buckets, await _upload(api, keeping_original(film)))

    assert video.original is not None
    assert video.original.keep


async def test_another_title_does_not_rename_a_finished_video(api: Api, film: LocalFile) -> None:
    first = await _upload(api, film)
    address = Resumption(upload_url=path_of(first), size_bytes=film.size_bytes)
    await api.save_resumption(film.fingerprint, address)

    second = await _upload(api, film, title="Second")

    assert [(await api.video(video)).title for video in (first, second)] == ["film", "Second"]


async def test_sends_shorter_bodies_through_a_proxy_that_limits_them(
    product: Product, api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    async with _limiting_proxy(product.url, 3 * MIB) as url:
        settings = _settings(product).model_copy(update={"vodbucket_url": HttpUrl(url)})
        async with open_api(settings) as through_proxy:
            await _assert_arrived(buckets, await _upload(through_proxy, film), film)
            assert MIB < through_proxy.max_body_bytes < 3 * MIB


async def test_gives_up_behind_a_proxy_that_accepts_no_bodies(product: Product, film: LocalFile) -> None:
    async with _limiting_proxy(product.url, 1000) as url:
        settings = _settings(product).model_copy(update={"vodbucket_url": HttpUrl(url)})
        async with open_api(settings) as through_proxy:
            with pytest.raises(RequestRejected, match="rejects request bodies"):
                await _upload(through_proxy, film)


@asynccontextmanager
async def _limiting_proxy(to_url: str, limit_bytes: int) -> AsyncIterator[str]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            body = await request.read()  # raises 413 beyond the limit
            headers = {**request.headers, "Content-Length": str(len(body))}
            target = to_url.rstrip("/") + request.raw_path
            async with session.request(request.method, target, headers=headers, data=BytesIO(body)) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _FRAMING}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        application = web.Application(client_max_size=limit_bytes)
        application.router.add_route("*", "/{path:.*}", forward)
        server = TestServer(application)
        await server.start_server()
        try:
            yield str(server.make_url("/"))
        finally:
            await server.close()


_FRAMING = {"content-length", "transfer-encoding", "connection"}


@pytest.mark.heavy
async def test_retries_with_a_message_until_the_server_is_back(
    product: Product, api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    stop(product.processes[-1])
    display = RecordingDisplay()
    uploading = asyncio.create_task(_upload(api, film, display))
    try:
        messages = [await during(uploading, display.printed.get()) for _ in range(2)]
    finally:
        await asyncio.to_thread(product.start_api)

    await _assert_arrived(buckets, await uploading, film)
    assert messages[0].startswith(f"Connection to {product.url} failed: Connection refused. ")
    assert "VODBUCKET_URL selects another server. Retrying in " in messages[0]


async def test_gives_up_after_the_patience(product: Product, film: LocalFile) -> None:
    nowhere = _settings(product).model_copy(update={"vodbucket_url": HttpUrl("http://127.0.0.1:9")})
    display = RecordingDisplay()
    async with open_api(nowhere) as api:
        with pytest.raises(ServerUnavailable, match=r"Connection to .* failed"):
            await FileUpload(api, film, None, Patience(0, display.print), display).run()


async def test_waits_while_another_request_sends_the_same_upload(
    api: Api, buckets: S3Buckets, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _interrupt(api, film, 9 * MIB)
    upload_id = await _noted_upload(api, film)
    display = RecordingDisplay()
    async with _held_elsewhere(buckets, upload_id, monkeypatch):
        uploading = asyncio.create_task(_upload(api, film, display))
        message = await during(uploading, display.printed.get())

    await _assert_arrived(buckets, await uploading, film)
    assert message.startswith("Another request is sending this upload. Try again in a moment. Retrying in ")


@asynccontextmanager
async def _held_elsewhere(
    buckets: S3Buckets, upload_id: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Let another server, in this process, hold the upload during the block.

    The API itself would release the upload to any other request as soon as its client stalls.
    """
    # So that the API sees at its first check that the holder is alive.
    monkeypatch.setattr(upload_locks, "HEARTBEAT_SECONDS", upload_locks.POLL_SECONDS / 4)
    at = await _wait_until_released(buckets, upload_id)
    rules = UploadRules(FILM_BYTES, timedelta(days=1))
    elsewhere = ResumableUploads(buckets, buckets, PartBuffers(16 * MIB), rules)
    holding = asyncio.Event()

    async def nothing_yet() -> AsyncIterator[bytes]:
        holding.set()
        await asyncio.Event().wait()
        yield b""

    receiving = asyncio.create_task(elsewhere.append(upload_id, at, nothing_yet()))
    await during(receiving, holding.wait())
    try:
        yield
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def test_starts_over_when_the_store_has_lost_the_upload(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    await _interrupt(api, film, 10 * MIB)
    await _wait_until_released(buckets, await _noted_upload(api, film))
    async for upload in buckets.raw.list_uploads(""):
        await buckets.raw.abort_upload(upload.key, upload.upload_id)
    display = RecordingDisplay()

    await _assert_arrived(buckets, await _upload(api, film, display), film)
    assert display.offsets[-1] == 0


@pytest.mark.heavy
async def test_starts_over_when_the_upload_is_deleted_while_sending(
    api: Api, buckets: S3Buckets, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _interrupt(api, film, 9 * MIB)
    upload_id = await _noted_upload(api, film)
    display = RecordingDisplay()
    async with _held_elsewhere(buckets, upload_id, monkeypatch):
        uploading = asyncio.create_task(_upload(api, film, display))
        await during(uploading, display.printed.get())
        await buckets.raw.delete(keys.upload_info(upload_id))

    video_id = await uploading
    await _assert_arrived(buckets, video_id, film)
    assert (video_id != upload_id, display.offsets[-1]) == (True, 0)


async def test_does_not_upload_a_complete_video_twice(api: Api, film: LocalFile) -> None:
    video_id = await _upload(api, film)
    await api.save_resumption(
        film.fingerprint, Resumption(upload_url=path_of(video_id), size_bytes=film.size_bytes)
    )

    assert await _upload(api, film) == video_id


async def test_uploads_again_after_the_video_was_deleted(api: Api, film: LocalFile) -> None:
    video_id = await _upload(api, film)
    await api.delete(video_id)
    await api.save_resumption(
        film.fingerprint, Resumption(upload_url=path_of(video_id), size_bytes=film.size_bytes)
    )

    assert await _upload(api, film) != video_id


async def test_finishes_and_joins_pieces_that_a_browser_started(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    cut = 7 * MIB
    urls = [await _create_piece(api, length) for length in (cut, film.size_bytes - cut)]
    urls = [f"https://another.example{address}" for address in urls]
    await api.save_resumption(
        film.fingerprint, Resumption(parallel_upload_urls=urls, size_bytes=film.size_bytes)
    )
    display = RecordingDisplay()

    await _assert_arrived(buckets, await _upload(api, film, display), film)
    assert display.offsets == [0, cut]


async def _create_piece(api: Api, length: int) -> str:
    """Create a partial upload, as browsers do, and return its URL."""
    headers = {**TUS, "upload-length": str(length), "upload-concat": "partial"}
    return (await api.request("POST", UPLOADS, headers=headers)).headers["location"]


async def test_rejected_file_leaves_nothing_on_the_server(
    api: Api, buckets: S3Buckets, tmp_path: Path
) -> None:
    path = tmp_path / "paper.mp4"
    path.write_bytes(b"%PDF-1.7\n" + bytes(3 * MIB))
    file = inspect_file(path)
    before = {info.key async for info in buckets.raw.list_all(keys.UPLOADS)}

    with pytest.raises(RequestRejected, match="looks like a PDF document"):
        await _upload(api, file)

    assert await api.resumption(file.fingerprint) is None
    assert {info.key async for info in buckets.raw.list_all(keys.UPLOADS)} == before


async def test_pieces_of_a_rejected_file_are_deleted_even_if_one_is_gone(
    api: Api, buckets: S3Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "paper.mp4"
    path.write_bytes(b"%PDF-1.7\n" + bytes(3 * MIB))
    file = inspect_file(path)
    urls = [await _create_piece(api, length) for length in (MIB, file.size_bytes - MIB)]
    await api.save_resumption(
        file.fingerprint, Resumption(parallel_upload_urls=urls, size_bytes=file.size_bytes)
    )
    _interfere(monkeypatch, api, "DELETE", [None, NotFound("There is no such upload.")])

    with pytest.raises(RequestRejected, match="looks like a PDF document"):
        await _upload(api, file)

    assert await api.resumption(file.fingerprint) is None
    gone, dropped = (address.rpartition("/")[2] for address in urls)
    left = [info.key async for info in buckets.raw.list_all(keys.UPLOADS)]
    assert [key for key in left if dropped in key] == []
    assert [key for key in left if gone in key] != []


async def test_retrying_to_save_a_resumption_creates_no_second_upload(
    api: Api, buckets: S3Buckets, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = _interfere(monkeypatch, api, "PUT", [ServerUnavailable("The store is away.")])

    await _assert_arrived(buckets, await _upload(api, film), film)

    assert (methods.count("POST"), methods.count("PUT")) == (1, 2)


async def test_gives_up_on_a_server_that_loses_every_upload(
    api: Api, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = _interfere(monkeypatch, api, "HEAD", repeat(NotFound("There is no such upload.")))

    with pytest.raises(RequestRejected, match="The server lost the upload 5 times"):
        await _upload(api, film)

    assert methods.count("POST") == MAX_LOST_UPLOADS


async def test_replaces_a_resumption_with_an_invalid_url(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    await api.save_resumption(film.fingerprint, Resumption(upload_url="http://[", size_bytes=film.size_bytes))

    await _assert_arrived(buckets, await _upload(api, film), film)


def _interfere(
    monkeypatch: pytest.MonkeyPatch, api: Api, method: str, failures: Iterable[Exception | None]
) -> list[str]:
    """Make requests with this method fail in this order. Return a growing list of all requests' methods."""
    made: list[str] = []
    left, request = iter(failures), api.request

    async def instead(requested: str, path: str, **options: Any) -> Response:
        made.append(requested)
        failure = next(left, None) if requested == method else None
        if failure is not None:
            raise failure
        return await request(requested, path, **options)

    monkeypatch.setattr(api, "request", instead)
    return made


async def test_wrong_token_is_not_retried(product: Product, film: LocalFile) -> None:
    async with open_api(_settings(product, "another-token-0123456789")) as api:
        with pytest.raises(TokenRejected):
            await _upload(api, film)


async def test_rejects_a_server_that_is_not_vodbucket(moto_server: StoreServer, film: LocalFile) -> None:
    settings = ClientSettings(
        vodbucket_url=HttpUrl(moto_server.endpoint_url), admin_token=SecretStr(ADMIN_TOKEN)
    )
    async with open_api(settings) as api:
        with pytest.raises((RequestRejected, NotFound)):
            await _upload(api, film)
