"""Writes status.json while a job runs: the newest progress, at most every two seconds."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from backend.core import keys
from backend.core.errors import StoreError
from backend.core.jobs.leases import Claim
from backend.core.records import Stage, Status
from backend.core.store.interface import Store
from worker.transcode.transcoder import Progress

log = structlog.get_logger(__name__)

WRITE_EVERY_SECONDS = 2.0

_SHARE_OF_JOB = {Stage.TRANSCODING: (0.0, 0.95), Stage.FINALIZING: (0.95, 0.05)}
"""Where a stage begins within the whole job, and how much of it it is."""

MIN_PROGRESS_FOR_ESTIMATE = 0.01


class StatusBoard:
    """Collects progress of one run and keeps status.json up to date until it is closed.

    `report` is called from the pipeline, often; `keep_writing` runs beside it.
    """

    def __init__(
        self,
        video: Store,
        claim: Claim,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        write_every_seconds: float = WRITE_EVERY_SECONDS,
    ) -> None:
        self._video = video
        self._claim = claim
        self._now = now
        self._write_every_seconds = write_every_seconds
        self._started = time.monotonic()
        self._changed = asyncio.Event()
        job = claim.lease.job
        self._status = Status.queued(job.id, job.created_at, job.request).at_stage(
            Stage.TRANSCODING, now(), attempt=claim.lease.attempt
        )

    @property
    def current(self) -> Status:
        return self._status

    def report(self, progress: Progress) -> None:
        """Take in the pipeline's newest figures."""
        start, share = _SHARE_OF_JOB[progress.stage]
        done = start + share * progress.stage_progress
        elapsed = time.monotonic() - self._started
        estimated = elapsed * (1 - done) / done if done >= MIN_PROGRESS_FOR_ESTIMATE else None
        job = self._claim.lease.job
        self._status = self._status.at_stage(
            progress.stage,
            self._now(),
            progress=done,
            stage_progress=progress.stage_progress,
            estimated_remaining_seconds=estimated,
            qualities=progress.qualities,
            renditions=progress.renditions,
            duration_seconds=progress.duration_seconds,
            playable=progress.playable,
            encoder=progress.encoder,
            encoder_fallback=progress.fallback.reason if progress.fallback else None,
            outputs=keys.run_prefix(
                job.id, progress.fallback.run if progress.fallback else self._claim.lease.run
            ),
        )
        self._changed.set()

    async def keep_writing(self) -> None:
        """Write whenever something changed, never more often than the interval. Ends by cancellation.

        The first report, which follows the probe, is the first thing to say.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._video.put(keys.status(self._claim.lease.job.id), self._status.to_json())
            except StoreError as error:
                # Progress is for people: a store that fails here fails the job elsewhere, if it stays so.
                log.warning("status_not_written", request=self._claim.request, error=error.message)
                self._changed.set()
            await asyncio.sleep(self._write_every_seconds)

    async def write_waiting(self, attempt: int) -> None:
        """Say that the job waits again: nothing is playable, the next attempt starts anew."""
        job = self._claim.lease.job
        queued = Status.queued(job.id, job.created_at, job.request)
        waiting = queued.at_stage(Stage.QUEUED, self._now(), attempt=attempt)
        await self._video.put(keys.status(job.id), waiting.to_json())
