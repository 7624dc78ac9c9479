"""The job queue on S3: claim by deleting the marker, made safe by create-only leases and publication.

docs/queue.md states the protocol and why each step stands where it does. This module owns its steps; it knows
nothing of media. `worker.loop` decides when to call them.
"""

import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from backend.core import keys
from backend.core.errors import BadRequest, LeaseLost, ObjectNotFound, VideoDeleted
from backend.core.leases import Claim, Leases, SeenLease, highest_generations
from backend.core.library import delete_video
from backend.core.records import (
    DeadLetter,
    Job,
    Lease,
    LeaseState,
    Outputs,
    RecordUnreadable,
    StatusError,
)
from backend.core.status import complete_status, failed_status
from backend.core.store import Buckets, Listing, ObjectInfo

log = structlog.get_logger(__name__)

STAMPEDE_SPREAD = 8
"""Workers begin at a random one of this many oldest markers, so that few collide on the first."""

RUN_TOKEN_BYTES = 8


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _run_token() -> str:
    return secrets.token_hex(RUN_TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class QueueView:
    """Queue and leases as one LIST showed them."""

    markers: tuple[str, ...]
    """Requests that wait, oldest first."""
    leases: tuple[SeenLease, ...]
    store_now: datetime

    @property
    def is_empty(self) -> bool:
        return not self.markers and not self.leases


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
        self._leases = Leases(buckets.raw, lease_seconds)

    async def look(self) -> QueueView:
        """List waiting markers and leases: `leases/` and `queue/` are neighbours, so one LIST shows both."""
        objects: list[ObjectInfo] = []
        start_after = keys.LEASES
        while True:
            page = await self._buckets.raw.list_page("", start_after=start_after)
            objects += page.objects
            if not page.truncated or page.objects[-1].key >= keys.QUEUE:
                return _view(objects, page)
            start_after = page.objects[-1].key

    async def claim(self, view: QueueView) -> Claim | None:
        """Claim a job of `view`: one whose worker went silent or that is due again, else a waiting one.

        Jobs that turn out to be settled already (published, given up, video deleted) are cleaned up on the
        way. None when there is nothing to do now.
        """
        for seen, lease in await self._leases.takeable(list(view.leases), view.store_now):
            claim = await self._take_over(seen, lease)
            if claim is not None and not await self._settle(claim):
                return claim
        leased = {seen.request for seen in view.leases}
        waiting = [request for request in view.markers if request not in leased]
        start = self._rng.randrange(min(STAMPEDE_SPREAD, len(waiting))) if waiting else 0
        for request in waiting[start:] + waiting[:start]:
            claim = await self._claim_marker(request)
            if claim is not None and not await self._settle(claim):
                return claim
        return None

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
        if records.published:
            # Its publisher may have died on the spot: whoever holds the lease then finishes the job.
            await self._finish(claim.lease.job)
            raise LeaseLost

    async def check(self, claim: Claim) -> None:
        """Look whether the job is still ours, without renewing. Raises: LeaseLost."""
        await self._leases.check(claim)

    async def publish(self, claim: Claim, outputs: Outputs) -> bool:
        """Make `outputs` the request's one result, if it has none yet, then finish the job.

        Returns whether this run won. A loser's run is deleted with the other runs of the request.

        Raises:
            StoreUnavailable: it is in doubt; nothing was deleted, another attempt will find out.
        """
        job = claim.lease.job
        won = await self._buckets.video.create(keys.result(job.id, job.request), outputs.to_json())
        await self._finish(job)
        return won

    async def release(self, claim: Claim, *, retry_after_seconds: float, error: str | None = None) -> None:
        """Let go of a job that is to be tried again; with `error` the attempt counts. Raises: LeaseLost."""
        counted = 0 if error is None else 1
        released = claim.lease.but(
            state=LeaseState.RELEASED,
            attempt=claim.lease.attempt + counted,
            retry_after_seconds=retry_after_seconds,
            last_error=error if error is not None else claim.lease.last_error,
        )
        await self._leases.release(claim, released)

    async def bury(self, claim: Claim, error: StatusError) -> None:
        """Give a job up: dead letter, status `failed`, outputs removed; the source is kept.

        Raises: LeaseLost
        """
        await self._leases.check(claim)
        job = claim.lease.job
        letter = DeadLetter(job=job, error=error, attempts=claim.lease.attempt, failed_at=self._now())
        await self._buckets.raw.put(keys.dead_letter(job.request), letter.to_json())
        await self._finish_failed(job, letter)

    async def leave(self, claim: Claim) -> None:
        """Clean up behind a lost lease: the own run, and the own lease once the job is safe without it.

        A worker that only stopped hearing from the store may still hold the highest generation. That lease is
        all there is of the job, so it stays for a successor.
        """
        records = await self._records(claim.lease.job)
        if not records.video:
            await self.discard_deleted(claim)
        elif records.published:
            await self._finish(claim.lease.job)
        else:
            with suppress(LeaseLost):
                await self._leases.check(claim)
        await self.discard_run(claim)

    async def discard_run(self, claim: Claim) -> None:
        """Delete what this run wrote, unless a result names it."""
        result = await self._result(claim.lease.job)
        if result is None or result.run != claim.lease.run:
            await self._delete_outputs(keys.run_prefix(claim.lease.job.id, claim.lease.run))

    async def discard_deleted(self, claim: Claim) -> None:
        """Clean up after a video that was deleted while its job ran."""
        await delete_video(self._buckets, claim.lease.job.id)
        await self._abort_uploads(keys.video_prefix(claim.lease.job.id))
        await self._leases.delete_all(claim.request)

    async def _take_over(self, seen: SeenLease, lease: Lease) -> Claim | None:
        generation = seen.generation + 1
        crashed = lease.state is LeaseState.RUNNING
        successor = Lease(
            job=lease.job,
            owner=self._owner,
            run=keys.run_name(seen.request, generation, self._run_token()),
            attempt=lease.attempt + (1 if crashed else 0),
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
        except RecordUnreadable as error:
            log.warning("marker_unreadable", request=request, error=error.message)
            return None
        run = keys.run_name(request, 0, self._run_token())
        claim = await self._leases.create(Lease(job=job, owner=self._owner, run=run, attempt=1), 0)
        if claim is None:
            return None
        if not await self._exists(marker):
            # It was claimed, finished and cleaned up between our LIST and our lease.
            await self._buckets.raw.delete(claim.key)
            return None
        await self._buckets.raw.delete(marker)
        return claim

    async def _settle(self, claim: Claim) -> bool:
        """Finish a job that has already ended one way or the other; say whether it had."""
        job = claim.lease.job
        records = await self._records(job)
        if not records.video:
            await self.discard_deleted(claim)
            return True
        if records.published:
            try:
                await self._finish(job)
            except VideoDeleted:
                await self.discard_deleted(claim)
            return True
        if claim.generation == 0:
            return False
        try:
            letter = await self._buckets.raw.get(keys.dead_letter(job.request))
        except ObjectNotFound:
            return False
        await self._finish_failed(job, DeadLetter.from_json(letter.body))
        return True

    async def _finish(self, job: Job) -> None:
        """Bring everything in line with the published result. Idempotent; leases go last."""
        outputs = await self._result(job)
        if outputs is None:
            raise VideoDeleted
        await self._buckets.video.put(keys.status(job.id), complete_status(outputs).to_json())
        if not self._keep_originals:
            await self._buckets.raw.delete(job.source)
        await self._delete_runs(job, keep=outputs.run)
        await self._buckets.raw.delete(keys.dead_letter(job.request))
        if not (await self._records(job)).video:
            await delete_video(self._buckets, job.id)
        await self._leases.delete_all(job.request)

    async def _finish_failed(self, job: Job, letter: DeadLetter) -> None:
        await self._buckets.video.put(keys.status(job.id), failed_status(letter).to_json())
        await self._delete_runs(job, keep=None)
        if not (await self._records(job)).video:
            await delete_video(self._buckets, job.id)
        await self._leases.delete_all(job.request)

    async def _delete_runs(self, job: Job, *, keep: str | None) -> None:
        """Delete every run of this request but one, with its open multipart uploads."""
        kept = keys.run_prefix(job.id, keep) if keep else None
        prefix = keys.runs_of_request(job.id, job.request)
        await self._delete_outputs(prefix, kept)

    async def _delete_outputs(self, prefix: str, kept: str | None = None) -> None:
        await self._abort_uploads(prefix)
        doomed = [
            info.key
            async for info in self._buckets.video.list_all(prefix)
            if kept is None or not info.key.startswith(kept)
        ]
        await self._buckets.video.delete_many(doomed)

    async def _abort_uploads(self, prefix: str) -> None:
        async for upload in self._buckets.video.list_uploads(prefix):
            await self._buckets.video.abort_upload(upload.key, upload.upload_id)

    async def _records(self, job: Job) -> "_Records":
        """One LIST tells both: `results/...` and `video.json` sort behind every run of the video."""
        page = await self._buckets.video.list_page(
            keys.video_prefix(job.id), start_after=keys.results_of(job.id)
        )
        names = {info.key for info in page.objects}
        return _Records(
            video=keys.video_record(job.id) in names,
            published=keys.result(job.id, job.request) in names,
        )

    async def _result(self, job: Job) -> Outputs | None:
        try:
            stored = await self._buckets.video.get(keys.result(job.id, job.request))
        except ObjectNotFound:
            return None
        return Outputs.from_json(stored.body)

    async def _exists(self, marker: str) -> bool:
        try:
            await self._buckets.raw.head(marker)
        except ObjectNotFound:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Records:
    video: bool
    published: bool


def _view(objects: list[ObjectInfo], page: Listing) -> QueueView:
    markers = []
    for info in objects:
        try:
            markers.append(keys.parse_marker(info.key))
        except BadRequest:
            continue
    return QueueView(tuple(markers), tuple(highest_generations(objects)), page.store_now)
