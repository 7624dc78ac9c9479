"""One claimed job from start to end: transcode beside heartbeat and status, then publish, release or give up.

All outcomes of a job meet here. The pipeline raises what happened; this module decides what it means for the
queue. It never lets an exception out: a job that breaks must not take the worker with it.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from backend.core.backoff import Backoff
from backend.core.concurrency import sleep_unless_set
from backend.core.errors import (
    AttemptFailed,
    JobFailure,
    LeaseLost,
    SourceRejected,
    StoreError,
    StoreUnavailable,
    VideoDeleted,
)
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.records import Job, Outputs, StatusError
from backend.core.store.interface import Store
from worker.run.status import StatusBoard
from worker.transcode.transcoder import Progress, Transcoded

log = structlog.get_logger(__name__)

HEARTBEATS_PER_LEASE = 3
HEARTBEAT_RETRY_SECONDS = 1.0
FIRST_RETRY_SECONDS = 5.0
RETRIES = Backoff(FIRST_RETRY_SECONDS, longest_seconds=600, jitter=0)
OUTAGES_ALLOWED = 50
"""Attempts that the store may end, in about eight hours, before it is taken for more than an outage."""
HAND_BACK_EVERY_SECONDS = 5.0
LET_GO_SECONDS = 10.0
"""How long a worker that is to stop tries to hand its job back; else the lease runs out by itself."""


class Pipeline(Protocol):
    """What turns a source into outputs: `worker.transcode.transcoder.Transcoder`, or a stand-in of a test."""

    async def run(self, job: Job, run: str, report: Callable[[Progress], None]) -> Transcoded:
        """Write the run's outputs. Raises: SourceRejected, AttemptFailed, StoreError."""
        ...


class StopRequested(Exception):
    """The worker is asked to stop."""


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Handles claims for `worker.run.loop.work`."""

    queue: JobQueue
    pipeline: Pipeline
    video: Store
    lease_seconds: float
    max_attempts: int
    patience_seconds: float = 0
    """How long the pipeline rides out a store that is away; the lease is held on to for as long."""
    status_every_seconds: float = 2.0

    async def __call__(self, claim: Claim, stop: asyncio.Event) -> None:
        """Run one job to its end. Never raises, but for cancellation."""
        with structlog.contextvars.bound_contextvars(
            video=claim.lease.job.id, request=claim.request, attempt=claim.lease.attempt
        ):
            try:
                await self._run(claim, stop)
            except Exception as error:  # one job must not end the worker; its lease expires and is retried
                log.exception("job_abandoned", error=str(error))

    async def _run(self, claim: Claim, stop: asyncio.Event) -> None:
        if claim.lease.attempt > self.max_attempts:
            await self._give_up(claim, JobFailure(claim.lease.last_error, code="worker_crashed"))
            return
        board = StatusBoard(self.video, claim, write_every_seconds=self.status_every_seconds)
        log.info("job_started", run=claim.lease.run, generation=claim.generation)
        try:
            transcoded = await self._transcode(claim, stop, board)
            won = await self.queue.publish(claim, _outputs(claim, transcoded))
            log.info("job_published", won=won, qualities=transcoded.qualities)
        except LeaseLost:
            log.warning("lease_lost")
            await self.queue.clean_up_lost(claim)
        except VideoDeleted:
            log.info("video_deleted")
            await self.queue.discard_deleted(claim)
        except StopRequested:
            await self._let_go(claim, board)
        except SourceRejected as error:
            await self._give_up(claim, error)
        except AttemptFailed as error:
            await self._retry(claim, board, error)
        except StoreError as error:
            await self._retry_after_outage(claim, board, error, stop)
        except Exception as error:  # a fault of ours: keep the trace, give the job its other attempts
            log.exception("job_broke")
            await self._retry(claim, board, AttemptFailed(f"Internal error ({type(error).__name__})."))

    async def _transcode(self, claim: Claim, stop: asyncio.Event, board: StatusBoard) -> Transcoded:
        """Run the pipeline until it ends, the lease is lost, the video is deleted or the worker must stop."""
        lease = claim.lease
        pipeline = asyncio.create_task(self.pipeline.run(lease.job, lease.run, board.report))
        guards = (asyncio.create_task(self._keep_lease(claim)), asyncio.create_task(_until_stopped(stop)))
        writer = asyncio.create_task(board.keep_writing())
        try:
            ended, _ = await asyncio.wait({pipeline, *guards}, return_when=asyncio.FIRST_COMPLETED)
            if pipeline not in ended:
                await next(iter(ended))  # raises why
            return await pipeline
        finally:
            for task in (pipeline, *guards, writer):
                task.cancel()
            await asyncio.gather(pipeline, *guards, writer, return_exceptions=True)

    async def _keep_lease(self, claim: Claim) -> None:
        """Renew until cancelled. Raises: LeaseLost, VideoDeleted.

        A store that does not answer is no reason to stop while the pipeline may ride it out: nobody else can
        take the job over either, unless it is only this worker that is cut off. That costs double work at
        most: the heartbeat or the publication will tell.
        """
        interval = self.lease_seconds / HEARTBEATS_PER_LEASE
        renewed, pause = time.monotonic(), interval
        while True:
            await asyncio.sleep(pause)
            sent, pause = time.monotonic(), interval
            try:
                async with asyncio.timeout(interval):
                    await self.queue.renew(claim)
                renewed = sent
            except (StoreError, TimeoutError) as error:
                log.warning("heartbeat_failed", error=str(error))
                pause = min(HEARTBEAT_RETRY_SECONDS, interval)
                if time.monotonic() - renewed >= self.lease_seconds + self.patience_seconds:
                    raise LeaseLost from error

    async def _let_go(self, claim: Claim, board: StatusBoard) -> None:
        try:
            async with asyncio.timeout(LET_GO_SECONDS):
                await self._hand_back(claim, board, claim.lease.attempt, retry_after_seconds=0)
            log.info("job_released")
        except (StoreError, TimeoutError) as error:
            log.warning("job_not_released", error=str(error))

    async def _retry(self, claim: Claim, board: StatusBoard, error: JobFailure) -> None:
        attempt = claim.lease.attempt
        if attempt >= self.max_attempts:
            await self._give_up(claim, error)
            return
        pause = RETRIES.pause_seconds(attempt)
        log.warning("attempt_failed", error=error.message, retry_after_seconds=pause)
        await self._hand_back(
            claim, board, attempt + 1, retry_after_seconds=pause, error=error.message, outage=False
        )

    async def _retry_after_outage(
        self, claim: Claim, board: StatusBoard, error: StoreError, stop: asyncio.Event
    ) -> None:
        """Try again without counting the attempt: the video is not to blame for the store.

        There is nothing better to do than to wait until the job can be handed back, or somebody has it.
        """
        outages = claim.lease.outages + 1
        if outages > OUTAGES_ALLOWED:
            await self._give_up(claim, error)
            return
        pause = RETRIES.pause_seconds(outages)
        log.warning("attempt_ended_by_store", error=error.message, retry_after_seconds=pause)
        while not stop.is_set():
            try:
                await self._hand_back(
                    claim,
                    board,
                    claim.lease.attempt,
                    retry_after_seconds=pause,
                    error=error.message,
                    outage=True,
                )
                return
            except StoreUnavailable as still:
                log.warning("job_not_handed_back", error=still.message)
                await sleep_unless_set(stop, HAND_BACK_EVERY_SECONDS)

    async def _hand_back(
        self,
        claim: Claim,
        board: StatusBoard,
        attempt: int,
        *,
        retry_after_seconds: float,
        error: str | None = None,
        outage: bool = False,
    ) -> None:
        with suppress(LeaseLost):
            await self.queue.check(claim)
            await board.write_waiting(attempt)
            await self.queue.release(
                claim, retry_after_seconds=retry_after_seconds, error=error, outage=outage
            )
        await self.queue.discard_run(claim)

    async def _give_up(self, claim: Claim, error: StoreError | JobFailure) -> None:
        code = error.failure_code if isinstance(error, JobFailure) else error.code
        log.warning("job_failed", code=code, error=error.message)
        with suppress(LeaseLost):
            await self.queue.bury(claim, StatusError(code=code, message=error.message))


async def _until_stopped(stop: asyncio.Event) -> None:
    await stop.wait()
    raise StopRequested


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
