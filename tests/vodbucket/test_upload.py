"""Uploads of the command line to an API process: interrupted anywhere, and gone on with from anywhere."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from pydantic import HttpUrl, SecretStr

from backend.core import keys
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
from vodbucket.answers import Note
from vodbucket.api import Answer, Api, open_api
from vodbucket.errors import NotThere, Refused, ServerAway, TokenRefused
from vodbucket.files import LocalFile, examine_file
from vodbucket.patience import Patience
from vodbucket.tus import UPLOADS, address_of
from vodbucket.upload import LOST_AT_MOST, FileUpload

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
    return examine_file(path)


class Witness:
    """Notes what is shown, and acts on it."""

    def __init__(self, on_progress: Callable[[int], None] = lambda _: None) -> None:
        self.began_at: list[int] = []
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self._sent = 0
        self._on_progress = on_progress

    def begin(self, at: int) -> None:
        self.began_at.append(at)

    def add(self, size_bytes: int) -> None:
        self._sent += size_bytes
        self._on_progress(self._sent)

    def tell(self, sentence: str) -> None:
        self.told.put_nowait(sentence)


async def _upload(api: Api, file: LocalFile, witness: Witness | None = None, title: str | None = None) -> str:
    seen = witness or Witness()
    async with asyncio.timeout(SECONDS):
        return await FileUpload(api, file, title, Patience(SECONDS, seen.tell), seen).run()


async def _interrupt(api: Api, file: LocalFile, after_bytes: int) -> None:
    """Upload until about so many bytes were sent, as a person does who then presses Ctrl-C."""
    enough = asyncio.Event()
    witness = Witness(lambda sent: enough.set() if sent >= after_bytes else None)
    uploading = asyncio.create_task(_upload(api, file, witness))
    await during(uploading, enough.wait())
    uploading.cancel()
    with suppress(asyncio.CancelledError):
        await uploading


async def _assert_arrived(buckets: S3Buckets, video_id: str, file: LocalFile) -> None:
    assert (await buckets.raw.get(keys.upload(video_id))).body == file.path.read_bytes()


async def _noted_upload(api: Api, file: LocalFile) -> str:
    note = await api.note(file.fingerprint)
    assert note is not None
    assert note.upload_url is not None
    return note.upload_url.rpartition("/")[2]


async def _let_go(buckets: S3Buckets, upload_id: str) -> int:
    """Wait until the server has stored all that came from a client that is gone; return how much it has."""
    locks = upload_locks.UploadLocks(buckets.raw)
    async with asyncio.timeout(SECONDS):
        while True:
            progress = await locks.stat(upload_id)
            if progress.offset > 0 and not progress.held:
                return progress.offset
            await asyncio.sleep(POLL_SECONDS)


async def test_a_file_becomes_a_video_and_nothing_is_noted_any_more(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    witness = Witness()
    video_id = await _upload(api, film, witness, title="Harbour, 6 o’clock")

    await _assert_arrived(buckets, video_id, film)
    video = await api.video(video_id)
    assert (video.title, video.filename, video.content_type) == (
        "Harbour, 6 o’clock",
        "film.mp4",
        "video/mp4",
    )
    assert await api.note(film.fingerprint) is None
    assert (witness.began_at, witness.told.empty()) == ([0], True)


async def test_an_interrupted_upload_goes_on_from_another_machine(
    product: Product, api: Api, buckets: S3Buckets, film: LocalFile, tmp_path: Path
) -> None:
    await _interrupt(api, film, 10 * MIB)
    copy = tmp_path / "elsewhere" / "copy.mp4"
    copy.parent.mkdir()
    copy.write_bytes(film.path.read_bytes())
    witness = Witness()
    async with open_api(_settings(product)) as elsewhere:
        video_id = await _upload(elsewhere, examine_file(copy), witness, title="Renamed on the way")

    assert witness.began_at[0] > 0
    await _assert_arrived(buckets, video_id, film)
    assert (await api.video(video_id)).title == "Renamed on the way"


@pytest.mark.heavy
async def test_it_goes_on_when_the_server_is_back_and_says_so_meanwhile(
    product: Product, api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    stop(product.processes[-1])
    witness = Witness()
    uploading = asyncio.create_task(_upload(api, film, witness))
    try:
        said = [await during(uploading, witness.told.get()) for _ in range(2)]
    finally:
        await asyncio.to_thread(product.start_api)

    await _assert_arrived(buckets, await uploading, film)
    assert said[0].startswith(f"{product.url} cannot be reached (Connection refused). Trying again in ")


async def test_its_patience_ends(product: Product, film: LocalFile) -> None:
    nowhere = _settings(product).model_copy(update={"vodbucket_url": HttpUrl("http://127.0.0.1:9")})
    witness = Witness()
    async with open_api(nowhere) as api:
        with pytest.raises(ServerAway, match="cannot be reached"):
            await FileUpload(api, film, None, Patience(0, witness.tell), witness).run()


async def test_it_waits_while_another_request_sends_the_same_upload(
    api: Api, buckets: S3Buckets, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _interrupt(api, film, 9 * MIB)
    upload_id = await _noted_upload(api, film)
    witness = Witness()
    async with _held_elsewhere(buckets, upload_id, monkeypatch):
        uploading = asyncio.create_task(_upload(api, film, witness))
        said = await during(uploading, witness.told.get())

    await _assert_arrived(buckets, await uploading, film)
    assert said.startswith("Another request is sending this upload. Try again in a moment. Trying again in ")


@asynccontextmanager
async def _held_elsewhere(
    buckets: S3Buckets, upload_id: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Let another server, in this process, receive the upload while the block lasts.

    The API's own holder would give way to whoever asks, if its client were silent for a moment.
    """
    # So that the API sees at its first look that the holder lives.
    monkeypatch.setattr(upload_locks, "HEARTBEAT_SECONDS", upload_locks.POLL_SECONDS / 4)
    at = await _let_go(buckets, upload_id)
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


async def test_an_upload_that_the_store_has_lost_is_begun_anew(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    await _interrupt(api, film, 10 * MIB)
    await _let_go(buckets, await _noted_upload(api, film))
    async for upload in buckets.raw.list_uploads(""):
        await buckets.raw.abort_upload(upload.key, upload.upload_id)
    witness = Witness()

    await _assert_arrived(buckets, await _upload(api, film, witness), film)
    assert witness.began_at[-1] == 0


@pytest.mark.heavy
async def test_an_upload_that_is_dropped_on_the_way_is_begun_anew(
    api: Api, buckets: S3Buckets, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _interrupt(api, film, 9 * MIB)
    upload_id = await _noted_upload(api, film)
    witness = Witness()
    async with _held_elsewhere(buckets, upload_id, monkeypatch):
        uploading = asyncio.create_task(_upload(api, film, witness))
        await during(uploading, witness.told.get())
        await buckets.raw.delete(keys.upload_info(upload_id))

    video_id = await uploading
    await _assert_arrived(buckets, video_id, film)
    assert (video_id != upload_id, witness.began_at[-1]) == (True, 0)


async def test_a_video_that_arrived_unnoticed_is_not_uploaded_twice(api: Api, film: LocalFile) -> None:
    video_id = await _upload(api, film)
    await api.write_note(film.fingerprint, Note(upload_url=address_of(video_id), size_bytes=film.size_bytes))

    assert await _upload(api, film) == video_id


async def test_one_that_was_deleted_since_is_uploaded_again(api: Api, film: LocalFile) -> None:
    video_id = await _upload(api, film)
    await api.delete(video_id)
    await api.write_note(film.fingerprint, Note(upload_url=address_of(video_id), size_bytes=film.size_bytes))

    assert await _upload(api, film) != video_id


async def test_pieces_that_a_browser_has_begun_are_finished_and_put_together(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    cut = 7 * MIB
    addresses = [await _begun_piece(api, length) for length in (cut, film.size_bytes - cut)]
    urls = [f"https://another.example{address}" for address in addresses]
    await api.write_note(film.fingerprint, Note(parallel_upload_urls=urls, size_bytes=film.size_bytes))
    witness = Witness()

    await _assert_arrived(buckets, await _upload(api, film, witness), film)
    assert witness.began_at == [0, cut]


async def _begun_piece(api: Api, length: int) -> str:
    """Begin a piece of a file, as browsers do, and return its address."""
    headers = {**TUS, "upload-length": str(length), "upload-concat": "partial"}
    return (await api.request("POST", UPLOADS, headers=headers)).headers["location"]


async def test_a_file_that_is_no_video_is_refused_and_nothing_of_it_stays(
    api: Api, buckets: S3Buckets, tmp_path: Path
) -> None:
    path = tmp_path / "paper.mp4"
    path.write_bytes(b"%PDF-1.7\n" + bytes(3 * MIB))
    file = examine_file(path)
    before = {info.key async for info in buckets.raw.list_all(keys.UPLOADS)}

    with pytest.raises(Refused, match="looks like a PDF document"):
        await _upload(api, file)

    assert await api.note(file.fingerprint) is None
    assert {info.key async for info in buckets.raw.list_all(keys.UPLOADS)} == before


async def test_pieces_of_a_file_that_is_no_video_are_dropped_even_if_one_is_gone(
    api: Api, buckets: S3Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "paper.mp4"
    path.write_bytes(b"%PDF-1.7\n" + bytes(3 * MIB))
    file = examine_file(path)
    addresses = [await _begun_piece(api, length) for length in (MIB, file.size_bytes - MIB)]
    await api.write_note(file.fingerprint, Note(parallel_upload_urls=addresses, size_bytes=file.size_bytes))
    _interfere(monkeypatch, api, "DELETE", [None, NotThere("There is no such upload.")])

    with pytest.raises(Refused, match="looks like a PDF document"):
        await _upload(api, file)

    assert await api.note(file.fingerprint) is None
    gone, dropped = (address.rpartition("/")[2] for address in addresses)
    left = [info.key async for info in buckets.raw.list_all(keys.UPLOADS)]
    assert [key for key in left if dropped in key] == []
    assert [key for key in left if gone in key] != []


async def test_a_note_that_cannot_be_written_at_once_leaves_no_second_upload_behind(
    api: Api, buckets: S3Buckets, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _interfere(monkeypatch, api, "PUT", [ServerAway("The store is away.")])

    await _assert_arrived(buckets, await _upload(api, film), film)

    assert (asked.count("POST"), asked.count("PUT")) == (1, 2)


async def test_a_server_that_loses_every_upload_is_given_up(
    api: Api, film: LocalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _interfere(monkeypatch, api, "HEAD", repeat(NotThere("There is no such upload.")))

    with pytest.raises(Refused, match="The server loses whatever it is sent"):
        await _upload(api, film)

    assert asked.count("POST") == LOST_AT_MOST


async def test_a_note_that_leads_nowhere_is_replaced(api: Api, buckets: S3Buckets, film: LocalFile) -> None:
    await api.write_note(film.fingerprint, Note(upload_url="http://[", size_bytes=film.size_bytes))

    await _assert_arrived(buckets, await _upload(api, film), film)


def _interfere(
    monkeypatch: pytest.MonkeyPatch, api: Api, method: str, failures: Iterable[Exception | None]
) -> list[str]:
    """Let requests of this method fail, one after the other; return the methods of all, as they are made."""
    made: list[str] = []
    left, request = iter(failures), api.request

    async def instead(asked: str, path: str, **said: Any) -> Answer:
        made.append(asked)
        failure = next(left, None) if asked == method else None
        if failure is not None:
            raise failure
        return await request(asked, path, **said)

    monkeypatch.setattr(api, "request", instead)
    return made


async def test_a_wrong_token_is_no_reason_to_wait(product: Product, film: LocalFile) -> None:
    async with open_api(_settings(product, "another-token-0123456789")) as api:
        with pytest.raises(TokenRefused):
            await _upload(api, film)


async def test_what_is_no_vodbucket_is_called_so(moto_server: StoreServer, film: LocalFile) -> None:
    settings = ClientSettings(
        vodbucket_url=HttpUrl(moto_server.endpoint_url), admin_token=SecretStr(ADMIN_TOKEN)
    )
    async with open_api(settings) as api:
        with pytest.raises((Refused, NotThere)):
            await _upload(api, film)
