"""One claimed job from start to end: transcode while renewing the lease, then publish, release or fail it.

Every outcome of a job is handled here. The pipeline raises what happened; this module decides what that means
for the queue. No exception leaves it: a broken job must not take the worker down.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from backend.core.backoff import Backoff
from backend.core.concurrency import run_guarded
from backend.core.errors import (
    AttemptFailed,
    JobFailure,
    LeaseLost,
    MachineFault,
    SourceRejected,
    StoreError,
    VideoDeleted,
)
from backend.core.jobs.interface import VideoJobs
from backend.core.jobs.leases import Claim
from backend.core.records import Job, Outputs, StatusError
from backend.core.store.interface import Store
from worker.run.heartbeat import Heartbeat, StopRequested, until_stopped
from worker.run.status import StatusWriter
from worker.transcode.progress import Progress
from worker.transcode.transcoder import Transcoded

log = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS = 5.0
RETRIES = Backoff(FIRST_RETRY_SECONDS, longest_seconds=600, jitter=0)
MAX_OUTAGES = 50
"""Attempts that the store or a worker's machine may end, over about eight hours, before the job fails."""


class Pipeline(Protocol):
    """Turns a source into outputs: `worker.transcode.transcoder.Transcoder`, or a test double."""

    async def run(self, job: Job, run: str, report: Callable[[Progress], None]) -> Transcoded:
        """Write the outputs of a run. Raises: SourceRejected, AttemptFailed, MachineFault, StoreError."""
        ...


class Dividing(Protocol):
    """Divides jobs, or joins their units: `worker.units.division.Division`, or a test double."""

    async def run(
        self, claim: Claim, report: Callable[[Progress], None]
    ) -> Transcoded | Callable[[], Awaitable[None]]:
        """Return outputs, or how to give the job back. Raises: as `Pipeline.run`."""
        ...


async def trust_the_machine(error: Exception) -> None:
    return


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Handles claims for `worker.run.loop.work`."""

    queue: VideoJobs
    pipeline: Pipeline
    video: Store
    lease_seconds: float
    max_attempts: int
    patience_seconds: float = 0
    """How long the pipeline waits out a store outage; the lease is kept for as long."""
    status_every_seconds: float = 2.0
    examine: Callable[[Exception], Awaitable[None]] = trust_the_machine
    """Is called with each failure of the pipeline. Raises MachineFault if this machine is its cause."""
    division: Dividing | None = None
    """None: the pipeline does every job as a whole."""

    async def __call__(self, claim: Claim, stop: asyncio.Event) -> None:
        """Run one job to its end. Never raises, except when cancelled."""
        with structlog.contextvars.bound_contextvars(
            video=claim.lease.job.id, request=claim.request, attempt=claim.lease.attempt
        ):
            try:
                await self._run(claim, stop)
            except Exception as error:  # must not end the worker; the lease expires and the job is retried
                log.exception("job_abandoned", error=str(error))

    async def _run(self, claim: Claim, stop: asyncio.Event) -> None:
        if claim.lease.attempt > self.max_attempts:
            await self._fail(claim, JobFailure(claim.lease.last_error, code="worker_crashed"), stop)
            return
        status = StatusWriter(self.video, claim, write_every_seconds=self.status_every_seconds)
        log.info("job_started", run=claim.lease.run, generation=claim.generation)
        try:
            transcoded = await self._transcode(claim, stop, status)
            if not isinstance(transcoded, Transcoded):
                await self._insist(claim, transcoded, stop)
                return
            won = await self.queue.publish(claim, _outputs(claim, transcoded))
            log.info("job_published", won=won, qualities=transcoded.qualities)
        except LeaseLost:
            log.warning("lease_lost")
            await self.queue.clean_up_lost(claim)
        except VideoDeleted:
            log.info("video_deleted")
            await self.queue.discard_deleted(claim)
        except StopRequested:
            await self._release(claim, status, stop, claim.lease.attempt)
        except SourceRejected as error:
            await self._fail(claim, error, stop)
        except AttemptFailed as error:
            await self._retry(claim, status, error, stop)
        except (MachineFault, StoreError) as error:
            await self._hand_back(claim, status, error, stop)
        except Exception as error:  # a bug: log the traceback and give the job its other attempts
            log.exception("job_broke")
            failure = AttemptFailed(f"Internal error ({type(error).__name__}).")
            await self._retry(claim, status, failure, stop)

    async def _transcode(
        self, claim: Claim, stop: asyncio.Event, status: StatusWriter
    ) -> Transcoded | Callable[[], Awaitable[None]]:
        """Run the pipeline until it ends, the lease is lost, the video is deleted or the worker stops."""
        writing = asyncio.create_task(status.keep_writing())
        try:
            return await run_guarded(
                self._attempt(claim, status),
                self._heartbeat.keep(lambda: self.queue.renew(claim)),
                until_stopped(stop),
            )
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _attempt(
        self, claim: Claim, status: StatusWriter
    ) -> Transcoded | Callable[[], Awaitable[None]]:
        try:
            if self.division is not None:
                return await self.division.run(claim, status.report)
            return await self.pipeline.run(claim.lease.job, claim.lease.run, status.report)
        except Exception as error:  # of any kind: the machine may be its cause
            await self.examine(error)
            raise

    async def _retry(
        self, claim: Claim, status: StatusWriter, error: JobFailure, stop: asyncio.Event
    ) -> None:
        attempt = claim.lease.attempt
        if attempt >= self.max_attempts:
            await self._fail(claim, error, stop)
            return
        pause = RETRIES.pause_seconds(attempt)
        log.warning("attempt_failed", error=error.message, retry_after_seconds=pause)
        await self._release(claim, status, stop, attempt + 1, pause, error.message)

    async def _hand_back(
        self, claim: Claim, status: StatusWriter, error: MachineFault | StoreError, stop: asyncio.Event
    ) -> None:
        """Release the job without counting the attempt: the store or this machine failed, not the video."""
        outages = claim.lease.outages + 1
        if outages > MAX_OUTAGES:
            await self._fail(claim, error, stop)
            return
        pause = RETRIES.pause_seconds(outages)
        log.warning("job_handed_back", code=error.code, error=error.message, retry_after_seconds=pause)
        await self._release(claim, status, stop, claim.lease.attempt, pause, error.message, outage=True)

    async def _release(
        self,
        claim: Claim,
        status: StatusWriter,
        stop: asyncio.Event,
        attempt: int,
        retry_after_seconds: float = 0,
        error: str | None = None,
        *,
        outage: bool = False,
    ) -> None:
        """Let the job be tried again, and delete what this run wrote."""

        async def release() -> None:
            with suppress(LeaseLost):
                await self.queue.check(claim)
                if claim.lease.plan is None:  # else the look stays, and so does the work done so far
                    await status.write_waiting(attempt)
                await self.queue.release(
                    claim, retry_after_seconds=retry_after_seconds, error=error, outage=outage
                )

        if not await self._insist(claim, release, stop):
            return
        log.info("job_released")
        try:
            await self.queue.discard_run(claim)
        except StoreError as failure:  # the worker that ends the request deletes it
            log.warning("run_not_discarded", run=claim.lease.run, error=failure.message)

    async def _insist(self, claim: Claim, end: Callable[[], Awaitable[None]], stop: asyncio.Event) -> bool:
        """Repeat `end` until it succeeds or another worker has the job. False: this one had to stop."""
        return await self._heartbeat.insist(end, lambda: self.queue.hold(claim), stop)

    @property
    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(self.lease_seconds, self.patience_seconds)

    async def _fail(
        self, claim: Claim, error: MachineFault | StoreError | JobFailure, stop: asyncio.Event
    ) -> None:
        code = error.failure_code if isinstance(error, JobFailure) else error.code
        log.warning("job_failed", code=code, error=error.message)

        async def bury() -> None:
            with suppress(LeaseLost):
                await self.queue.bury(claim, StatusError(code=code, message=error.message))

        await self._insist(claim, bury, stop)


def _outputs(claim: Claim, transcoded: Transcoded) -> Outputs:
    job, fallback = claim.lease.job, transcoded.fallback
    return Outputs(
        id=job.id,
        request=job.request,
        run=fallback.run if fallback else claim.lease.run,
        requested_at=job.created_at,
        published_at=datetime.now(UTC),
        duration_seconds=transcoded.duration_seconds,
        qualities=transcoded.qualities,
        renditions=transcoded.renditions,
        objects=transcoded.objects,
        captions=transcoded.captions,
        chapters=transcoded.chapters,
        source=transcoded.source,
        encoder=transcoded.encoder,
        encoder_fallback=fallback.reason if fallback else None,
        attempt=claim.lease.attempt,
    )
