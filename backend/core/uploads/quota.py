"""Limits on uploads. What all uploads together use is counted in the bucket before any byte is read."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ObjectNotFound, StorageFull, TooManyUploads
from backend.core.records import RecordUnreadable
from backend.core.store.generations import group_generations
from backend.core.store.interface import Store
from backend.core.uploads.records import UploadInfo, UploadProgress

log = structlog.get_logger(__name__)

READS_IN_FLIGHT = 16
NO_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits on all uploads together; None means no limit.

    A resumable upload counts with its length, or until that is announced with what is stored of it; a raw
    body or a form, once it is stored. A request whose upload has no known length may send as much as there
    was room for when it began. Uploads that are sent at the same time may together exceed a limit.
    """

    max_open_uploads: int | None = None
    max_raw_bytes: int | None = None

    async def admit(self, raw: Store, size_bytes: int | None) -> int:
        """Check a new upload of this size, if known. Return the bytes that there is room for.

        Raises:
            TooManyUploads, StorageFull
        """
        if self.max_open_uploads is None and self.max_raw_bytes is None:
            return NO_LIMIT
        usage = await _usage(raw)
        if self.max_open_uploads is not None and len(usage.open_keys) >= self.max_open_uploads:
            raise TooManyUploads
        return await self._admit_bytes(raw, usage, size_bytes or 0)

    async def admit_bytes(self, raw: Store, size_bytes: int, replacing: Collection[str] = ()) -> int:
        """Check an open upload of this size. Objects at the keys `replacing`, its own for one, do not count.

        Return the bytes that there is room for.

        Raises:
            StorageFull
        """
        if self.max_raw_bytes is None:
            return NO_LIMIT
        return await self._admit_bytes(raw, await _usage(raw, except_for=replacing), size_bytes)

    async def _admit_bytes(self, raw: Store, usage: "_Usage", size_bytes: int) -> int:
        if self.max_raw_bytes is None:
            return NO_LIMIT
        slots = asyncio.Semaphore(READS_IN_FLIGHT)

        async def length_of(key: str) -> int:
            async with slots:
                return await _length_of(raw, key)

        lengths = await gather_or_cancel(length_of(key) for key in usage.open_keys)
        room = self.max_raw_bytes - usage.stored_bytes - sum(lengths)
        if size_bytes > room:
            raise StorageFull
        return room


NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True)
class UploadRules:
    """Limits on each resumable upload, and the quota that they share."""

    max_bytes: int
    lifetime: timedelta
    """How long after its creation an unfinished upload can be resumed."""
    quota: Quota = NO_QUOTA


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a guest's upload link allows one upload."""

    upload_id: str
    max_bytes: int
    ends_at: datetime
    """When its last byte must have arrived."""


@dataclass(frozen=True, slots=True)
class _Usage:
    stored_bytes: int
    open_keys: tuple[str, ...]
    """The records of unfinished uploads."""


async def _usage(raw: Store, except_for: Collection[str] = ()) -> _Usage:
    stored_bytes, open_keys = 0, list[str]()
    async for info in raw.list_all(keys.UPLOADS):
        if info.key in except_for:
            continue
        if info.key.endswith(".info"):
            open_keys += map(keys.upload_info, keys.ours(keys.upload_of, [info.key]))
        elif info.key.endswith(".orig"):
            stored_bytes += info.size_bytes
    return _Usage(stored_bytes, tuple(open_keys))


async def _length_of(raw: Store, key: str) -> int:
    try:
        info = UploadInfo.from_json((await raw.get(key)).body)
        return await _stored_of(raw, info.id) if info.length is None else info.length
    except ObjectNotFound:
        return 0  # finished since it was listed
    except RecordUnreadable as error:  # a foreign object must not prevent all uploads
        log.warning("record_unreadable", key=key, error=error.message)
        return 0


async def _stored_of(raw: Store, upload_id: str) -> int:
    listed = await raw.list_page(keys.upload_state(upload_id))
    generations = group_generations(listed.objects, keys.parse_upload_progress).get(upload_id)
    if generations is None:
        return 0
    _, newest = generations[-1]
    return UploadProgress.from_json((await raw.get(newest.key)).body).offset
