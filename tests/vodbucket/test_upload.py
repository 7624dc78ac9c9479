"""Uploads of the command line to an API process: interrupted anywhere, and gone on with from anywhere."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from pydantic import HttpUrl, SecretStr

from backend.core import keys
from backend.core.s3 import S3Buckets, open_buckets
from backend.core.settings import ClientSettings
from tests.lab.checker import store_settings
from tests.lab.product import ADMIN_TOKEN, Product, stop
from tests.lab.server import StoreServer
from vodbucket.answers import Note
from vodbucket.api import Api, open_api
from vodbucket.errors import NotThere, Refused, ServerAway, TokenRefused
from vodbucket.files import LocalFile, examine_file
from vodbucket.patience import Patience
from vodbucket.tus import UPLOADS, TusClient, address_of
from vodbucket.upload import FileUpload

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
    await enough.wait()
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
    said = [await witness.told.get() for _ in range(2)]
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
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    await _interrupt(api, film, 9 * MIB)
    upload_id = await _noted_upload(api, film)
    witness = Witness()
    async with _sending_slowly(api, upload_id, film):
        uploading = asyncio.create_task(_upload(api, film, witness))
        said = await witness.told.get()

    await _assert_arrived(buckets, await uploading, film)
    assert said.startswith("Another request is sending this upload; try again in a moment. Trying again in ")


@asynccontextmanager
async def _sending_slowly(api: Api, upload_id: str, film: LocalFile) -> AsyncIterator[None]:
    """Send the upload byte by byte while the block lasts; then the connection breaks."""
    at = (await TusClient(api).look(upload_id)).offset
    data = film.path.read_bytes()[at:]
    begun = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        for place in range(len(data)):
            yield data[place : place + 1]
            if place > 5:
                begun.set()
            await asyncio.sleep(0.05)

    headers = {**TUS, "upload-offset": str(at), "content-type": "application/offset+octet-stream"}
    url = f"{api.url}{UPLOADS}/{upload_id}"
    token = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    async with aiohttp.ClientSession(headers=token) as session:
        sending = asyncio.create_task(
            session.patch(url, data=drip(), headers={**headers, "content-length": str(len(data))})
        )
        await begun.wait()
        yield
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


async def test_an_upload_that_the_store_has_lost_is_begun_anew(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    await _interrupt(api, film, 10 * MIB)
    await TusClient(api).look(await _noted_upload(api, film))  # by then the server has stored what came
    async for upload in buckets.raw.list_uploads(""):
        await buckets.raw.abort_upload(upload.key, upload.upload_id)
    witness = Witness()

    await _assert_arrived(buckets, await _upload(api, film, witness), film)
    assert witness.began_at[-1] == 0


@pytest.mark.heavy
async def test_an_upload_that_is_dropped_on_the_way_is_begun_anew(
    api: Api, buckets: S3Buckets, film: LocalFile
) -> None:
    await _interrupt(api, film, 9 * MIB)
    upload_id = await _noted_upload(api, film)
    witness = Witness()
    async with _sending_slowly(api, upload_id, film):
        uploading = asyncio.create_task(_upload(api, film, witness))
        await witness.told.get()
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await TusClient(api).terminate(upload_id)
                break
            except ServerAway:
                continue

    await _assert_arrived(buckets, await uploading, film)


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
    addresses = []
    for length in (cut, film.size_bytes - cut):
        headers = {**TUS, "upload-length": str(length), "upload-concat": "partial"}
        addresses.append((await api.request("POST", UPLOADS, headers=headers)).headers["location"])
    urls = [f"https://another.example{address}" for address in addresses]
    await api.write_note(film.fingerprint, Note(parallel_upload_urls=urls, size_bytes=film.size_bytes))
    witness = Witness()

    await _assert_arrived(buckets, await _upload(api, film, witness), film)
    assert witness.began_at == [0, cut]


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
