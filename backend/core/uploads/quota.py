"""Limits on uploads. What all uploads together use is counted in the bucket before any byte is read."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ObjectNotFound, StorageFull, TooManyUploads
from backend.core.records import RecordUnreadable
from backend.core.store.interface import Store
from backend.core.uploads.records import UploadInfo

log = structlog.get_logger(__name__)

READS_IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits on all uploads together; None means no limit.

    A resumable upload counts once its length is announced, a raw body or a form once it is stored. Uploads
    that begin at the same instant may together exceed a limit.
    """

    max_open_uploads: int | None = None
    max_raw_bytes: int | None = None

    async def admit(self, raw: Store, size_bytes: int | None) -> None:
        """Raises: TooManyUploads, StorageFull: there is no room for another upload of this size, if known."""
        if self.max_open_uploads is None and self.max_raw_bytes is None:
            return
        usage = await _usage(raw)
        if self.max_open_uploads is not None and len(usage.open_keys) >= self.max_open_uploads:
            raise TooManyUploads
        await self._admit_bytes(raw, usage, size_bytes or 0)

    async def admit_bytes(self, raw: Store, size_bytes: int) -> None:
        """Raises: StorageFull: there is no room for an open upload whose size is only known now."""
        if self.max_raw_bytes is not None:
            await self._admit_bytes(raw, await _usage(raw), size_bytes)

    async def _admit_bytes(self, raw: Store, usage: "_Usage", size_bytes: int) -> None:
        if self.max_raw_bytes is None:
            return
        slots = asyncio.Semaphore(READS_IN_FLIGHT)

        async def length_of(key: str) -> int:
            async with slots:
                return await _length_of(raw, key)

        lengths = await gather_or_cancel(length_of(key) for key in usage.open_keys)
        if usage.stored_bytes + sum(lengths) + size_bytes > self.max_raw_bytes:
            raise StorageFull


NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True)
class UploadRules:
    """Limits on each resumable upload, and the quota that they share."""

    max_bytes: int
    lifetime: timedelta
    """How long after its creation an unfinished upload can be resumed."""
    quota: Quota = NO_QUOTA


@dataclass(frozen=True, slots=True)
class _Usage:
    stored_bytes: int
    open_keys: tuple[str, ...]
    """The records of unfinished uploads."""


async def _usage(raw: Store) -> _Usage:
    stored_bytes, open_keys = 0, list[str]()
    async for info in raw.list_all(keys.UPLOADS):
        if info.key.endswith(".info"):
            open_keys += map(keys.upload_info, keys.ours(keys.upload_of, [info.key]))
        elif info.key.endswith(".orig"):
            stored_bytes += info.size_bytes
    return _Usage(stored_bytes, tuple(open_keys))


async def _length_of(raw: Store, key: str) -> int:
    try:
        return UploadInfo.from_json((await raw.get(key)).body).length or 0
    except ObjectNotFound:
        return 0  # finished since it was listed
    except RecordUnreadable as error:  # a foreign object must not prevent all uploads
        log.warning("record_unreadable", key=key, error=error.message)
        return 0
