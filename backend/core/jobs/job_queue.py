"""The job queue on S3: claim by deleting the marker, made safe by create-only leases and publication.

docs/queue.md explains the protocol and the order of its steps. This module implements the steps and knows
nothing about media; `worker.run.loop` decides when to call them.
"""

import random
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from backend.core import keys
from backend.core.errors import LeaseLost, ObjectNotFound, VideoDeleted
from backend.core.jobs.leases import UNREADABLE_PAUSE, Claim, Leases, SeenLease, highest_generations
from backend.core.jobs.snapshot import Needs, PlannedJob, QueueSnapshot, Waiting
from backend.core.library.outbox import announce_end
from backend.core.library.videos import delete_units, delete_video
from backend.core.records import (
    MAX_RECORD_BYTES,
    SMALLEST_VIDEO_BYTES,
    DeadLetter,
    Job,
    Lease,
    LeaseState,
    Outcome,
    Outputs,
    RecordUnreadable,
    Retention,
    StatusError,
    read_outcome,
)
from backend.core.status import complete_status, failed_status
from backend.core.store.interface import LIST_PAGE, Buckets, ObjectInfo, exists
from backend.core.store.prefixes import abort_uploads_below, delete_outputs_below
from backend.core.unit_records import UnitPlan

log = structlog.get_logger(__name__)

POLL_KEYS = 250
"""Only so many markers are listed: on some stores, a LIST costs a millisecond for every ten keys."""
COSTLY_KEYS = 50
"""If that are only cheap jobs, so many markers of each costlier rank are listed, too."""
SPREAD = 8
"""Workers pick one of the first so many markers at random. After collisions they pick from more."""
RUN_TOKEN_BYTES = 8


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _run_token() -> str:
    return secrets.token_hex(RUN_TOKEN_BYTES)


class JobQueue:
    """The queue as one worker uses it. Safe with any number of workers that crash or stall at any time.

    `owner` names the worker in leases, for operators. `keep_originals` keeps the sources of all jobs; None
    keeps those whose job does not say what to do. `rng`, `now` and `run_token` are replaced in tests.
    """

    def __init__(
        self,
        buckets: Buckets,
        *,
        owner: str,
        lease_seconds: float,
        keep_originals: bool | None = False,
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
        self._unreadable: dict[str, datetime] = {}  # until when requests with such markers are skipped
        self._in_doubt: set[str] = set()  # runs that a write may still publish, as its answer was lost

    @property
    def lease(self) -> timedelta:
        """How long a worker may be silent before its job may be taken over."""
        return self._leases.lease

    @property
    def keeps_all_originals(self) -> bool:
        return self._keep_originals is True

    async def poll(self) -> QueueSnapshot:
        """List the leases, and of each rank the oldest markers.

        `leases/` and `queue/` are adjacent in key order: one LIST covers both unless there are many leases or
        markers, or so many foreign keys that no marker is among the first.
        """
        leased: list[ObjectInfo] = []
        markers: list[Waiting] = []
        start_after, limit = keys.LEASES, POLL_KEYS
        while True:
            page = await self._buckets.raw.list_page("", start_after=start_after, limit=limit)
            leased += [info for info in page.objects if info.key.startswith(keys.LEASES)]
            markers += self._markers(page.objects)
            last = page.objects[-1].key if page.objects else ""
            in_queue = last.startswith(keys.QUEUE)
            if not page.truncated or (last > keys.QUEUE and (markers or not in_queue)):
                break
            start_after, limit = last, LIST_PAGE
            if not in_queue and not last.startswith(keys.LEASES):
                start_after = keys.QUEUE
        if page.truncated and in_queue:
            for rank in keys.RANKS:
                if (prefix := keys.queue_of(rank)) > last:
                    costly = await self._buckets.raw.list_page(prefix, limit=COSTLY_KEYS)
                    markers += self._markers(costly.objects)
        leases = highest_generations(leased)
        due = await self._leases.takeable(leases, page.store_now)
        parked = {seen.request for seen, lease in due if lease.is_parked}
        planned = [PlannedJob(*one, one[0].request in parked) for one in self._leases.planned(leases)]
        due = [(seen, lease) for seen, lease in due if seen.request not in parked]
        return QueueSnapshot(markers, leases, due, planned, truncated=page.truncated and in_queue)

    def _markers(self, objects: Iterable[ObjectInfo]) -> list[Waiting]:
        listed = (info for info in objects if info.key.startswith(keys.QUEUE))  # hundreds of units follow
        small = (info.key for info in listed if info.size_bytes <= MAX_RECORD_BYTES)
        now = self._now()
        self._unreadable = {request: until for request, until in self._unreadable.items() if until > now}
        parsed = [Waiting(*one) for one in keys.ours(keys.parse_ranked_marker, small)]
        return [one for one in parsed if one.request not in self._unreadable]

    async def claim(
        self, snapshot: QueueSnapshot, *, silent_too: bool = True, needs: Needs | None = None
    ) -> Claim | None:
        """Claim a job of `snapshot`: first one of a silent worker or one due for a retry, else a waiting one.

        Jobs that have already ended (published, failed, video deleted) are cleaned up on the way. Returns
        None if the snapshot has no job left. Without `silent_too`, jobs of silent workers are skipped.
        `needs`: only jobs that need this kind of slot next. None: any.
        """
        while (due := snapshot.next_due(needs)) is not None:
            seen, lease = due
            if lease.state is LeaseState.RUNNING and not silent_too:
                continue
            try:
                claim = await self._take_over(seen, lease)
                if claim is not None and not await self._settle(claim):
                    return claim
            except RecordUnreadable as error:
                log.warning("job_unreadable", request=seen.request, error=error.message)
        while True:
            # If more jobs wait than were listed, all of the listed ones are old enough.
            spread = POLL_KEYS if snapshot.truncated else self._spread
            if (waiting := snapshot.next_waiting(self._rng, spread, needs)) is None:
                return None
            try:
                claim = await self._claim_marker(waiting)
                if claim is None:
                    snapshot.missed()
                    self._spread = min(self._spread * 2, POLL_KEYS)
                    continue
                snapshot.hit()
                self._spread = max(self._spread - 1, SPREAD)
                if not await self._settle(claim):
                    return claim
            except RecordUnreadable as error:
                self._unreadable[waiting.request] = self._now() + UNREADABLE_PAUSE
                log.warning("job_unreadable", request=waiting.request, error=error.message)

    async def take_parked(self, planned: PlannedJob) -> Claim | None:
        """Take a parked job to join it. None: another worker has it, or it has ended and was cleaned up."""
        claim = await self._take_over(planned.seen, planned.lease) if planned.is_parked else None
        try:
            return None if claim is None or await self._settle(claim) else claim
        except RecordUnreadable as error:
            log.warning("job_unreadable", request=planned.seen.request, error=error.message)
            return None

    async def settle(self, seen: SeenLease) -> bool:
        """Clean up after a silent worker whose request has ended or whose video was deleted.

        False: it is left to a worker, as neither the job nor this queue knows whether to keep the original.
        """
        lease = await self._leases.read(seen)
        if lease.job.original is None and self._keep_originals is None:
            return False
        claim = await self._take_over(seen, lease)
        if claim is not None and not await self._settle(claim):
            await self.release(claim, retry_after_seconds=0)
        return True

    async def renew(self, claim: Claim) -> None:
        """Renew the lease. Call this at least every third of the lease time.

        Raises:
            LeaseLost: another worker holds the job or has ended it. Stop, and call `clean_up_lost`.
            VideoDeleted: stop, and call `discard_deleted`.
        """
        await self._leases.renew(claim)
        await self._check_records(claim)

    async def _check_records(self, claim: Claim) -> None:
        """Raises: LeaseLost: the request has ended. VideoDeleted.

        The clean-up is left to the caller: it may take longer than a heartbeat may.
        """
        records = await self._records(claim.lease.job)
        if not records.video:
            raise VideoDeleted
        if records.ended:
            raise LeaseLost

    async def hold(self, claim: Claim) -> None:
        """Renew the lease, whatever else happened to the job. Raises: LeaseLost."""
        await self._leases.renew(claim)

    async def check(self, claim: Claim) -> None:
        """Check that this worker still holds the job, without renewing the lease. Raises: LeaseLost."""
        await self._leases.check(claim)

    async def park(self, claim: Claim, plan: UnitPlan) -> UnitPlan:
        """Divide the job, then give it back until somebody joins it. Returns the plan that counts.

        That is another one if an earlier holder had planned with this number. `plan.number` must be 0, or
        one more than the lease's plan to replace that one. A worker that divides a job never publishes it
        under the same lease.

        Raises:
            LeaseLost
            VideoDeleted: stop, and call `discard_deleted`.
        """
        key = keys.unit_plan(claim.request, plan.number)
        if not await self._buckets.raw.create(key, plan.to_json()):
            with suppress(ObjectNotFound):  # it went with the video, or with the request's end
                plan = UnitPlan.from_json((await self._buckets.raw.get(key)).body)
        # A worker that ended the request, or a deletion of the video, may have missed this plan.
        await self._check_records(claim)
        first = claim.lease.plan is None
        parked = claim.lease.replace(
            state=LeaseState.RELEASED,
            attempt=1 if first else claim.lease.attempt,
            outages=0 if first else claim.lease.outages,
            last_error=None if first else claim.lease.last_error,
            retry_after_seconds=0,
            plan=plan.number,
            units=len(plan.units),
        )
        await self._leases.release(claim, parked)
        return plan

    async def publish(self, claim: Claim, outputs: Outputs) -> bool:
        """Make `outputs` the request's outcome, unless it already has one, then finish the job.

        Returns whether this run won. If not, it is deleted with the other runs of the request.

        Raises:
            StoreUnavailable: the outcome is unknown. Nothing was deleted, and another attempt will find out.
        """
        return await self._end(claim, outputs)

    async def release(
        self,
        claim: Claim,
        *,
        retry_after_seconds: float,
        error: str | None = None,
        outage: bool = False,
        whole: bool = False,
    ) -> None:
        """Give a job back so that it is tried again. Raises: LeaseLost.

        With `error`, the attempt counts. With `outage`, it counts as an outage: the store failed. A plan is
        kept. With `whole`, it no longer counts, and only a slot that encodes takes the job. What the units
        stored goes when the request ends.
        """
        failed = error is not None
        released = claim.lease.replace(
            state=LeaseState.RELEASED,
            attempt=claim.lease.attempt + (failed and not outage),
            outages=claim.lease.outages + (failed and outage),
            retry_after_seconds=retry_after_seconds,
            last_error=error if failed else claim.lease.last_error,
            **({"plan": None, "units": 0, "whole": True} if whole else {}),
        )
        await self._leases.release(claim, released)

    async def bury(self, claim: Claim, error: StatusError) -> bool:
        """Make failure the request's outcome, unless it already has one. The source is kept.

        Returns whether the request has failed. Raises: LeaseLost.
        """
        await self._leases.check(claim)
        letter = DeadLetter(
            job=claim.lease.job, error=error, attempts=claim.lease.attempt, failed_at=self._now()
        )
        return await self._end(claim, letter)

    async def fail(self, job: Job, error: StatusError, attempts: int) -> bool:
        """Make failure the request's outcome unless it has one, and finish it. Any worker may call this.

        This is for a unit without which the job cannot be done. Returns whether this did.
        """
        letter = DeadLetter(job=job, error=error, attempts=attempts, failed_at=self._now())
        ours = await self._buckets.video.create(keys.result(job.id, job.request), letter.to_json())
        await self._finish(job, letter if ours else None)
        return ours

    async def clean_up_lost(self, claim: Claim) -> None:
        """Delete this worker's run after it lost its lease, and the lease if the job is safe without it.

        A worker that merely lost its connection may still hold the highest generation. Its lease is then the
        only record of the job, so it stays for a successor.
        """
        records = await self._records(claim.lease.job)
        if not records.video:
            await self.discard_deleted(claim)
        elif records.ended:  # the worker that ended it may have died right after
            await self._finish(claim.lease.job)
        else:
            with suppress(LeaseLost):
                await self._leases.check(claim)
        await self.discard_run(claim)

    async def discard_run(self, claim: Claim) -> None:
        """Delete what this lease's runs wrote, unless a result names one of them or may still come to.

        So goes the look beside the run, unless its request is published: then it may still be watched.
        """
        if claim.lease.run in self._in_doubt:
            return  # the worker that ends the request deletes this run, unless it is the published one
        outcome = await self._outcome(claim.lease.job)
        video_id = claim.lease.job.id
        kept = keys.run_prefix(video_id, outcome.run) if isinstance(outcome, Outputs) else None
        if kept != keys.run_prefix(video_id, claim.lease.run):
            await self._delete_outputs(keys.runs_of_lease(video_id, claim.lease.run), kept)
        if kept is None and claim.lease.plan is None:
            await self._delete_outputs(keys.runs_of_lease(video_id, keys.look_of_run(claim.lease.run)))

    async def has_ended(self, job: Job) -> bool:
        return (await self._records(job)).ended

    async def keeps_looks(self, job: Job) -> bool:
        """Return whether a look of this request may be watched: it has neither failed nor been deleted."""
        records = await self._records(job)
        if not (records.video and records.ended):
            return records.video
        return isinstance(await self._outcome(job), Outputs)

    async def discard_deleted(self, claim: Claim) -> None:
        """Clean up a job whose video was deleted while it ran."""
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
            plan=lease.plan,
            units=lease.units,
            whole=lease.whole,
            fetching=lease.fetching,
        )
        claim = await self._leases.create(successor, generation)
        if claim is None:
            return None
        # Delete the marker first: as long as an older lease exists, nobody can claim the job by its marker.
        await self._buckets.raw.delete(lease.job.marker)
        await self._buckets.raw.delete_many([*seen.older, seen.info.key])
        log.info("lease_taken_over", request=seen.request, generation=generation, crashed=crashed)
        try:
            await self._leases.check(claim)
        except LeaseLost:
            return None
        return claim

    async def _claim_marker(self, waiting: Waiting) -> Claim | None:
        marker = waiting.key
        try:
            job = Job.from_json((await self._buckets.raw.get(marker)).body)
        except ObjectNotFound:
            return None
        if job.marker != marker:
            raise RecordUnreadable(f"{marker} is the job of another request or rank")
        run = keys.run_name(job.request, 0, self._run_token())
        claim = await self._leases.create(Lease(job=job, owner=self._owner, run=run, attempt=1), 0)
        if claim is None:
            return None
        if not await self._still_waits(marker):
            # The job was claimed, finished and cleaned up between our LIST and our lease.
            await self._buckets.raw.delete(claim.key)
            return None
        await self._buckets.raw.delete(marker)
        return claim

    async def _still_waits(self, marker: str) -> bool:
        return await exists(self._buckets.raw, marker)

    async def _settle(self, claim: Claim) -> bool:
        """Clean up a job that has already ended or whose video was deleted. Returns whether it did."""
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
        """Make this the request's outcome unless it has one, and finish the job. Returns whether it did."""
        job = claim.lease.job
        self._in_doubt.add(claim.lease.run)
        ours = await self._buckets.video.create(keys.result(job.id, job.request), outcome.to_json())
        self._in_doubt.discard(claim.lease.run)
        await self._finish(job, outcome if ours else None, claim)
        return ours

    async def _finish(self, job: Job, outcome: Outcome | None = None, holder: Claim | None = None) -> None:
        """Bring all objects in line with the request's outcome. Idempotent. Leases are deleted last.

        `outcome` is passed if the caller knows it, `holder` by the worker that just ended the job.

        Raises:
            VideoDeleted: there is no outcome any more.
        """
        outcome = outcome or await self._outcome(job)
        if outcome is None:
            raise VideoDeleted
        await announce_end(self._buckets.video, outcome)
        if isinstance(outcome, Outputs):
            run: str | None = outcome.run
            await self._finish_published(job, outcome)
        else:
            run = None
            await self._finish_failed(job, outcome)
        if job.fetch is not None:  # else no worker opens any
            await abort_uploads_below(self._buckets.raw, job.source)
        leases = await self._leases.keys_of(job.request)
        # If a first generation without successors published its own run, there are no other runs, nor units.
        alone = holder is not None and holder.generation == 0 and leases == [holder.key]
        if not (alone and holder is not None and run == holder.lease.run):
            await delete_units(self._buckets.raw, keys.units_of_request(job.request))
            kept = keys.run_prefix(job.id, run) if run else None
            await self._delete_outputs(keys.runs_of_request(job.id, job.request), kept)
            if kept is None:  # a look that may still be watched is left to the sweeper
                await self._delete_outputs(keys.looks_of_request(job.id, job.request))
        if not (await self._records(job)).video:
            await delete_video(self._buckets, job.id)
        # Only the listed ones: the worker of a later lease must still learn how the job ended, and clean up.
        await self._buckets.raw.delete_many(leases)

    async def _finish_published(self, job: Job, outputs: Outputs) -> None:
        await self._buckets.video.put(keys.status(job.id), complete_status(outputs).to_json())
        if self._deletes_source(job.original):
            await self._buckets.raw.delete(job.source)

    def _deletes_source(self, original: Retention | None) -> bool:
        """Return whether to delete the source on publication. If it is due later, the sweeper deletes it."""
        if original is None:
            return self._keep_originals is False
        return not (self._keep_originals or original.keep or original.delete_after_seconds)

    async def _finish_failed(self, job: Job, letter: DeadLetter) -> None:
        await self._buckets.raw.put(keys.dead_letter(job.request), letter.to_json())
        await self._buckets.video.put(keys.status(job.id), failed_status(letter).to_json())

    async def _delete_outputs(self, prefix: str, kept: str | None = None) -> None:
        """Delete objects and open multipart uploads below `prefix`, except objects below `kept`."""
        await delete_outputs_below(self._buckets.video, prefix, kept)

    async def _records(self, job: Job) -> "_Records":
        """Read both facts from one LIST: `results/` and `video.json` sort after all runs of the video.

        A second one steps over the revisions between them if there are many.
        """
        store, prefix = self._buckets.video, keys.video_prefix(job.id)
        page = await store.list_page(prefix, start_after=keys.results_of(job.id))
        sizes = {info.key: info.size_bytes for info in page.objects}
        if page.truncated:
            page = await store.list_page(prefix, start_after=keys.status(job.id))
            sizes |= {info.key: info.size_bytes for info in page.objects}
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
