"""One installation in this process: the API and a worker reach the store through the fault proxy."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pydantic import SecretStr

from backend.app import create_app
from backend.core import keys
from backend.core.jobs.job_queue import JobQueue
from backend.core.records import Outcome, Outputs, read_outcome
from backend.core.settings import ApiSettings, StoreSettings
from backend.core.store.interface import Buckets
from backend.core.store.retrying import with_retries
from backend.core.store.s3 import S3Buckets, ensure_buckets, open_buckets
from tests.faults.light import LightPipeline
from tests.lab.asgi import client_of
from tests.lab.checker import check_at_rest
from tests.lab.proxy import FaultProxy
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner, Pipeline
from worker.run.loop import serve
from worker.run.outcomes import Attempts
from worker.run.poller import Poller

TOKEN = "a-token-for-tests-0123456789"
MIB = 1024 * 1024
LEASE_SECONDS = 30.0
DRAIN_SECONDS = 180.0


def fresh_settings(settings: StoreSettings) -> StoreSettings:
    """Return the settings with names of unused buckets."""
    name = uuid.uuid4().hex
    return settings.model_copy(update={"s3_raw_bucket": f"raw-{name}", "s3_video_bucket": f"video-{name}"})


def film(size_bytes: int, seed: int = 0) -> bytes:
    """Return random bytes, for tests that do not decode the video."""
    return random.Random(seed).randbytes(size_bytes)


@dataclass
class WireLab:
    """`through` reaches the store through the proxy, `direct` does not."""

    proxy: FaultProxy
    through: StoreSettings
    direct: StoreSettings
    pipelines: list[LightPipeline] = field(default_factory=list)

    async def with_buckets_of_its_own(self) -> "WireLab":
        """Return another installation behind the same proxy."""
        direct = fresh_settings(self.direct)
        async with open_buckets(direct) as buckets:
            await ensure_buckets(buckets)
        return WireLab(
            self.proxy, direct.model_copy(update={"s3_endpoint_url": self.through.s3_endpoint_url}), direct
        )

    @asynccontextmanager
    async def api(self, *, patience_seconds: float = 75) -> AsyncIterator[httpx.AsyncClient]:
        """Yield a client of the API, signed in."""
        store = self.through.model_copy(update={"store_patience_seconds": patience_seconds})
        settings = ApiSettings(**store.model_dump(), admin_token=SecretStr(TOKEN), site_dir=Path("no-site"))
        app = create_app(settings, open_buckets)
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with app.lifespan(), client_of(app, "http://vod", headers) as client:
            yield client

    async def upload(self, body: bytes) -> str:
        """Upload and return the video's id. Fail the test if the upload is not acknowledged."""
        answer = await self.try_upload(body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def try_upload(self, body: bytes, *, patience_seconds: float = 75) -> httpx.Response:
        async with self.api(patience_seconds=patience_seconds) as client:
            return await client.post(
                "/api/videos",
                params={"filename": "film.mp4"},
                headers={"content-length": str(len(body))},
                content=_pieces(body),
            )

    async def drain(
        self,
        *,
        lease_seconds: float = LEASE_SECONDS,
        patience_seconds: float = 75,
        max_attempts: int = 3,
        seconds_per_segment: float = 0,
        seconds: float = DRAIN_SECONDS,
    ) -> None:
        """Run a worker until no job waits or runs."""
        async with open_buckets(self.through) as opened, asyncio.timeout(seconds):
            buckets = with_retries(opened, patience_seconds)
            pipeline = LightPipeline(buckets, seconds_per_segment=seconds_per_segment)
            self.pipelines.append(pipeline)
            await run_worker(
                buckets,
                pipeline,
                lease_seconds=lease_seconds,
                max_attempts=max_attempts,
                patience_seconds=patience_seconds,
            )

    async def hand_back(self) -> None:
        """Claim the waiting job and release it, as a stopped worker does."""
        async with open_buckets(self.through) as opened, asyncio.timeout(DRAIN_SECONDS):
            queue = JobQueue(
                with_retries(opened, DRAIN_SECONDS), owner="stopped", lease_seconds=LEASE_SECONDS
            )
            claim = None
            while claim is None:
                claim = await queue.claim(await queue.poll())
            await queue.release(claim, retry_after_seconds=0)

    @property
    def attempts(self) -> int:
        """How many times a pipeline was started."""
        return sum(len(pipeline.runs) for pipeline in self.pipelines)

    @asynccontextmanager
    async def buckets(self) -> AsyncIterator[S3Buckets]:
        """Open the buckets through the proxy."""
        async with open_buckets(self.through) as buckets:
            yield buckets

    @asynccontextmanager
    async def store(self) -> AsyncIterator[S3Buckets]:
        """Open the buckets on the store itself, past the proxy."""
        async with open_buckets(self.direct) as buckets:
            yield buckets

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload of a source, past the proxy. For rules, which have no event loop."""

        async def abort() -> None:
            async with self.store() as buckets:
                await buckets.raw.abort_upload(key, upload_id)

        _apart(abort())

    async def abort_forgotten_uploads(self) -> None:
        """Abort multipart uploads that no record mentions, as lifecycle rules and the sweeper do later."""
        async with self.store() as buckets:
            for store in (buckets.raw, buckets.video):
                async for upload in store.list_uploads(""):
                    await store.abort_upload(upload.key, upload.upload_id)

    async def until_the_store_is_back(self) -> None:
        async with open_buckets(self.through) as opened:
            await with_retries(opened, 30).raw.list_page("", limit=1)

    async def done(self) -> set[str]:
        """Return the videos that have an outcome."""
        async with self.store() as buckets:
            listed = [info.key async for info in buckets.video.list_all(keys.VIDEOS)]
        return {key.split("/")[1] for key in listed if key.split("/")[2] == "results"}

    @asynccontextmanager
    async def player(self) -> AsyncIterator[httpx.AsyncClient]:
        """Yield a client without credentials."""
        async with httpx.AsyncClient(trust_env=False) as client:
            yield client

    def put_source(self, video_id: str, body: bytes) -> None:
        """Replace a source, past the proxy. For rules, which have no event loop."""

        async def put() -> None:
            async with self.store() as buckets:
                await buckets.raw.put(keys.upload(video_id), body)

        _apart(put())

    def delete_source(self, video_id: str) -> None:
        async def delete() -> None:
            async with self.store() as buckets:
                await buckets.raw.delete(keys.upload(video_id))

        _apart(delete())

    def be_away(self, seconds: float) -> None:
        """Refuse connections for this long, from now on."""
        self.proxy.refuse(seconds)

    async def outcome(self, video_id: str) -> Outcome:
        async with self.store() as buckets:
            stored = await buckets.video.get(keys.result(video_id, keys.request_name(video_id)))
        return read_outcome(stored.body)

    async def assert_source_is(self, video_id: str, body: bytes) -> None:
        async with self.store() as buckets:
            stored = await buckets.raw.get(keys.upload(video_id))
        assert _digest(stored.body) == _digest(body)

    async def assert_segments_are(self, video_id: str, body: bytes) -> None:
        """Assert that the published segments, joined in order, equal the source."""
        outcome = await self.outcome(video_id)
        assert isinstance(outcome, Outputs), outcome
        prefix = keys.run_prefix(video_id, outcome.run)
        paths = [one.path for one in outcome.objects if one.path.startswith("media/")]
        async with self.store() as buckets:
            ordered = sorted(paths, key=lambda path: int(path.removeprefix("media/1/").removesuffix(".m4s")))
            segments = [(await buckets.video.get(prefix + path)).body for path in ordered]
        assert _digest(b"".join(segments)) == _digest(body)

    async def assert_done(self, *videos: tuple[str, bytes], attempt: int | None = None) -> None:
        """Assert that exactly these videos are published with these bytes, and that nothing else is left."""
        self.proxy.forget()
        async with self.store() as buckets:
            for video_id, body in videos:
                outcome = await self.outcome(video_id)
                assert isinstance(outcome, Outputs), outcome
                download = keys.run_prefix(video_id, outcome.run) + keys.DOWNLOAD
                assert _digest((await buckets.video.get(download)).body) == _digest(body)
                assert attempt is None or outcome.attempt == attempt
        await check_at_rest(self.direct, done={video_id for video_id, _ in videos})

    async def assert_failed(self, video_id: str) -> None:
        """Assert that only this failed video and its source are left."""
        self.proxy.forget()
        await check_at_rest(self.direct, done=set(), failed={video_id})

    async def assert_nothing_is_left(self) -> None:
        self.proxy.forget()
        await check_at_rest(self.direct, done=set())


async def run_worker(
    buckets: Buckets,
    pipeline: Pipeline,
    *,
    lease_seconds: float = LEASE_SECONDS,
    max_attempts: int = 3,
    patience_seconds: float = 75,
) -> None:
    """Work until the queue is empty."""
    queue = JobQueue(buckets, owner="worker", lease_seconds=lease_seconds)
    runner = JobRunner(
        queue=queue,
        pipeline=pipeline,
        video=buckets.video,
        attempts=Attempts(Heartbeat(lease_seconds, patience_seconds), max_attempts),
        status_every_seconds=0.5,
    )
    stop = asyncio.Event()
    poller = Poller(queue, stop, poll_seconds=0.2, lease_seconds=lease_seconds, drain=True)
    await serve(poller, queue.claim, runner, stop)


def _apart(work: Coroutine[None, None, None]) -> None:
    """Run this to its end on its own loop and thread, so that it works with and without a running loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), MIB):
        yield body[start : start + MIB]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
