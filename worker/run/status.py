"""Writes status.json while a job runs: the latest progress, at most every two seconds."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog

from backend.core import keys
from backend.core.concurrency import sleep_unless_set
from backend.core.errors import StoreError
from backend.core.jobs.leases import Claim
from backend.core.library.outbox import announce_playable
from backend.core.records import Job, Stage, Status
from backend.core.store.interface import Store
from worker.transcode.progress import Progress

log = structlog.get_logger(__name__)
T = TypeVar("T")

WRITE_EVERY_SECONDS = 2.0

_SHARE_OF_WORK = {Stage.TRANSCODING: (0.0, 0.95), Stage.FINALIZING: (0.95, 0.04)}
"""For each stage: progress of the work on the source at its start, and its share. The rest is publishing."""
SHARE_OF_FETCH = 0.1
"""Of a job that fetches its source."""

MIN_PROGRESS_FOR_ESTIMATE = 0.01


def share_of_work(stage: Stage, stage_progress: float) -> float:
    """Return the progress of the work on a source that is there, from 0 to less than 1."""
    start, share = _SHARE_OF_WORK[stage]
    return start + share * stage_progress


def share_of_job(job: Job, work: float) -> float:
    """Return the progress of the whole job, less than 1. `work` is that of the work on its source."""
    fetch = SHARE_OF_FETCH if job.fetch is not None else 0.0
    return fetch + (1 - fetch) * work


def remaining_seconds(elapsed: timedelta, done: float) -> float | None:
    """Return how long the rest of a job takes at the pace so far. None: it is too early to say."""
    if done < MIN_PROGRESS_FOR_ESTIMATE:
        return None
    return max(0.0, elapsed.total_seconds()) * (1 - done) / done


class StatusWriter:
    """Keeps status.json up to date with the progress of one run.

    The pipeline calls `report` often, and `beside` runs it.
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
        self._began = now()
        """When the attempt or, if it began with a fetch, the work on the source began."""
        self._fetched: tuple[int, int | None] | None = None
        """While the source is being fetched: how many bytes have arrived, and of how many."""
        self._fetch_began: tuple[datetime, int] | None = None
        """When this attempt's fetch began, and how many bytes were there already."""
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        """Set when viewers can begin to play, or no longer can: that is written at once."""
        self._written_playable = False
        job = claim.lease.job
        self._status = Status.of_job(job).at_stage(Stage.TRANSCODING, now(), attempt=claim.lease.attempt)

    def report(self, progress: Progress) -> None:
        """Record the latest progress of the pipeline."""
        done, now = share_of_work(progress.stage, progress.stage_progress), self._now()
        job, look = self._claim.lease.job, progress.look
        run = progress.fallback.run if progress.fallback else self._claim.lease.run
        run = look.run if look else run
        self._fetched = None
        self._status = self._status.at_stage(
            progress.stage,
            now,
            attempt=max(self._claim.lease.attempt, progress.attempt),
            progress=share_of_job(job, done),
            stage_progress=progress.stage_progress,
            estimated_remaining_seconds=remaining_seconds(now - (progress.began or self._began), done),
            qualities=look.qualities if look else progress.qualities,
            renditions=look.renditions if look else progress.renditions,
            captions=look.captions if look else (),
            chapters=progress.chapters,
            duration_seconds=progress.duration_seconds,
            playable=progress.playable,
            encoder=progress.encoder,
            encoder_fallback=progress.fallback.reason if progress.fallback else None,
            outputs=keys.run_prefix(job.id, run),
            received_bytes=None,
            total_bytes=None,
        )
        self._changed.set()
        if self._status.playable != self._written_playable:
            self._urgent.set()

    def report_fetch(self, received_bytes: int, total_bytes: int | None) -> None:
        """Record how much of the source has been fetched."""
        if self._fetch_began is None or received_bytes < self._fetch_began[1]:
            self._fetch_began = self._now(), received_bytes
        self._fetched = received_bytes, total_bytes
        self._changed.set()

    def _note_fetched(self, received_bytes: int, total_bytes: int | None) -> None:
        self._began = now = self._now()
        share = min(1.0, received_bytes / total_bytes) if total_bytes else 0.0
        self._status = self._status.at_stage(
            Stage.DOWNLOADING,
            now,
            progress=SHARE_OF_FETCH * share,
            stage_progress=share,
            estimated_remaining_seconds=self._left_to_fetch(received_bytes, total_bytes, now),
            received_bytes=received_bytes,
            total_bytes=total_bytes,
        )

    def _left_to_fetch(self, received_bytes: int, total_bytes: int | None, now: datetime) -> float | None:
        """Return how long the fetch will take: nobody knows yet how long the work on the source takes."""
        if self._fetch_began is None or not total_bytes:
            return None
        began, known_bytes = self._fetch_began
        missing = max(1, total_bytes - known_bytes)
        return remaining_seconds(now - began, min(1.0, (received_bytes - known_bytes) / missing))

    async def beside(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`. Meanwhile, write."""
        writing = asyncio.create_task(self.keep_writing())
        try:
            return await work
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def keep_writing(self) -> None:
        """Write after each change, but not more often than the interval, until cancelled.

        Writes nothing before the first report, which follows the probe.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.write()
            except StoreError as error:
                # Progress is only informative: if the store stays away, another write fails the job.
                log.warning("status_not_written", request=self._claim.request, error=error.message)
                self._changed.set()
            await sleep_unless_set(self._urgent, self._write_every_seconds)

    async def write(self) -> None:
        if self._fetched is not None:
            self._note_fetched(*self._fetched)
        self._urgent.clear()
        status = self._status
        if status.playable and not self._written_playable:
            await announce_playable(self._video, status, self._now())
        self._written_playable = status.playable
        await self._video.put(keys.status(status.id), status.to_json())

    async def write_waiting(self, attempt: int) -> None:
        """Record that the job is queued again, with nothing to play: the next attempt starts over."""
        job = self._claim.lease.job
        waiting = Status.of_job(job).at_stage(Stage.QUEUED, self._now(), attempt=attempt)
        await self._video.put(keys.status(job.id), waiting.to_json())
