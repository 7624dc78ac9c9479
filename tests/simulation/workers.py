"""A worker: the product's job runner and queue.

What `asyncio` does in the product (tasks side by side, time-outs, cancellation) is done here by the
scheduler's `Race`, `Together` and `Rest`; all else is the product's code.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from backend.core import keys
from backend.core.errors import (
    STORE_AWAY,
    AttemptFailed,
    LeaseLost,
    MachineFault,
    ObjectNotFound,
    SourceRejected,
    StoreError,
    StoreUnavailable,
    VodbucketError,
)
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import QueueSnapshot
from backend.core.records import Job, OutputObject
from tests.simulation.invariants import output_body
from tests.simulation.scheduler import Process, Race, Rest, Stopped, Together, time_out
from tests.simulation.stage import Stage
from worker.encode.video_encoders import SOFTWARE
from worker.run.heartbeat import (
    HEARTBEAT_RETRY_SECONDS,
    HEARTBEATS_PER_LEASE,
    RELEASE_RETRY_SECONDS,
    StopRequested,
)
from worker.run.job import JobRunner
from worker.run.poller import SNAPSHOT_SECONDS
from worker.run.status import StatusWriter
from worker.transcode.fallback import Fallback
from worker.transcode.progress import Progress
from worker.transcode.transcoder import Transcoded

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
CALLS_RIDDEN_OUT = 3
OUTPUTS = ("hls/master.m3u8", "media/1.m4s")


@dataclass(frozen=True, slots=True)
class Runner(JobRunner):
    """The product's job runner. Only what needs an event loop is replaced."""

    stage: Stage | None = None
    process: Process | None = None

    async def _transcode(self, claim: Claim, stop: asyncio.Event, status: StatusWriter) -> Transcoded:
        lease = claim.lease
        transcoded: Transcoded = await Race(
            (
                self.pipeline.run(lease.job, lease.run, status.report),
                self._keep_lease(claim),
                _until_stopped(),
                self._write_status(status),
            )
        )
        return transcoded

    async def _keep_lease(self, claim: Claim) -> None:
        assert self.stage is not None
        interval = self.lease_seconds / HEARTBEATS_PER_LEASE
        renewed, pause = self.stage.scheduler.now, interval
        while True:
            await Rest(pause)
            sent, pause = self.stage.scheduler.now, interval
            try:
                await Race((self.queue.renew(claim), time_out(interval)))
                renewed = sent
            except (StoreError, TimeoutError) as error:
                pause = HEARTBEAT_RETRY_SECONDS
                if self.stage.scheduler.now - renewed >= self.lease_seconds + self.patience_seconds:
                    raise StoreUnavailable from error

    async def _insist(self, claim: Claim, end: Callable[[], Awaitable[None]], stop: asyncio.Event) -> bool:
        assert self.process is not None
        interval = self.lease_seconds / HEARTBEATS_PER_LEASE
        while True:
            with suppress(*STORE_AWAY, TimeoutError):
                await Race((end(), time_out(interval)))
                return True
            if self.process.stopping:
                return False
            with suppress(*STORE_AWAY, TimeoutError, LeaseLost):
                await Race((self.queue.hold(claim), time_out(interval)))
            await Rest(RELEASE_RETRY_SECONDS)

    async def _write_status(self, status: StatusWriter) -> None:
        while True:
            with suppress(StoreError):
                await status.write()
            await Rest(self.status_every_seconds)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Replaces the transcoder: reads the source, then writes and verifies a run's objects. It may fail.

    Half of the failures count as hardware failures: the attempt starts over in a second run.
    """

    stage: Stage

    async def run(self, job: Job, run: str, report: Callable[[Progress], None]) -> Transcoded:
        try:
            return await self._encode(job, run)
        except AttemptFailed as error:
            if self.stage.rng.random() < 0.5:
                raise
            fallback = Fallback(SOFTWARE, keys.fallback_run(run), error.message)
        return replace(await self._encode(job, fallback.run), fallback=fallback)

    async def _encode(self, job: Job, run: str) -> Transcoded:
        rng, plan, video = self.stage.rng, self.stage.plan, self.stage.buckets.video
        try:
            await _ride_out(lambda: self.stage.buckets.raw.head(job.source))
        except ObjectNotFound:
            raise AttemptFailed("The source is gone.") from None
        prefix = keys.run_prefix(job.id, run)
        for path in OUTPUTS:
            await Rest(rng.choice((0, 3, 30)))
            if rng.random() < plan.failure_rate:
                raise rng.choice((SourceRejected, MachineFault, AttemptFailed, AttemptFailed, AttemptFailed))
            write = self._in_parts if rng.random() < 0.15 else video.put
            await _ride_out(partial(write, prefix + path, output_body(run, path)))
        objects = tuple(
            OutputObject(path=path, size_bytes=len(output_body(run, path))) for path in sorted(OUTPUTS)
        )
        stored = [(info.key, info.size_bytes) async for info in video.list_all(prefix)]
        if stored != [(prefix + one.path, one.size_bytes) for one in objects]:
            raise AttemptFailed("Outputs are missing.")
        return Transcoded(
            duration_seconds=1, qualities=("360p",), renditions=(), objects=objects, encoder="simulated"
        )

    async def _in_parts(self, key: str, body: bytes) -> None:
        video = self.stage.buckets.video
        upload_id = await video.open_upload(key)
        part = await video.put_part(key, upload_id, 1, body)
        await video.complete_upload(key, upload_id, [part])


async def _ride_out(call: Callable[[], Awaitable[object]]) -> None:
    """Retry a failed call, as the pipeline does."""
    for _ in range(CALLS_RIDDEN_OUT):
        with suppress(StoreUnavailable):
            await call()
            return
        await Rest(HEARTBEAT_RETRY_SECONDS)
    await call()


class Poller:
    """Shares one snapshot of the queue between the slots of a worker, as `worker.run.poller` does."""

    def __init__(self, stage: Stage, queue: JobQueue) -> None:
        self._stage = stage
        self._queue = queue
        self._snapshot: QueueSnapshot | None = None
        self._polled_at = 0.0

    async def claim(self) -> Claim | None:
        """Raises: NothingLeft: there will be no more faults, and the queue is empty."""
        scheduler = self._stage.scheduler
        snapshot = self._snapshot
        if snapshot is None or snapshot.is_used_up or scheduler.now - self._polled_at > SNAPSHOT_SECONDS:
            self._snapshot = None
            snapshot = await self._queue.poll()
            self._snapshot, self._polled_at = snapshot, scheduler.now
            if snapshot.is_empty and scheduler.faults.over:
                raise NothingLeft
        return await self._queue.claim(snapshot, silent_too=self._stage.rng.random() < 0.9)


class NothingLeft(Exception):
    pass


async def work(stage: Stage, process: Process) -> None:
    """Behave like `worker.run.loop` until asked to stop or until nothing is left."""
    queue = stage.queue(process)
    runner = Runner(
        queue,
        Pipeline(stage),
        stage.buckets.video,
        lease_seconds=stage.plan.lease_seconds,
        max_attempts=stage.plan.max_attempts,
        patience_seconds=stage.plan.patience_seconds,
        status_every_seconds=20,
        stage=stage,
        process=process,
    )
    poller = Poller(stage, queue)
    await Together(tuple(_slot(poller, runner, process) for _ in range(stage.plan.slots)))


async def _slot(poller: Poller, runner: Runner, process: Process) -> None:
    stop = asyncio.Event()
    pause = FIRST_PAUSE_SECONDS
    while not process.stopping:
        try:
            claim = await poller.claim()
        except NothingLeft:
            return
        except StoreError:
            claim = None
        if claim is None:
            await Rest(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        else:
            pause = FIRST_PAUSE_SECONDS
            with suppress(VodbucketError):  # JobRunner logs it; the lease runs out
                await runner._run(claim, stop)


async def _until_stopped() -> None:
    await Stopped()
    raise StopRequested
