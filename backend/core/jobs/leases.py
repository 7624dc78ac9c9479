"""Leases: who may run a job, decided by create-only writes and the store's own clock (docs/queue.md).

A lease is one object per generation. Two workers can never create the same one. Its owner rewrites it as a
heartbeat, and a worker that takes over creates the next generation. The highest generation is the holder.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from backend.core import keys
from backend.core.errors import LeaseLost, ObjectNotFound
from backend.core.records import MAX_RECORD_BYTES, Lease, LeaseState, RecordUnreadable
from backend.core.store.generations import group_generations
from backend.core.store.interface import ObjectInfo, Store
from backend.core.store.prefixes import keys_below
from backend.core.unit_records import UnitLease

log = structlog.get_logger(__name__)
L = TypeVar("L", Lease, UnitLease)

MIN_AGE = timedelta(seconds=1)
"""Leases younger than this are not read, as most were just taken. A released lease also waits this long."""
UNREADABLE_PAUSE = timedelta(seconds=15)
"""Before an unreadable record is read again: it may be foreign, or only the store's answer was damaged."""
READS_PER_POLL = 16
"""So that a new worker among a thousand running jobs claims its first one soon."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a job: a lease that this worker holds."""

    lease: Lease
    generation: int

    @property
    def request(self) -> str:
        return self.lease.job.request

    @property
    def key(self) -> str:
        return keys.lease(self.request, self.generation)


@dataclass(frozen=True, slots=True)
class SeenLease:
    """The highest generation of one request's leases, as a LIST showed it."""

    request: str
    generation: int
    info: ObjectInfo
    older: tuple[str, ...] = ()
    """Keys of the lower generations."""

    def age(self, store_now: datetime) -> timedelta:
        """Return the time since it was written. Both times are by the store's clock."""
        return store_now - self.info.modified


def highest_generations(objects: Iterable[ObjectInfo]) -> list[SeenLease]:
    """Return the highest lease of each request, oldest request first. Other objects are skipped."""
    readable = (info for info in objects if info.size_bytes <= MAX_RECORD_BYTES)
    groups = group_generations(readable, keys.parse_lease)
    return [
        SeenLease(request, *group[-1], tuple(info.key for _, info in group[:-1]))
        for request, group in sorted(groups.items())
    ]


class LeaseReader(Generic[L]):
    """Reads each version of a lease once: heartbeats rewrite the same bytes, so watching costs no requests.

    `parse` returns the lease with this key and body. Raises: RecordUnreadable.
    """

    def __init__(self, raw: Store, lease: timedelta, parse: Callable[[str, bytes], L]) -> None:
        self._raw = raw
        self._lease = lease
        self._parse: Callable[[str, bytes], L] = parse
        self._read: dict[tuple[str, str], L] = {}
        """By version of a lease."""
        self._unreadable: dict[tuple[str, str], datetime] = {}
        """When to read a version again."""

    async def watch(self, infos: Iterable[ObjectInfo], store_now: datetime) -> None:
        """Read some of the listed leases that are not known yet, and forget those that are not listed.

        The least recently written are read first: heartbeats keep all that run young.
        """
        listed = {_version(info): info for info in infos}
        self._read = {version: lease for version, lease in self._read.items() if version in listed}
        self._unreadable = {
            version: until
            for version, until in self._unreadable.items()
            if version in listed and until > store_now
        }
        known = {*self._read, *self._unreadable}
        unread = [info for version, info in listed.items() if version not in known]
        old = [info for info in unread if store_now - info.modified >= MIN_AGE]
        for info in sorted(old, key=lambda info: info.modified)[:READS_PER_POLL]:
            try:
                await self.read(info)
            except RecordUnreadable as error:
                self._unreadable[_version(info)] = store_now + UNREADABLE_PAUSE
                log.warning("lease_unreadable", key=info.key, error=error.message)
            except ObjectNotFound as error:
                log.warning("lease_unreadable", key=info.key, error=error.message)

    def known(self, info: ObjectInfo) -> L | None:
        """Return the lease as it was when it was listed, if it was read."""
        return self._read.get(_version(info))

    async def read(self, info: ObjectInfo) -> L:
        """Return the lease as it was when it was listed.

        Raises:
            ObjectNotFound: it is gone or was rewritten since, so its listed age does not match its content.
            RecordUnreadable
        """
        version = _version(info)
        if version not in self._read:
            stored = await self._raw.get(info.key)
            if info.etag and stored.info.etag != info.etag:
                raise ObjectNotFound(f"{info.key} was rewritten since it was listed")
            self._read[version] = self._parse(info.key, stored.body)
        return self._read[version]

    def is_due(self, lease: L, info: ObjectInfo, store_now: datetime) -> bool:
        """Return whether the lease may be taken over: it is silent for too long, or released and due."""
        age = store_now - info.modified
        if lease.state is LeaseState.RELEASED:
            return age >= max(MIN_AGE, timedelta(seconds=lease.retry_after_seconds))
        return age > self._lease


def _parse(key: str, body: bytes) -> Lease:
    lease = Lease.from_json(body)
    if lease.job.request != keys.parse_lease(key).request:
        raise RecordUnreadable(f"{key} is not the lease of this request")
    return lease


class Leases:
    """The leases of the raw bucket, as one worker sees them."""

    def __init__(self, raw: Store, lease_seconds: float) -> None:
        self._raw = raw
        self.lease = timedelta(seconds=lease_seconds)
        self._reader = LeaseReader(raw, self.lease, _parse)

    async def takeable(self, seen: list[SeenLease], store_now: datetime) -> list[tuple[SeenLease, Lease]]:
        """Return the leases that may be taken over now: silent for too long, or released and due."""
        await self._reader.watch((one.info for one in seen), store_now)
        known = [(one, self._reader.known(one.info)) for one in seen]
        return [
            (one, lease)
            for one, lease in known
            if lease is not None and self._reader.is_due(lease, one.info, store_now)
        ]

    def planned(self, seen: list[SeenLease]) -> list[tuple[SeenLease, Lease]]:
        """Return the leases whose job is divided, of those that `takeable` has read."""
        known = [(one, self._reader.known(one.info)) for one in seen]
        return [(one, lease) for one, lease in known if lease is not None and lease.plan is not None]

    async def create(self, lease: Lease, generation: int) -> Claim | None:
        """Try to become the holder of this generation. Returns None if another worker has it."""
        claim = Claim(lease, generation)
        return claim if await self._raw.create(claim.key, lease.to_json()) else None

    async def renew(self, claim: Claim) -> None:
        """Rewrite the lease as a heartbeat, then check that no higher generation exists.

        Raises:
            LeaseLost: another worker holds the job. This worker's lease has been deleted.
        """
        await self._raw.put(claim.key, claim.lease.to_json())
        await self.check(claim)

    async def check(self, claim: Claim) -> None:
        """Raises: LeaseLost: a higher generation exists. This worker's lease has been deleted."""
        page = await self._raw.list_page(keys.leases_of(claim.request))
        if any(one.generation > claim.generation for one in highest_generations(page.objects)):
            await self._raw.delete(claim.key)
            raise LeaseLost

    async def release(self, claim: Claim, released: Lease) -> None:
        """Give up the job. From now on, `released` says when it may be taken. Raises: LeaseLost."""
        await self.check(claim)
        await self._raw.put(claim.key, released.to_json())

    async def keys_of(self, request: str) -> list[str]:
        """Return the keys of all generations."""
        return await keys_below(self._raw, keys.leases_of(request))

    async def delete_all(self, request: str) -> None:
        """Delete all generations: the very last step of a job."""
        await self._raw.delete_many(await self.keys_of(request))

    async def read(self, seen: SeenLease) -> Lease:
        """Return the lease as it was when it was listed.

        Raises:
            ObjectNotFound: it is gone or was rewritten since, so its listed age does not match its content.
            RecordUnreadable
        """
        return await self._reader.read(seen.info)


def _version(info: ObjectInfo) -> tuple[str, str]:
    """Return what identifies one body of a lease. Without ETags, each rewrite counts as a new one."""
    return info.key, info.etag or info.modified.isoformat()
