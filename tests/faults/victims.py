"""Processes to be killed by a test that watches the proxy: workers and uploads with a light job."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

from backend.core.errors import StoreError
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.settings import StoreSettings
from backend.core.store.retrying import with_retries
from backend.core.store.s3 import open_buckets
from backend.core.uploads.ingest import Description, ingest
from tests.faults.light import LightPipeline
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.loop import work
from worker.run.outcomes import Attempts
from worker.run.poller import Poller

LONG_LEASE_SECONDS = 600.0
"""So long that no victim takes over from another. Workers that take over have a shorter lease."""
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def start_worker(settings: StoreSettings) -> BaseProcess:
    """Start a worker that runs at most one job and ends."""
    return _start(_work_once, settings)


def start_upload(settings: StoreSettings, body: Path, acknowledged: Path) -> BaseProcess:
    """Start an upload as the API does it. The id is written to `acknowledged` once a client would get it."""
    return _start(_upload, settings, body, acknowledged)


def _start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def _work_once(settings: StoreSettings) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        async with open_buckets(settings) as opened:
            buckets = with_retries(opened, 10)
            queue = JobQueue(buckets, owner="victim", lease_seconds=LONG_LEASE_SECONDS)
            runner = JobRunner(
                queue=queue,
                pipeline=LightPipeline(buckets),
                video=buckets.video,
                attempts=Attempts(Heartbeat(LONG_LEASE_SECONDS), max_attempts=100),
                status_every_seconds=0.2,
            )

            async def once(claim: Claim, stop: asyncio.Event) -> None:
                await runner(claim, asyncio.Event())
                stop.set()

            poller = Poller(queue, stop, poll_seconds=0.1, lease_seconds=LONG_LEASE_SECONDS, drain=True)
            await work(poller, once, stop)

    asyncio.run(run())


def _upload(settings: StoreSettings, body: Path, acknowledged: Path) -> None:
    async def run() -> None:
        async with open_buckets(settings) as opened:
            content = body.read_bytes()

            async def chunks() -> AsyncIterator[bytes]:
                for start in range(0, len(content), 1024 * 1024):
                    yield content[start : start + 1024 * 1024]

            with suppress(StoreError):
                video = await ingest(
                    with_retries(opened, 10),
                    chunks(),
                    Description,
                    declared_bytes=len(content),
                    max_bytes=len(content),
                )
                acknowledged.write_text(video.id)

    asyncio.run(run())
