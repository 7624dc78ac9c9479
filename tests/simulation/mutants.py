"""Mutants: each breaks one step of the protocol on purpose and names the invariant that must catch it.

They override methods of the product and of the store. None is a copy of the product.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from backend.core import keys
from backend.core.errors import ObjectNotFound, StoreUnavailable
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim, Leases, SeenLease
from backend.core.jobs.snapshot import Waiting
from backend.core.library.videos import add_video
from backend.core.records import DeadLetter, Job, Lease, Outputs, Status, StatusError, Video
from backend.core.store.interface import PLAIN, Buckets, ObjectHeaders
from tests.simulation.faults import Fate
from tests.simulation.schedule import Protocol
from tests.simulation.scheduler import Call
from tests.simulation.world import RemoteStore

SDK_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    protocol: Protocol
    caught_by: str
    """A regular expression for the message of the violated invariant."""

    def with_chunks(self, *chunks: int) -> "Mutant":
        """Return the mutant in schedules whose videos are divided into so many chunks (0: not at all)."""
        return replace(self, protocol=replace(self.protocol, chunks=chunks))


# Stores


class Overwriting(RemoteStore):
    """Ignores create-only for keys that match `part`, as some stores do for all keys."""

    part = ""

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        if not re.search(self.part, key):
            return await super().create(key, body, headers)
        await self.put(key, body, headers)
        return True


class OverwritingLeases(Overwriting):
    part = keys.LEASES


class OverwritingOutcomes(Overwriting):
    part = "/results/"


class OverwritingRecords(Overwriting):
    part = "/video.json"


class RetryingCreate(RemoteStore):
    """An SDK that retries a conditional write after a lost response, and believes the 412 that follows."""

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        for _ in range(SDK_ATTEMPTS):
            try:
                created: bool = await Call(self._bucket, "create", (key, body))
            except StoreUnavailable:
                continue
            return created
        raise StoreUnavailable


# Claiming


class ClaimByDelete(JobQueue):
    """Deletes the marker before the job is stored anywhere else."""

    async def _claim_marker(self, waiting: Waiting) -> Claim | None:
        try:
            job = Job.from_json((await self._buckets.raw.get(waiting.key)).body)
        except ObjectNotFound:
            return None
        await self._buckets.raw.delete(waiting.key)
        run = keys.run_name(waiting.request, 0, self._run_token())
        return await self._leases.create(Lease(job=job, owner=self._owner, run=run, attempt=1), 0)


class ClaimWithoutCheck(JobQueue):
    """Does not check that the marker still exists after creating the lease."""

    async def _still_waits(self, marker: str) -> bool:
        return True


class OldLeaseDeletedFirst(JobQueue):
    """Takes over by deleting the dead worker's lease before creating its own."""

    async def _take_over(self, seen: SeenLease, lease: Lease) -> Claim | None:
        await self._buckets.raw.delete_many([*seen.older, seen.info.key])
        return await super()._take_over(seen, lease)


class OwnClock(JobQueue):
    """Computes the age of a lease by the worker's clock."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._leases = _OwnClockLeases(self)


class _OwnClockLeases(Leases):
    def __init__(self, queue: JobQueue) -> None:
        super().__init__(queue._buckets.raw, queue.lease.total_seconds())
        self._now = queue._now

    async def takeable(self, seen: list[SeenLease], store_now: datetime) -> list[tuple[SeenLease, Lease]]:
        return await super().takeable(seen, self._now())


# Holding and releasing


class BlindHeartbeat(JobQueue):
    """Rewrites the lease and checks nothing."""

    async def renew(self, claim: Claim) -> None:
        await self._buckets.raw.put(claim.key, claim.lease.to_json())


class RetryUnderTheMarkersKey(JobQueue):
    """Stores a failed job under its old marker again."""

    async def release(self, claim: Claim, **how: Any) -> None:
        await self._leases.check(claim)
        await self._buckets.raw.put(claim.lease.job.marker, claim.lease.job.to_json())
        await self._buckets.raw.delete(claim.key)


class RunDiscardedUnseen(JobQueue):
    """Deletes its run after a failure without checking whether it was published after all."""

    async def discard_run(self, claim: Claim) -> None:
        await self._delete_outputs(keys.run_prefix(claim.lease.job.id, claim.lease.run))


class DoubtForgotten(JobQueue):
    """Deletes its run although a publication whose response was lost may still take effect."""

    @property
    def _in_doubt(self) -> set[str]:
        return set()

    @_in_doubt.setter
    def _in_doubt(self, runs: set[str]) -> None:
        pass


# Ending


class SourceDeletedFirst(JobQueue):
    """Deletes the source before publishing the outputs."""

    async def publish(self, claim: Claim, outputs: Outputs) -> bool:
        await self._buckets.raw.delete(claim.lease.job.source)
        return await super().publish(claim, outputs)


class LeasesDeletedFirst(JobQueue):
    """Deletes the leases as the first step of finishing a job."""

    async def _finish(self, job: Job, *arguments: Any) -> None:
        await self._leases.delete_all(job.request)
        await super()._finish(job, *arguments)


class FailureReplacesTheOutcome(JobQueue):
    """Marks a job as failed without checking whether it has an outcome."""

    async def bury(self, claim: Claim, error: StatusError) -> bool:
        await self._leases.check(claim)
        job = claim.lease.job
        letter = DeadLetter(job=job, error=error, attempts=claim.lease.attempt, failed_at=self._now())
        await self._buckets.video.put(keys.result(job.id, job.request), letter.to_json())
        await self._finish(job, letter, claim)
        return True


# Uploading


async def add_video_unqueued(buckets: Buckets, video: Video, job: Job) -> Status:
    """Acknowledge an upload before its marker is written."""
    return await add_video(Buckets(_Unqueued("raw"), buckets.video), video, job)


class _Unqueued(RemoteStore):
    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        return True


_FROZEN = frozenset({Fate.FREEZE_BEFORE, Fate.FREEZE_AFTER})
_SLOW = frozenset({Fate.SLOW, Fate.FREEZE_BEFORE})
_LOST = frozenset({Fate.LOST})
_REPEATED = frozenset({Fate.REPEATED, Fate.FREEZE_BEFORE})
_KILLED = frozenset({Fate.CRASH_BEFORE, Fate.CRASH_AFTER})

_MUTANTS = (
    Mutant("lease not create-only", Protocol(store_class=OverwritingLeases), "two holders of one generation"),
    Mutant(
        "publication not create-only",
        Protocol(store_class=OverwritingOutcomes, often=_FROZEN),
        "the outcome .* was replaced",
    ),
    Mutant(
        "retry under the marker's key", Protocol(RetryUnderTheMarkersKey, often=_REPEATED), "the job is lost"
    ),
    Mutant("source deleted before the result", Protocol(SourceDeletedFirst), "the source of .* is gone"),
    Mutant("heartbeat that does not look", Protocol(BlindHeartbeat), "a heartbeat did not notice"),
    Mutant(
        "412 after a lost answer read as taken",
        Protocol(store_class=RetryingCreate, aimed=(Fate.LOST, "create")),
        "was told that it lost",
    ),
    Mutant("claim by delete", Protocol(ClaimByDelete), "the job is lost"),
    Mutant(
        "no second look at the marker",
        Protocol(ClaimWithoutCheck, often=_SLOW),
        "two holders of one generation",
    ),
    Mutant("old lease deleted before the new one", Protocol(OldLeaseDeletedFirst), "the job is lost"),
    Mutant("the worker's own clock", Protocol(OwnClock), "took over from a worker that had been silent"),
    Mutant("leases deleted first", Protocol(LeasesDeletedFirst, often=_KILLED), "(left|missing) at rest"),
    Mutant(
        "failure replaces the outcome",
        Protocol(FailureReplacesTheOutcome, often=_FROZEN),
        "the outcome .* was replaced",
    ),
    Mutant("run discarded unseen", Protocol(RunDiscardedUnseen, often=_LOST), "a published output is gone"),
    Mutant(
        "doubtful publication forgotten",
        Protocol(DoubtForgotten, aimed=(Fate.LATE, "create")),
        "a published output is gone|was published without",
    ),
    Mutant(
        "record not create-only",
        Protocol(store_class=OverwritingRecords, often=_FROZEN),
        "the (record|source) of .* is gone|the job is lost",
    ),
    Mutant("acknowledged before it is queued", Protocol(add_video=add_video_unqueued), "the job is lost"),
)
MUTANTS = tuple(mutant.with_chunks(0) for mutant in _MUTANTS)
