"""A read-only overview of all jobs for operators: queued, running, waiting for a retry, failed.

A job moves from its marker to a lease to its end. Listing in that order misses no job, and a job that is
listed twice is where it was listed last.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import BadRequest, ObjectNotFound, VideoNotFound
from backend.core.jobs.leases import SeenLease, highest_generations
from backend.core.library.videos import CONCURRENT_READS, read_video
from backend.core.records import (
    MAX_RECORD_BYTES,
    DeadLetter,
    Job,
    Lease,
    LeaseState,
    RecordUnreadable,
    Stage,
    Status,
    StatusError,
)
from backend.core.store.interface import Buckets, ObjectInfo, Store
from backend.core.store.prefixes import keys_below


class JobState(StrEnum):
    RUNNING = "running"
    """A worker holds its lease, or any number of them do its units. If the last heartbeat is old, the worker
    may be dead."""
    WAITING = "waiting"
    """An attempt failed or was handed back. The next one begins when it is due."""
    QUEUED = "queued"
    FAILED = "failed"
    """Failed for good. It can be queued again by hand."""
    UNREADABLE = "unreadable"
    """This version cannot read its record; `error` says why."""


class JobEntry(BaseModel):
    """One job. Fields that do not apply to its state are null."""

    model_config = ConfigDict(frozen=True)

    state: JobState
    request: str
    video_id: str
    title: str | None = Field(default=None, description="null if the video's record is gone or unreadable")
    queued_at: AwareDatetime | None = Field(
        default=None, description="by the clock of the process that queued it"
    )
    age_seconds: float | None = Field(default=None, description="time since then")
    changed_at: AwareDatetime = Field(description="when it was queued, last renewed, handed back or failed")
    unchanged_seconds: float = Field(description="time since then, by the store's clock alone")
    attempt: int | None = Field(
        default=None, description="current or next attempt; for a failed job, the number of attempts"
    )
    owner: str | None = Field(default=None, description="the worker that holds the lease")
    generation: int | None = None
    stage: Stage | None = None
    progress: float | None = Field(default=None, ge=0, le=1)
    units: int | None = Field(default=None, description="into how many units the job is divided")
    units_done: int | None = Field(default=None, description="how many of them are done")
    due_in_seconds: float | None = Field(default=None, description="0 when the next attempt may begin now")
    error: StatusError | None = Field(
        default=None, description="error of the last attempt, or why the record is unreadable"
    )


class JobsOverview(BaseModel):
    """Jobs by state. `counts` covers all jobs; `jobs` contains at most `limit` of each state."""

    model_config = ConfigDict(frozen=True)

    counts: dict[JobState, int]
    jobs: tuple[JobEntry, ...]


async def list_jobs(
    buckets: Buckets,
    *,
    states: Collection[JobState] = frozenset(JobState),
    limit: int | None = None,
    only: Set[str] | None = None,
) -> JobsOverview:
    """Return the jobs of these states: running, waiting, queued (oldest first), failed (latest first).

    `limit` bounds how many markers and how many dead letters are read, and how many entries of each state are
    returned. Leases are all read, as only their content tells running jobs from waiting ones. `only` are the
    videos whose jobs count; by default all do.
    """
    seen = await _list_requests(buckets.raw, only)
    reader = _Reader(buckets, seen.store_now)
    entries = [
        *await reader.read_all(reader.lease, [lease.info for lease in seen.leases]),
        *await reader.read_all(reader.marker, seen.markers[:limit]),
        *await reader.read_all(reader.letter, seen.letters[:limit]),
    ]
    counts = Counter(entry.state for entry in entries)
    if limit is not None:
        counts[JobState.QUEUED] += len(seen.markers[limit:])
        counts[JobState.FAILED] += len(seen.letters[limit:])
    jobs = [entry for state in JobState if state in states for entry in _of_state(entries, state)[:limit]]
    return JobsOverview(counts={state: counts[state] for state in JobState}, jobs=tuple(jobs))


def _of_state(entries: Sequence[JobEntry], state: JobState) -> list[JobEntry]:
    return [entry for entry in entries if entry.state is state]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What three LISTs showed. Each request is in one of the fields."""

    markers: tuple[ObjectInfo, ...]
    leases: tuple[SeenLease, ...]
    letters: tuple[ObjectInfo, ...]
    """Latest first."""
    store_now: datetime


async def _list_requests(raw: Store, only: Set[str] | None) -> _Seen:
    def counts(request: str | None) -> bool:
        return request is not None and (only is None or keys.video_of_request(request) in only)

    markers = [info async for info in raw.list_all(keys.QUEUE)]
    markers.sort(key=lambda info: _request_of(info) or "")
    leases = highest_generations([info async for info in raw.list_all(keys.LEASES)])
    letters = [info async for info in raw.list_all(keys.FAILED)]
    store_now = (await raw.list_page(keys.LEASES, limit=1)).store_now
    ended = {_request_of(info) for info in letters}
    held = ended | {seen.request for seen in leases}
    return _Seen(
        markers=tuple(
            info for info in markers if counts(request := _request_of(info)) and request not in held
        ),
        leases=tuple(seen for seen in leases if counts(seen.request) and seen.request not in ended),
        letters=tuple(
            sorted(
                (info for info in letters if counts(_request_of(info))),
                key=lambda info: info.modified,
                reverse=True,
            )
        ),
        store_now=store_now,
    )


def _request_of(info: ObjectInfo) -> str | None:
    """Return None for keys that do not belong to a job."""
    for parse in (keys.parse_marker, keys.parse_dead_letter):
        with suppress(BadRequest):
            return parse(info.key)
    return None


class _Reader:
    """Reads the listed records, a bounded number at a time. Records that are gone by then are left out."""

    def __init__(self, buckets: Buckets, store_now: datetime) -> None:
        self._buckets = buckets
        self._store_now = store_now
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def read_all(
        self, read: Callable[[ObjectInfo, bytes], Awaitable[JobEntry]], infos: Sequence[ObjectInfo]
    ) -> list[JobEntry]:
        async def entry_of(info: ObjectInfo) -> JobEntry | None:
            async with self._reads:
                try:
                    if info.size_bytes > MAX_RECORD_BYTES:
                        raise RecordUnreadable("it is too large for a record")
                    stored = await self._buckets.raw.get(info.key)
                    return await read(info, stored.body)
                except ObjectNotFound:
                    return None
                except RecordUnreadable as error:
                    return self._unreadable(info, error)

        found = await gather_or_cancel(entry_of(info) for info in infos)
        return [entry for entry in found if entry is not None]

    async def marker(self, info: ObjectInfo, body: bytes) -> JobEntry:
        job = Job.from_json(body)
        return await self._entry(JobState.QUEUED, info, job, attempt=1)

    async def lease(self, info: ObjectInfo, body: bytes) -> JobEntry:
        lease = Lease.from_json(body)
        error = StatusError(code="attempt_failed", message=lease.last_error) if lease.last_error else None
        entry = await self._entry(
            JobState.RUNNING,
            info,
            lease.job,
            attempt=lease.attempt,
            generation=keys.parse_lease(info.key).generation,
            error=error,
        )
        if lease.plan is not None:
            done = await self._units_done(lease.job.request, lease.plan)
            entry = entry.model_copy(update={"units": lease.units, "units_done": done})
        due = max(0.0, lease.retry_after_seconds - entry.unchanged_seconds)
        if lease.state is LeaseState.RELEASED and (due or not lease.is_parked):
            return entry.model_copy(update={"state": JobState.WAITING, "due_in_seconds": due})
        status = await self._status_of(lease.job)
        return entry.model_copy(
            update={
                "owner": None if lease.is_parked else lease.owner,
                "stage": status.stage if status else None,
                "progress": status.progress if status else None,
            }
        )

    async def _units_done(self, request: str, plan: int) -> int:
        listed = await keys_below(self._buckets.raw, keys.units_of_request(request))
        units = keys.ours(keys.parse_unit, listed)
        return sum(unit.plan == plan and unit.generation is None for unit in units)

    async def letter(self, info: ObjectInfo, body: bytes) -> JobEntry:
        letter = DeadLetter.from_json(body)
        return await self._entry(
            JobState.FAILED, info, letter.job, attempt=letter.attempts, error=letter.error
        )

    async def _entry(
        self,
        state: JobState,
        info: ObjectInfo,
        job: Job,
        *,
        attempt: int,
        generation: int | None = None,
        error: StatusError | None = None,
    ) -> JobEntry:
        return JobEntry(
            state=state,
            request=job.request,
            video_id=job.id,
            title=await self._title_of(job.id),
            queued_at=job.created_at,
            age_seconds=self._seconds_since(job.created_at),
            changed_at=info.modified,
            unchanged_seconds=self._seconds_since(info.modified),
            attempt=attempt,
            generation=generation,
            error=error,
        )

    def _unreadable(self, info: ObjectInfo, error: RecordUnreadable) -> JobEntry:
        request = _request_of(info) or keys.parse_lease(info.key).request
        return JobEntry(
            state=JobState.UNREADABLE,
            request=request,
            video_id=keys.video_of_request(request),
            changed_at=info.modified,
            unchanged_seconds=self._seconds_since(info.modified),
            error=StatusError(code=error.code, message=f"{info.key}: {error.message}"),
        )

    def _seconds_since(self, instant: datetime) -> float:
        return max(0.0, (self._store_now - instant).total_seconds())

    async def _title_of(self, video_id: str) -> str | None:
        try:
            return (await read_video(self._buckets, video_id)).title
        except (VideoNotFound, RecordUnreadable):
            return None

    async def _status_of(self, job: Job) -> Status | None:
        """Return None if the status belongs to another request, or this one has not reported yet."""
        try:
            status = Status.from_json((await self._buckets.video.get(keys.status(job.id))).body)
        except (ObjectNotFound, RecordUnreadable):
            return None
        if status.stage is Stage.QUEUED or status.request not in {None, job.request}:
            return None
        return status
