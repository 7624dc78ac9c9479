"""One request that appends bytes to a resumable upload."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Protocol

import structlog

from backend.core import keys
from backend.core.concurrency import run_shielded
from backend.core.errors import (
    ChecksumMismatch,
    EmptyUpload,
    LengthFixed,
    ObjectNotFound,
    OffsetMismatch,
    StorageFull,
    StoreError,
    UnsupportedType,
    UploadLocked,
    UploadTooLarge,
    UploadVanished,
    VodbucketError,
)
from backend.core.store.interface import Buckets, Store
from backend.core.store.ranged_read import read_span
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.part_writer import PartWriter, UploadPlan
from backend.core.uploads.quota import UploadRules
from backend.core.uploads.records import Role, Tail, UploadInfo, UploadProgress, UploadState
from backend.core.uploads.resumable import finishing
from backend.core.uploads.resumable.locks import UploadLock
from backend.core.uploads.sniff import SNIFF_BYTES, MediaCheck

log = structlog.get_logger(__name__)

SLOW_SAVE_SECONDS = 30.0
"""A slow client's bytes are stored after this time even if they do not fill a part."""
SLOW_POLL_SECONDS = 2.0
SPARE_TAILS = 3
"""The newest tails are kept, because a heartbeat that arrives late may name one of them."""


class Checksum(Protocol):
    """The checksum that a client sent with its bytes."""

    def update(self, data: bytes) -> None: ...

    def matches(self) -> bool: ...


class AppendRequest:
    """One request that appends bytes to an upload whose lock it holds."""

    def __init__(
        self,
        raw: Store,
        retrying: Buckets,
        buffers: PartBuffers,
        rules: UploadRules,
        info: UploadInfo,
        lock: UploadLock,
        length: int | None,
        checksum: Checksum | None,
        complete: Callable[[UploadInfo, UploadProgress], Awaitable[None]],
    ) -> None:
        self._raw = raw
        self._retrying = retrying
        self._rules = rules
        self._info = info
        self._lock = lock
        self._max_bytes = min(rules.max_bytes, info.max_bytes or rules.max_bytes)
        self._begin = lock.progress
        self._new_length = length
        self._checksum = checksum
        self._complete = complete
        self._tails_named = 0
        self._tails: list[str] = []
        """Keys of tails that this request named and has not deleted."""
        tail = self._begin.tail
        tail_bytes = tail.size_bytes if tail else 0
        self._writer = PartWriter(
            retrying.raw,
            keys.upload(info.id),
            UploadPlan.of_parts(info.part_size_bytes),
            buffers,
            upload_id=self._begin.upload_id,
            stored_parts=(self._begin.offset - tail_bytes) // info.part_size_bytes,
            tail=tail,
            tail_key=self._name_tail,
        )
        self._clock = asyncio.get_running_loop().time
        self._stored_at, self._stored_bytes = self._clock(), self._writer.stored_bytes
        sniffs = info.role is Role.WHOLE and self._begin.offset < SNIFF_BYTES
        self._media_check = MediaCheck() if sniffs else None

    async def run(self, offset: int, body: AsyncIterator[bytes], body_bytes: int | None) -> UploadState:
        try:
            length = self._admit(offset, body_bytes)
        except VodbucketError:
            await self._lock.release(self._begin)
            raise
        finished = False
        try:
            async with self._lock.heartbeat(self._progress, self._stop_reading), self._storing_slow_bytes():
                await self._record_length(length)
                await self._read(body)
                if self._writer.received_bytes == length:
                    await self._finish()
                    finished = True
        except (ChecksumMismatch, UnsupportedType):
            await run_shielded(self._roll_back())
            raise
        except BaseException:  # including a lost client and a server that stops: the bytes so far are kept
            await run_shielded(self._store_and_release())
            raise
        if finished:
            return await finishing.mark_finished(self._retrying, self._info)
        await self._store_and_release()
        return UploadState(self._info, self._lock.progress.offset)

    def _admit(self, offset: int, body_bytes: int | None) -> int | None:
        """Refuse what cannot be appended before reading any of it. Return the upload's length."""
        known, max_bytes = self._info.length, self._max_bytes
        if self._new_length is not None and known not in (None, self._new_length):
            raise LengthFixed
        length = known if known is not None else self._new_length
        if offset != self._begin.offset:
            raise OffsetMismatch
        if length is not None and length > max_bytes:
            raise UploadTooLarge
        if length is not None and length < offset:
            raise LengthFixed("The upload is already longer than this length.")
        if length == 0 and self._info.role is Role.WHOLE:
            raise EmptyUpload
        if body_bytes is not None and offset + body_bytes > (max_bytes if length is None else length):
            raise UploadTooLarge("The request is longer than the rest of the upload.")
        return length

    async def _record_length(self, length: int | None) -> None:
        """Record a length that was deferred until now. Raises: StorageFull."""
        if length is not None and self._info.length is None:
            await self._rules.quota.admit_bytes(self._raw, length, [keys.upload_info(self._info.id)])
            self._info = self._info.replace(length=length)
            await self._retrying.raw.put(keys.upload_info(self._info.id), self._info.to_json())

    async def _read(self, body: AsyncIterator[bytes]) -> None:
        limit, too_long = await self._limit()
        holder = self._lock.holder
        if self._media_check is not None and self._begin.tail is not None:
            await self._check_tail(self._media_check, self._begin.tail)
        try:
            async with asyncio.timeout(None) as reading:

                def stop_reading() -> None:
                    if not reading.expired():
                        reading.reschedule(self._clock())

                holder.heard_at = self._clock()
                holder.stop_reading = stop_reading
                async for chunk in body:
                    holder.heard_at = inf  # the client is not silent: it waits for us
                    if self._writer.received_bytes + len(chunk) > limit:
                        raise too_long
                    if self._media_check is not None:
                        self._media_check.feed(chunk)
                    if self._checksum is not None:
                        self._checksum.update(chunk)
                    await self._writer.write(chunk)
                    holder.heard_at = self._clock()
        except TimeoutError:
            if not reading.expired():
                raise
            raise UploadLocked("Another request has taken over this upload.") from None
        finally:
            holder.stop_reading = None
        if self._checksum is not None:
            if not self._checksum.matches():
                raise ChecksumMismatch
            self._checksum = None
        if self._media_check is not None:
            self._media_check.end()

    async def _limit(self) -> tuple[int, VodbucketError]:
        """Return the largest size of the upload, and the error of a longer one."""
        too_long = UploadTooLarge("The request is longer than the rest of the upload.")
        if self._info.length is not None:
            return self._info.length, too_long
        own = [keys.upload_info(self._info.id)]
        room = await self._rules.quota.admit_bytes(self._raw, self._begin.offset, own)
        return (room, StorageFull()) if room < self._max_bytes else (self._max_bytes, too_long)

    async def _check_tail(self, check: MediaCheck, tail: Tail) -> None:
        """Feed the check the bytes of earlier requests: the connection broke within the first few."""
        try:
            async for chunk in read_span(self._retrying.raw, tail.key, 0, min(tail.size_bytes, SNIFF_BYTES)):
                check.feed(chunk)
        except ObjectNotFound:
            raise UploadVanished from None

    @asynccontextmanager
    async def _storing_slow_bytes(self) -> AsyncIterator[None]:
        """Store a slow client's bytes from time to time. With a checksum they only count at the end."""
        if self._checksum is not None:
            yield
            return
        storing = asyncio.create_task(self._store_slow_bytes())
        try:
            yield
        finally:
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)

    async def _store_slow_bytes(self) -> None:
        while True:
            await asyncio.sleep(SLOW_POLL_SECONDS)
            now = self._clock()
            if self._writer.stored_bytes > self._stored_bytes:
                self._stored_at, self._stored_bytes = now, self._writer.stored_bytes
            elif now - self._stored_at >= SLOW_SAVE_SECONDS and not self._writer.busy:
                self._stored_at = now
                try:
                    await self._writer.store_tail()
                    await self._delete_spare_tails()
                except StoreError as error:  # the next attempt may succeed
                    log.warning("upload_bytes_not_stored", upload=self._info.id, error=error.message)

    async def _delete_spare_tails(self) -> None:
        recorded = self._lock.progress.tail
        spare = [key for key in self._tails[:-SPARE_TAILS] if recorded is None or key != recorded.key]
        await self._raw.delete_many(spare)
        self._tails = [key for key in self._tails if key not in spare]

    def _stop_reading(self) -> None:
        if self._lock.holder.stop_reading is not None:
            self._lock.holder.stop_reading()

    def _progress(self) -> UploadProgress:
        """Return what another server can continue from if this process dies now."""
        latest, writer = self._lock.progress, self._writer
        if self._checksum is not None or writer.stored_bytes <= latest.offset:
            return latest
        return latest.replace(offset=writer.stored_bytes, upload_id=writer.upload_id, tail=writer.stored_tail)

    async def _store_and_release(self) -> None:
        """Store all bytes that arrived, then release the lock."""
        try:
            if self._checksum is None:
                await self._writer.store_tail()
            await self._writer.drain()
        finally:
            await self._writer.stop()
            await self._lock.release(self._progress())

    async def _roll_back(self) -> None:
        """Release the lock with the progress from before this request."""
        try:
            # A part with wrong bytes that is still being sent could overwrite the right one later.
            with suppress(StoreError):
                await self._writer.drain()
        finally:
            await self._writer.stop()
            await self._lock.release(self._lock.progress)

    async def _finish(self) -> None:
        writer = self._writer
        if writer.upload_id is None:
            await writer.put_whole()
            progress = self._lock.progress
        else:
            await writer.flush()
            # Once this is recorded, any request can finish the upload if this process dies.
            progress = self._lock.progress.replace(
                offset=self._info.length, upload_id=writer.upload_id, tail=None
            )
            await self._lock.save(lambda: progress)
        await self._complete(self._info, progress)

    def _name_tail(self) -> str:
        self._tails_named += 1
        key = keys.upload_tail(self._info.id, self._lock.generation, self._tails_named)
        self._tails.append(key)
        return key
