"""The application on in-memory buckets, with a clock that tests set."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.openapi.spec import OpenAPI
from pydantic import SecretStr

from backend.app import create_app
from backend.core import keys
from backend.core.records import CaptionTrack, Chapter, OutputObject, Outputs, SourceFile, Stage, Status
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.web.api_description import complete_description
from tests.lab.asgi import client_of
from tests.lab.memory_store import MemoryStore

TOKEN = "a-token-for-tests-0123456789"
BEARER = {"authorization": f"Bearer {TOKEN}"}
MAX_UPLOAD_BYTES = 1_000_000


@dataclass
class Clock:
    unix: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.unix


@pytest.fixture(scope="session", autouse=True)
def _described_once() -> Iterator[None]:
    """Share the description among all applications at the same path: it takes most of their set-up."""
    described: dict[str, OpenAPI] = {}

    def describe(app: Litestar) -> None:
        config = app.openapi_config
        assert config is not None
        path = config.servers[0].url
        if path in described:
            app.plugins.get(OpenAPIPlugin)._openapi = described[path]
        else:
            complete_description(app)
            described[path] = app.openapi_schema

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.app.complete_description", describe)
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def buckets() -> Buckets:
    return Buckets(raw=MemoryStore(), video=MemoryStore())


@pytest.fixture
def site_dir(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def settings(site_dir: Path) -> ApiSettings:
    return ApiSettings(
        admin_token=SecretStr(TOKEN),
        max_upload_bytes=MAX_UPLOAD_BYTES,
        site_dir=site_dir,
        cors_origins=("https://friend.example",),
    )


@asynccontextmanager
async def api_process(settings: ApiSettings, buckets: Buckets, clock: Clock) -> AsyncIterator[Litestar]:
    """Run one of any number of API processes on these buckets."""

    @asynccontextmanager
    async def opened(_: ApiSettings) -> AsyncIterator[Buckets]:
        yield buckets

    application = create_app(settings, opened, clock)
    ready, done = asyncio.Event(), asyncio.Event()

    async def run_lifespan() -> None:
        async with application.lifespan():
            ready.set()
            await done.wait()

    # One task enters and leaves the lifespan, as in a server. Fixtures may use different tasks.
    lifespan = asyncio.create_task(run_lifespan())
    await ready.wait()
    yield application
    done.set()
    await lifespan


@pytest.fixture
async def app(settings: ApiSettings, buckets: Buckets, clock: Clock) -> AsyncIterator[Litestar]:
    async with api_process(settings, buckets, clock) as application:
        yield application


@pytest.fixture
async def anyone(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    async with client_of(app, "http://vod.example") as client:
        yield client


@pytest.fixture
async def admin(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, "http://vod.example", BEARER) as client:
        yield client


async def upload(client: httpx.AsyncClient, body: bytes = b"a video", **query: str) -> str:
    answer = await client.post("/api/videos", content=body, params=query)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def links_of(
    client: httpx.AsyncClient, video_id: str, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return the video's playback links."""
    answer = await client.get(f"/api/videos/{video_id}/playback", headers=headers)
    assert answer.status_code == 200, answer.text
    links: dict[str, Any] = answer.json()
    return links


async def begin_run(
    buckets: Buckets,
    video_id: str,
    run: str = "r0-0-abc",
    bodies: Mapping[str, bytes] = MappingProxyType({keys.MASTER_PLAYLIST: b"#EXTM3U\n#in progress\n"}),
) -> str:
    """Bring the video to the state after its first segments, and return the run's prefix."""
    prefix = keys.run_prefix(video_id, run)
    for path, body in bodies.items():
        await buckets.video.put(prefix + path, body)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    status = Status.queued(video_id, now).at_stage(Stage.TRANSCODING, now, playable=True, outputs=prefix)
    await buckets.video.put(keys.status(video_id), status.to_json())
    return prefix


async def publish(
    buckets: Buckets,
    video_id: str,
    run: str = "r0-0-abc",
    *,
    request: str | None = None,
    captions: Sequence[CaptionTrack] = (),
    chapters: Sequence[Chapter] = (),
    source: SourceFile | None = None,
    also: Mapping[str, bytes] = MappingProxyType({}),
) -> str:
    """Publish a run with a few objects and those in `also` (by path), and return its prefix."""
    prefix = keys.run_prefix(video_id, run)
    bodies = {
        "hls/master.m3u8": b"#EXTM3U\n",
        "dash/manifest.mpd": b"<MPD/>",
        "hls/av1/00001.m4s": b"segment",
        "download.webm": b"webm",
        "poster.jpg": b"jpeg",
        **also,
    }
    for path, body in bodies.items():
        await buckets.video.put(prefix + path, body)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    outputs = Outputs(
        id=video_id,
        request=request or video_id,
        run=run,
        requested_at=now,
        published_at=now,
        duration_seconds=30,
        qualities=("360p",),
        renditions=(),
        objects=tuple(OutputObject(path=path, size_bytes=len(body)) for path, body in bodies.items()),
        captions=tuple(captions),
        chapters=tuple(chapters),
        source=source,
        encoder="software",
        nonce="n",
    )
    await buckets.video.create(keys.result(video_id, outputs.request), outputs.to_json())
    return prefix


async def add_published(
    admin: httpx.AsyncClient, buckets: Buckets, run: str = "r0-0-abc", **publication: Any
) -> str:
    """Upload a video, publish a run of it as `publish` does, and return the video's ID."""
    video_id = await upload(admin)
    await publish(buckets, video_id, run, **publication)
    return video_id


async def stored_keys(buckets: Buckets) -> list[str]:
    """List every object in both buckets except signing keys and events, and open multipart uploads."""
    found = [info.key async for info in buckets.raw.list_all("")]
    found += [info.key async for info in buckets.video.list_all("")]
    found = [key for key in found if not key.startswith((keys.SIGNING_KEYS, keys.EVENTS))]
    found += [f"open upload {upload.key}" async for upload in buckets.raw.list_uploads("")]
    return found
