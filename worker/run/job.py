"""What a claimed job does in each case that `worker.run.outcomes` knows."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog

from backend.core.errors import MachineFault, VideoDeleted, VodbucketError
from backend.core.jobs.interface import VideoJobs
from backend.core.jobs.leases import Claim
from backend.core.records import FetchState, Job, Lease, Outputs, StatusError
from backend.core.store.interface import Store
from worker.run.outcomes import Attempts, Ending, Insist
from worker.run.status import StatusWriter
from worker.transcode.first_generation import with_first_generation
from worker.transcode.progress import Progress
from worker.transcode.transcoder import Transcoded

log = structlog.get_logger(__name__)


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


class Fetching(Protocol):
    """Fetches sources: `worker.fetch.source.SourceFetching`, or a test double."""

    async def run(
        self,
        lease: Lease,
        note: Callable[[FetchState | None], Awaitable[None]],
        report: Callable[[int, int | None], None],
    ) -> int:
        """Return the size of the job's source, once that is stored.

        `note` stores how far the fetch is with the lease, and fails if that is lost. `report` gets how many
        bytes have arrived, and of how many if that is known. Raises: as `Pipeline.run`, and what `note` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Handles claims of jobs for `worker.run.slots`."""

    queue: VideoJobs
    pipeline: Pipeline
    video: Store
    attempts: Attempts
    status_every_seconds: float = 2.0
    division: Dividing | None = None
    """None: the pipeline does every job as a whole."""
    fetching: Fetching | None = None

    async def __call__(self, claim: Claim, stop: asyncio.Event) -> None:
        """Run one job to its end. Never raises, except when cancelled."""
        context = {"video": claim.lease.job.id, "request": claim.request, "run": claim.lease.run}
        await self.attempts.run(self.work(claim), stop, **context)

    def work(self, claim: Claim) -> "JobWork":
        status = StatusWriter(self.video, claim, write_every_seconds=self.status_every_seconds)
        return JobWork(self, claim, status)


@dataclass(slots=True)
class JobWork:
    """A claimed job, as `worker.run.outcomes.Work`."""

    runner: JobRunner
    claim: Claim
    status: StatusWriter
    noun: str = "job"

    async def make(self) -> Ending:
        made = await self.status.beside(self._run())
        if isinstance(made, Transcoded):
            job, run = self.claim.lease.job, _run_of(self.claim, made)
            if job.is_from_download:
                made = await with_first_generation(self.runner.video, job, run, made)
            return partial(self._publish, made)

        async def give_back(insist: Insist) -> None:
            await insist(made)

        return give_back

    async def _run(self) -> Transcoded | Callable[[], Awaitable[None]]:
        runner = self.runner
        if self.claim.lease.job.is_to_be_fetched:
            await self._fetch()
        lease = self.claim.lease
        if runner.division is not None:
            return await runner.division.run(self.claim, self.status.report)
        return await runner.pipeline.run(lease.job, lease.run, self.status.report)

    async def _fetch(self) -> None:
        if self.runner.fetching is None:
            raise MachineFault("This worker cannot fetch anything.")
        lease = self.claim.lease
        size_bytes = await self.runner.fetching.run(lease, self._note_fetch, self.status.report_fetch)
        log.info("source_fetched", size_bytes=size_bytes)
        job = lease.job.replace(source_size_bytes=size_bytes)
        self.claim = replace(self.claim, lease=lease.replace(job=job, fetching=None))

    async def _note_fetch(self, state: FetchState | None) -> None:
        self.claim = replace(self.claim, lease=self.claim.lease.replace(fetching=state))
        await self.renew()

    async def _publish(self, transcoded: Transcoded, insist: Insist) -> None:
        """Publish once: if the answer is lost, another attempt finds out how the request ended."""
        won = await self.runner.queue.publish(self.claim, _outputs(self.claim, transcoded))
        log.info("job_published", won=won, qualities=transcoded.qualities)

    async def renew(self) -> None:
        await self.runner.queue.renew(self.claim)

    async def hold(self) -> None:
        await self.runner.queue.hold(self.claim)

    async def release(self, *, retry_after_seconds: float, error: str | None, outage: bool) -> None:
        queue, lease = self.runner.queue, self.claim.lease
        await queue.check(self.claim)
        if lease.plan is None:  # else the look stays, and so does the work done so far
            await self.status.write_waiting(lease.attempt + (error is not None and not outage))
        await queue.release(self.claim, retry_after_seconds=retry_after_seconds, error=error, outage=outage)

    async def fail(self, error: StatusError) -> None:
        await self.runner.queue.bury(self.claim, error)

    async def lost(self, error: VodbucketError) -> None:
        if isinstance(error, VideoDeleted):
            await self.runner.queue.discard_deleted(self.claim)
        else:
            await self.runner.queue.clean_up_lost(self.claim)

    async def discard(self) -> None:
        await self.runner.queue.discard_run(self.claim)


def _run_of(claim: Claim, transcoded: Transcoded) -> str:
    return transcoded.fallback.run if transcoded.fallback else claim.lease.run


def _outputs(claim: Claim, transcoded: Transcoded) -> Outputs:
    job, fallback = claim.lease.job, transcoded.fallback
    return Outputs(
        id=job.id,
        request=job.request,
        run=_run_of(claim, transcoded),
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
        attempt=max(claim.lease.attempt, transcoded.attempt),
        fetched=job.fetch is not None,
    )
