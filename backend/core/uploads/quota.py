"""How much the uploads of all people together may take: looked up in the bucket, before a byte is moved."""

import asyncio
from dataclasses import dataclass

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ObjectNotFound, StorageFull, TooManyUploads
from backend.core.store.interface import Store
from backend.core.uploads.records import UploadInfo

LOOKS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Quota:
    """None means no limit. Uploads that are announced at the same instant may together exceed one.

    What comes in a single request, a raw body or a form, is counted from when it is stored.
    """

    max_open_uploads: int | None = None
    max_raw_bytes: int | None = None

    async def admit(self, raw: Store, size_bytes: int | None) -> None:
        """Raises: TooManyUploads, StorageFull: one more upload, of this size if it is known, is too much."""
        if self.max_open_uploads is None and self.max_raw_bytes is None:
            return
        usage = await _usage(raw)
        if self.max_open_uploads is not None and len(usage.open_keys) >= self.max_open_uploads:
            raise TooManyUploads
        await self._admit_bytes(raw, usage, size_bytes or 0)

    async def admit_bytes(self, raw: Store, size_bytes: int) -> None:
        """Raises: StorageFull: an open upload, whose size is told only now, is too much."""
        if self.max_raw_bytes is not None:
            await self._admit_bytes(raw, await _usage(raw), size_bytes)

    async def _admit_bytes(self, raw: Store, usage: "_Usage", size_bytes: int) -> None:
        if self.max_raw_bytes is None:
            return
        places = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def announced(key: str) -> int:
            async with places:
                return await _announced(raw, key)

        known = await gather_or_cancel(announced(key) for key in usage.open_keys)
        if usage.stored_bytes + sum(known) + size_bytes > self.max_raw_bytes:
            raise StorageFull


NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True)
class _Usage:
    stored_bytes: int
    open_keys: tuple[str, ...]
    """The records of uploads that are not finished."""


async def _usage(raw: Store) -> _Usage:
    stored_bytes, open_keys = 0, []
    async for info in raw.list_all(keys.UPLOADS):
        if info.key.endswith(".info"):
            open_keys.append(info.key)
        elif info.key.endswith(".orig"):
            stored_bytes += info.size_bytes
    return _Usage(stored_bytes, tuple(open_keys))


async def _announced(raw: Store, key: str) -> int:
    try:
        return UploadInfo.from_json((await raw.get(key)).body).length or 0
    except ObjectNotFound:
        return 0  # finished meanwhile
