"""Resumable uploads through the API on real stores, with parts of their real size."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from urllib.parse import urljoin

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from backend.app import create_app
from backend.core import keys
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.core.store.s3 import S3Buckets, ensure_buckets, open_buckets
from backend.core.uploads.buffers import MIB
from backend.core.uploads.resumable import concatenation
from tests.backend.raw_http import serving
from tests.lab.buckets import store_settings
from tests.lab.embedded import embedded
from tests.lab.missing import missing
from tests.lab.server import ServerMissing

TOKEN = "a-token-for-tests-0123456789"
UPLOADS = "/api/uploads"
TUS = {"tus-resumable": "1.0.0"}
BYTES = {**TUS, "content-type": "application/offset+octet-stream"}
FILM = b"\0\0\0\x18ftypisom" + (bytes(range(251)) * 90_000)[: 21 * MIB - 12]
"""21 MiB: two full parts and a last one of 5 MiB."""


@dataclass(frozen=True)
class Api:
    """The API on these buckets, and a client that is signed in to it."""

    client: httpx.AsyncClient
    buckets: Buckets

    async def create(self, length: int, **headers: str) -> str:
        said = {
            "upload-length": str(length),
            **{key.replace("_", "-"): value for key, value in headers.items()},
        }
        answer = await self.client.post(UPLOADS, headers={**TUS, **said})
        assert answer.status_code == 201, answer.text
        return urljoin(str(answer.url), answer.headers["location"])

    async def patch(self, url: str, offset: int, data: bytes) -> httpx.Response:
        return await self.client.patch(url, headers={**BYTES, "upload-offset": str(offset)}, content=data)

    async def offset(self, url: str) -> int:
        answer = await self.client.head(url, headers=TUS)
        assert answer.status_code == 200
        return int(answer.headers["upload-offset"])

    async def offset_once_unlocked(self, url: str) -> int:
        """Return the upload's offset once the interrupted request has released its lock."""
        for _ in range(100):
            at = await self.offset(url)
            if (await self.patch(url, at, b"")).status_code == 204:
                return at
        raise AssertionError("the upload is still locked")

    async def break_off(self, url: str, offset: int, data: bytes) -> None:
        """Send the data, then drop the connection."""

        async def body() -> AsyncIterator[bytes]:
            yield data
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await self.client.patch(url, headers={**BYTES, "upload-offset": str(offset)}, content=body())

    async def raw_keys(self) -> set[str]:
        found = {info.key async for info in self.buckets.raw.list_all("")}
        return found | {f"open {one.key}" async for one in self.buckets.raw.list_uploads("")}

    async def digest(self, video_id: str) -> str:
        """Read the source as a worker does."""
        digest = hashlib.sha256()
        async for chunk in self.buckets.raw.read(keys.upload(video_id)):
            digest.update(chunk)
        return digest.hexdigest()


@asynccontextmanager
async def api_on(buckets: Buckets) -> AsyncIterator[Api]:
    @asynccontextmanager
    async def opened(_: ApiSettings) -> AsyncIterator[Buckets]:
        yield buckets

    app = create_app(ApiSettings(admin_token=SecretStr(TOKEN)), opened, time)
    async with app.lifespan(), serving(app) as server:
        headers = {"authorization": f"Bearer {TOKEN}"}
        url = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            yield Api(client, buckets)


@pytest.fixture
def _short_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concatenation, "COPY_PART_BYTES", 8 * MIB)


def _done(video_id: str) -> set[str]:
    return {keys.upload(video_id), keys.upload_done(video_id), keys.marker(video_id)}


async def test_an_upload_resumes_on_any_server(served: S3Buckets) -> None:
    cuts = (1, 8 * MIB, 9 * MIB, 20 * MIB + 3)
    async with api_on(served) as first, api_on(served) as second:
        url = httpx.URL(await first.create(len(FILM))).path
        at, apis = 0, [first, second] * len(cuts)
        for api, cut in zip(apis, cuts, strict=False):
            await api.break_off(url, at, FILM[at:cut])
            kept = await api.offset_once_unlocked(url)
            assert at <= kept <= cut
            at = kept
            assert await second.offset(url) == await first.offset(url) == at
        done = await second.patch(url, at, FILM[at:])
        assert (done.status_code, done.headers["upload-offset"]) == (204, str(len(FILM)))
        assert await second.digest(done.headers["video-id"]) == hashlib.sha256(FILM).hexdigest()
        assert await second.raw_keys() == _done(done.headers["video-id"])
        assert await first.offset(url) == len(FILM)


async def test_only_one_of_two_servers_can_append_at_the_same_offset(served: S3Buckets) -> None:
    async with api_on(served) as first, api_on(served) as second:
        url = httpx.URL(await first.create(len(FILM))).path
        answers = await asyncio.gather(first.patch(url, 0, FILM), second.patch(url, 0, FILM))
        assert sorted(answer.status_code for answer in answers)[0] == 204
        assert sorted(answer.status_code for answer in answers)[1] in (409, 423)
        video_id = (await first.client.head(url, headers=TUS)).headers["video-id"]
        assert await second.digest(video_id) == hashlib.sha256(FILM).hexdigest()
        assert await first.raw_keys() == _done(video_id)


@pytest.mark.usefixtures("_short_copies")
async def test_partial_uploads_are_concatenated_within_the_store(served: S3Buckets) -> None:
    async with api_on(served) as api:
        pieces = [FILM[: 12 * MIB], FILM[12 * MIB : 12 * MIB + 5], FILM[12 * MIB + 5 :]]
        urls = []
        for piece in pieces:
            urls.append(await api.create(len(piece), upload_concat="partial"))
            assert (await api.patch(urls[-1], 0, piece)).status_code == 204
        answers = [
            await api.client.post(UPLOADS, headers={**TUS, "upload-concat": f"final;{' '.join(urls)}"})
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [201, 201], answers[0].text
        video_id = answers[0].headers["video-id"]
        assert answers[1].headers["video-id"] == video_id
        assert await api.digest(video_id) == hashlib.sha256(FILM).hexdigest()
        records = {keys.upload_done(url.rpartition("/")[2]) for url in urls}
        assert await api.raw_keys() == _done(video_id) | records


async def test_a_terminated_upload_leaves_nothing(served: S3Buckets) -> None:
    async with api_on(served) as api:
        url = await api.create(len(FILM))
        assert (await api.patch(url, 0, FILM[: 9 * MIB])).status_code == 204
        assert (await api.client.delete(url, headers=TUS)).status_code == 204
        assert (await api.client.head(url, headers=TUS)).status_code == 404
        assert await api.raw_keys() == set()


@pytest.mark.heavy
async def test_uploads_resume_after_the_embedded_store_restarts(tmp_path: Path) -> None:
    try:
        with embedded(tmp_path) as server:
            settings = store_settings(server)
            async with open_buckets(settings) as buckets:
                await ensure_buckets(buckets)
                async with api_on(buckets) as api:
                    url = httpx.URL(await api.create(len(FILM))).path
                    small = httpx.URL(await api.create(len(FILM))).path
                    await api.patch(url, 0, FILM[: 9 * MIB])
                    await api.patch(small, 0, FILM[:MIB])
    except ServerMissing as error:
        missing(str(error))
    with embedded(tmp_path) as again:
        settings = settings.model_copy(update={"s3_endpoint_url": HttpUrl(again.endpoint_url)})
        async with open_buckets(settings) as buckets, api_on(buckets) as api:
            assert await api.offset(url) == 9 * MIB
            assert (await api.patch(url, 9 * MIB, FILM[9 * MIB :])).status_code == 204
            assert await api.offset(small) == MIB
            assert (await api.patch(small, MIB, FILM[MIB:])).status_code == 204
