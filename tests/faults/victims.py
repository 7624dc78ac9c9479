"""Processes to be killed that start at once: workers and uploads with a light job, and whole workers."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import worker.__main__
from backend.core.errors import StoreError
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.settings import StoreSettings
from backend.core.store.retrying import with_retries
from backend.core.store.s3 import open_buckets
from backend.core.uploads.ingest import Description, ingest
from tests.faults.light import LightPipeline
from worker.encode import ladder
from worker.encode.video_encoders import SOFTWARE, Encoders
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.loop import serve
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


class Worker:
    """The product's worker, as `Popen` would start it, with two differences: it divides even the smallest
    film, and does not try out encoders before it begins."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        log.touch()
        self.log = log
        self._process = _start(_work, environment, log)
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return self._process.exitcode


def _start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def _work(environment: Mapping[str, str], log: Path) -> None:
    async def choose(*_: object, **__: object) -> Encoders:
        return SOFTWARE

    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["worker"]
    ladder.SMALL_PIXELS = 0
    worker.__main__.choose_encoders = choose
    sys.exit(worker.__main__.main())


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
            await serve(poller, queue.claim, once, stop)

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
