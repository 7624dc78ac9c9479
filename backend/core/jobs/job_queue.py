"""The job queue on S3: claim by deleting the marker, made safe by create-only leases and publication.

docs/queue.md states the protocol and why each step stands where it does. This module owns its steps; it knows
nothing of media. `worker.run.loop` decides when to call them.
"""

import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from backend.core import keys
from backend.core.errors import LeaseLost, ObjectNotFound, VideoDeleted
from backend.core.jobs.leases import Claim, Leases, SeenLease, highest_generations
from backend.core.jobs.snapshot import QueueSnapshot
from backend.core.library.videos import delete_video
from backend.core.records import (
    SMALLEST_VIDEO_BYTES,
    DeadLetter,
    Job,
    Lease,
    LeaseState,
    Outcome,
    Outputs,
    RecordUnreadable,
    StatusError,
    read_outcome,
)
from backend.core.status import complete_status, failed_status
from backend.core.store.interface import LIST_PAGE, Buckets, ObjectInfo, exists
from backend.core.store.prefixes import abort_uploads_below, delete_below

log = structlog.get_logger(__name__)

POLL_KEYS = 250
"""Of a long queue, its oldest: some stores take a millisecond of work for every ten keys of a LIST."""
SPREAD = 8
"""Workers choose among so many of the oldest markers, and among more the more they collide."""

RUN_TOKEN_BYTES = 8


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _run_token() -> str:
    return secrets.token_hex(RUN_TOKEN_BYTES)


class JobQueue:
    """The queue as one worker uses it. Safe with any number of workers, whatever stops or stalls when.

    `owner` names the worker in leases, for people. `rng`, `now` and `run_token` are injected by tests.
    """

    def __init__(
        self,
        buckets: Buckets,
        *,
        owner: str,
        lease_seconds: float,
        keep_originals: bool = False,
        rng: random.Random | None = None,
        now: Callable[[], datetime] = _utc_now,
        run_token: Callable[[], str] = _run_token,
    ) -> None:
        self._buckets = buckets
        self._owner = owner
        self._keep_originals = keep_originals
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, guards nothing
        self._now = now
        self._run_token = run_token
        self._spread = SPREAD
        self._leases = Leases(buckets.raw, lease_seconds)
        self._in_doubt: set[str] = set()  # runs that a write without an answer may yet publish

    @property
    def lease(self) -> timedelta:
        """The silence after which a worker's job may be taken over."""
        return self._leases.lease

    async def poll(self) -> QueueSnapshot:
        """List leases and the oldest waiting markers.

        `leases/` and `queue/` are neighbours, so one LIST shows both, unless there are very many leases.
        """
        objects: list[ObjectInfo] = []
        start_after, limit = keys.LEASES, POLL_KEYS
        while True:
            page = await self._buckets.raw.list_page("", start_after=start_after, limit=limit)
            objects += page.objects
            if not page.truncated or page.objects[-1].key >= keys.QUEUE:
                break
            start_after, limit = page.objects[-1].key, LIST_PAGE
        leases = highest_generations(objects)
        due = await self._leases.takeable(leases, page.store_now)
        goes_on = page.truncated and page.objects[-1].key.startswith(keys.QUEUE)
        return QueueSnapshot(objects, leases, due, goes_on=goes_on)

    async def claim(self, view: QueueSnapshot, *, silent_too: bool = True) -> Claim | None:
        """Claim a job of `view`: one whose worker went silent or that is due again, else a waiting one.

        Jobs that turn out to be settled already (published, given up, video deleted) are cleaned up on the
        way. None when the view holds nothing more to do; it may have done so from the start. Without
        `silent_too`, jobs of silent workers are passed over.
        """
        while (due := view.next_due()) is not None:
            seen, lease = due
            if lease.state is LeaseState.RUNNING and not silent_too:
                continue
            claim = await self._take_over(seen, lease)
            if claim is not None and not await self._settle(claim):
                return claim
        while (request := view.next_waiting(self._rng, self._spread_in(view))) is not None:
            try:
                claim = await self._claim_marker(request)
            except RecordUnreadable as error:
                log.warning("marker_unreadable", request=request, error=error.message)
                continue
            if claim is None:
                view.missed()
                self._spread = min(self._spread * 2, POLL_KEYS)
                continue
            view.hit()
            self._spread = max(self._spread - 1, SPREAD)
            if not await self._settle(claim):
                return claim
        return None

    def _spread_in(self, view: QueueSnapshot) -> int:
        """Of more jobs than a look shows, any of those that it shows is early enough."""
        return POLL_KEYS if view.goes_on else self._spread

    async def settle(self, seen: SeenLease) -> None:
        """Clean up behind a silent worker whose request has ended or whose video is gone."""
        claim = await self._take_over(seen, await self._leases.read(seen))
        if claim is not None and not await self._settle(claim):
            await self.release(claim, retry_after_seconds=0)

    async def renew(self, claim: Claim) -> None:
        """Heartbeat: call at least every third of the lease.

        Raises:
            LeaseLost: another worker holds the job, or has published it; stop, write nothing more.
            VideoDeleted: stop, and call `discard_deleted`.
        """
        await self._leases.renew(claim)
        records = await self._records(claim.lease.job)
        if not records.video:
            raise VideoDeleted
        if records.ended:
            # Its publisher may have died on the spot: whoever holds the lease then finishes the job.
            await self._finish(claim.lease.job)
            raise LeaseLost

    async def check(self, claim: Claim) -> None:
        """Look whether the job is still ours, without renewing. Raises: LeaseLost."""
        await self._leases.check(claim)

    async def publish(self, claim: Claim, outputs: Outputs) -> bool:
        """Make `outputs` the request's one outcome, if it has none yet, then finish the job.

        Returns whether this run won. A loser's run is deleted with the other runs of the request.

        Raises:
            StoreUnavailable: it is in doubt; nothing was deleted, another attempt will find out.
        """
        return await self._end(claim, outputs)

    async def release(
        self, claim: Claim, *, retry_after_seconds: float, error: str | None = None, outage: bool = False
    ) -> None:
        """Let go of a job that is to be tried again. Raises: LeaseLost.

        With `error` the attempt counts; with `outage` it was the store that failed, which is counted apart.
        """
        failed = error is not None
        released = claim.lease.but(
            state=LeaseState.RELEASED,
            attempt=claim.lease.attempt + (failed and not outage),
            outages=claim.lease.outages + (failed and outage),
            retry_after_seconds=retry_after_seconds,
            last_error=error if failed else claim.lease.last_error,
        )
        await self._leases.release(claim, released)

    async def bury(self, claim: Claim, error: StatusError) -> bool:
        """Give a job up: failure is its outcome, unless it has another; outputs go, the source is kept.

        Returns whether the request has failed. Raises: LeaseLost.
        """
        await self._leases.check(claim)
        letter = DeadLetter(
            job=claim.lease.job, error=error, attempts=claim.lease.attempt, failed_at=self._now()
        )
        return await self._end(claim, letter)

    async def clean_up_lost(self, claim: Claim) -> None:
        """Clean up behind a lost lease: the own run, and the own lease once the job is safe without it.

        A worker that only stopped hearing from the store may still hold the highest generation. That lease is
        all there is of the job, so it stays for a successor.
        """
        records = await self._records(claim.lease.job)
        if not records.video:
            await self.discard_deleted(claim)
        elif records.ended:
            await self._finish(claim.lease.job)
        else:
            with suppress(LeaseLost):
                await self._leases.check(claim)
        await self.discard_run(claim)

    async def discard_run(self, claim: Claim) -> None:
        """Delete what this lease's runs wrote, unless a result names one of them, or may yet do so."""
        if claim.lease.run in self._in_doubt:
            return  # whoever ends the request deletes it, if it is not the one that was published
        outcome = await self._outcome(claim.lease.job)
        video_id = claim.lease.job.id
        kept = keys.run_prefix(video_id, outcome.run) if isinstance(outcome, Outputs) else None
        if kept != keys.run_prefix(video_id, claim.lease.run):
            await self._delete_outputs(keys.runs_of_lease(video_id, claim.lease.run), kept)

    async def discard_deleted(self, claim: Claim) -> None:
        """Clean up after a video that was deleted while its job ran."""
        await delete_video(self._buckets, claim.lease.job.id)
        await self._leases.delete_all(claim.request)

    async def _take_over(self, seen: SeenLease, lease: Lease) -> Claim | None:
        generation = seen.generation + 1
        crashed = lease.state is LeaseState.RUNNING
        successor = Lease(
            job=lease.job,
            owner=self._owner,
            run=keys.run_name(seen.request, generation, self._run_token()),
            attempt=lease.attempt + (1 if crashed else 0),
            outages=lease.outages,
            last_error="The worker stopped in the middle of the job." if crashed else lease.last_error,
        )
        claim = await self._leases.create(successor, generation)
        if claim is None:
            return None
        # The marker goes first: while an older lease stands, nobody can claim by the marker.
        await self._buckets.raw.delete(keys.marker(seen.request))
        await self._buckets.raw.delete_many([*seen.older, seen.info.key])
        log.info("lease_taken_over", request=seen.request, generation=generation, crashed=crashed)
        try:
            await self._leases.check(claim)
        except LeaseLost:
            return None
        return claim

    async def _claim_marker(self, request: str) -> Claim | None:
        marker = keys.marker(request)
        try:
            job = Job.from_json((await self._buckets.raw.get(marker)).body)
        except ObjectNotFound:
            return None
        run = keys.run_name(request, 0, self._run_token())
        claim = await self._leases.create(Lease(job=job, owner=self._owner, run=run, attempt=1), 0)
        if claim is None:
            return None
        if not await self._still_waits(marker):
            # It was claimed, finished and cleaned up between our LIST and our lease.
            await self._buckets.raw.delete(claim.key)
            return None
        await self._buckets.raw.delete(marker)
        return claim

    async def _still_waits(self, marker: str) -> bool:
        return await exists(self._buckets.raw, marker)

    async def _settle(self, claim: Claim) -> bool:
        """Finish a job that has already ended one way or the other; say whether it had."""
        job = claim.lease.job
        records = await self._records(job)
        if not records.video:
            await self.discard_deleted(claim)
            return True
        if not records.ended:
            return False
        try:
            await self._finish(job)
        except VideoDeleted:
            await self.discard_deleted(claim)
        return True

    async def _end(self, claim: Claim, outcome: Outcome) -> bool:
        """Make this the request's outcome unless it has one, and finish the job; say whether it was ours."""
        job = claim.lease.job
        self._in_doubt.add(claim.lease.run)
        ours = await self._buckets.video.create(keys.result(job.id, job.request), outcome.to_json())
        self._in_doubt.discard(claim.lease.run)
        await self._finish(job, outcome if ours else None, claim)
        return ours

    async def _finish(self, job: Job, outcome: Outcome | None = None, holder: Claim | None = None) -> None:
        """Bring everything in line with the request's outcome. Idempotent; leases go last.

        `outcome` is it when the caller knows; `holder` is the claim of a worker that just ended the job.

        Raises:
            VideoDeleted: there is no outcome any more.
        """
        outcome = outcome or await self._outcome(job)
        if outcome is None:
            raise VideoDeleted
        if isinstance(outcome, Outputs):
            run: str | None = outcome.run
            await self._finish_published(job, outcome)
        else:
            run = None
            await self._finish_failed(job, outcome)
        leases = await self._leases.keys_of(job.request)
        # The published run of a first generation without successors is the only one there ever was.
        alone = holder is not None and holder.generation == 0 and leases == [holder.key]
        if not (alone and holder is not None and run == holder.lease.run):
            await self._delete_runs(job, keep=run)
        if not (await self._records(job)).video:
            await delete_video(self._buckets, job.id)
        # Only those that were seen: a later one's worker has yet to learn how the job ended, and to clean up.
        await self._buckets.raw.delete_many(leases)

    async def _finish_published(self, job: Job, outputs: Outputs) -> None:
        await self._buckets.video.put(keys.status(job.id), complete_status(outputs).to_json())
        if not self._keep_originals:
            await self._buckets.raw.delete(job.source)

    async def _finish_failed(self, job: Job, letter: DeadLetter) -> None:
        await self._buckets.raw.put(keys.dead_letter(job.request), letter.to_json())
        await self._buckets.video.put(keys.status(job.id), failed_status(letter).to_json())

    async def _delete_runs(self, job: Job, *, keep: str | None) -> None:
        """Delete every run of this request but one, with its open multipart uploads."""
        kept = keys.run_prefix(job.id, keep) if keep else None
        await self._delete_outputs(keys.runs_of_request(job.id, job.request), kept)

    async def _delete_outputs(self, prefix: str, kept: str | None = None) -> None:
        await abort_uploads_below(self._buckets.video, prefix)
        await delete_below(self._buckets.video, prefix, kept)

    async def _records(self, job: Job) -> "_Records":
        """One LIST tells both: `results/...` and `video.json` sort behind every run of the video."""
        page = await self._buckets.video.list_page(
            keys.video_prefix(job.id), start_after=keys.results_of(job.id)
        )
        sizes = {info.key: info.size_bytes for info in page.objects}
        return _Records(
            video=sizes.get(keys.video_record(job.id), 0) >= SMALLEST_VIDEO_BYTES,
            ended=keys.result(job.id, job.request) in sizes,
        )

    async def _outcome(self, job: Job) -> Outcome | None:
        try:
            stored = await self._buckets.video.get(keys.result(job.id, job.request))
        except ObjectNotFound:
            return None
        return read_outcome(stored.body)


@dataclass(frozen=True, slots=True)
class _Records:
    video: bool
    ended: bool
