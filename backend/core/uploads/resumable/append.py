"""One request that brings bytes of a resumable upload."""

import asyncio
from collections.abc import AsyncIterator
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
    StoreError,
    UnsupportedType,
    UploadLocked,
    UploadTooLarge,
    UploadVanished,
    VodbucketError,
)
from backend.core.uploads.part_writer import PartWriter, UploadPlan
from backend.core.uploads.records import Role, Tail, UploadInfo, UploadProgress
from backend.core.uploads.resumable.desk import UploadDesk, UploadState
from backend.core.uploads.resumable.locks import UploadLock
from backend.core.uploads.sniff import SNIFF_BYTES, MediaCheck

log = structlog.get_logger(__name__)

SLOW_SAVE_SECONDS = 30.0
"""So much time passes at most until a slow client's bytes are stored, whole part or not."""
SLOW_LOOK_SECONDS = 2.0
SPARE_TAILS = 3
"""A heartbeat that arrives late names one of the latest."""


class Checksum(Protocol):
    """A checksum that a client has sent along with bytes."""

    def update(self, data: bytes) -> None: ...

    def matches(self) -> bool: ...


class AppendRequest:
    """One request that adds bytes to an upload which it holds."""

    def __init__(
        self,
        desk: UploadDesk,
        info: UploadInfo,
        lock: UploadLock,
        length: int | None,
        checksum: Checksum | None,
    ) -> None:
        self._desk = desk
        self._info = info
        self._lock = lock
        self._begin = lock.progress
        self._new_length = length
        self._checksum = checksum
        self._named_tails = 0
        self._tails: list[str] = []
        """Those that this has named and not forgotten."""
        tail = self._begin.tail
        tail_bytes = tail.size_bytes if tail else 0
        self._writer = PartWriter(
            desk.retrying.raw,
            keys.upload(info.id),
            UploadPlan.of_parts(info.part_size_bytes),
            desk.buffers,
            upload_id=self._begin.upload_id,
            stored_parts=(self._begin.offset - tail_bytes) // info.part_size_bytes,
            tail=tail,
            tail_key=self._name_tail,
        )
        self._clock = asyncio.get_running_loop().time
        self._stored_at, self._stored_bytes = self._clock(), self._writer.stored_bytes
        sniffs = info.role is Role.WHOLE and self._begin.offset < SNIFF_BYTES
        self._check = MediaCheck() if sniffs else None

    async def run(self, offset: int, body: AsyncIterator[bytes], body_bytes: int | None) -> UploadState:
        try:
            length = self._admit(offset, body_bytes)
        except VodbucketError:
            await self._lock.release(self._begin)
            raise
        arrived: int | None = None
        try:
            async with self._lock.beating(self._progress, self._stop_reading), self._storing_slow_bytes():
                await self._note_length(length)
                await self._read(body, length)
                if length is not None and self._writer.received_bytes == length:
                    await self._finish(length)
                    arrived = length
        except (ChecksumMismatch, UnsupportedType):
            await run_shielded(self._give_up())
            raise
        except BaseException:  # a client that has gone, a server that stops: what has arrived is kept
            await run_shielded(self._keep())
            raise
        if arrived is not None:
            return await self._desk.conclude(self._info, arrived)
        await self._keep()
        return UploadState(self._info, self._lock.progress.offset, length)

    def _admit(self, offset: int, body_bytes: int | None) -> int | None:
        """Refuse early what cannot be added; return the upload's length."""
        known, rules = self._info.length, self._desk.rules
        if self._new_length is not None and known not in (None, self._new_length):
            raise LengthFixed
        length = known if known is not None else self._new_length
        if offset != self._begin.offset:
            raise OffsetMismatch
        if length is not None and length > rules.max_bytes:
            raise UploadTooLarge
        if length is not None and length < offset:
            raise LengthFixed("The upload is longer than this length already.")
        if length == 0 and self._info.role is Role.WHOLE:
            raise EmptyUpload
        limit = rules.max_bytes if length is None else length
        if body_bytes is not None and offset + body_bytes > limit:
            raise UploadTooLarge("The request is longer than what is left of the upload.")
        return length

    async def _note_length(self, length: int | None) -> None:
        """Note a length that is announced only now. Raises: StorageFull."""
        if length is not None and self._info.length is None:
            await self._desk.rules.quota.admit_bytes(self._desk.buckets.raw, length)
            self._info = self._info.replace(length=length)
            await self._desk.retrying.raw.put(keys.upload_info(self._info.id), self._info.to_json())

    async def _read(self, body: AsyncIterator[bytes], length: int | None) -> None:
        limit = self._desk.rules.max_bytes if length is None else length
        holder = self._lock.holder
        if self._check is not None and self._begin.tail is not None:
            await self._look_back(self._check, self._begin.tail)
        try:
            async with asyncio.timeout(None) as reading:

                def stop_reading() -> None:
                    if not reading.expired():
                        reading.reschedule(self._clock())

                holder.heard_at = self._clock()
                holder.stop_reading = stop_reading
                async for chunk in body:
                    holder.heard_at = inf  # from here on it is we who keep the client waiting
                    if self._writer.received_bytes + len(chunk) > limit:
                        raise UploadTooLarge("The request is longer than what is left of the upload.")
                    if self._check is not None:
                        self._check.feed(chunk)
                    if self._checksum is not None:
                        self._checksum.update(chunk)
                    await self._writer.write(chunk)
                    holder.heard_at = self._clock()
        except TimeoutError:
            if not reading.expired():
                raise
            raise UploadLocked("Another request has gone on with this upload.") from None
        finally:
            holder.stop_reading = None
        if self._checksum is not None:
            if not self._checksum.matches():
                raise ChecksumMismatch
            self._checksum = None
        if self._check is not None:
            self._check.end()

    async def _look_back(self, check: MediaCheck, tail: Tail) -> None:
        """Begin with what has arrived before: the connection broke within the first bytes."""
        try:
            check.feed((await self._desk.retrying.raw.get(tail.key)).body)
        except ObjectNotFound:
            raise UploadVanished from None

    @asynccontextmanager
    async def _storing_slow_bytes(self) -> AsyncIterator[None]:
        """Store what a slow client has sent for a while. With a checksum that counts at its end alone."""
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
            await asyncio.sleep(SLOW_LOOK_SECONDS)
            now = self._clock()
            if self._writer.stored_bytes > self._stored_bytes:
                self._stored_at, self._stored_bytes = now, self._writer.stored_bytes
            elif now - self._stored_at >= SLOW_SAVE_SECONDS and not self._writer.busy:
                self._stored_at = now
                try:
                    await self._writer.set_aside()
                    await self._forget_spare_tails()
                except StoreError as error:  # it may be back the next time
                    log.warning("upload_bytes_not_stored", upload=self._info.id, error=error.message)

    async def _forget_spare_tails(self) -> None:
        written = self._lock.progress.tail
        spare = [key for key in self._tails[:-SPARE_TAILS] if written is None or key != written.key]
        await self._desk.buckets.raw.delete_many(spare)
        self._tails = [key for key in self._tails if key not in spare]

    def _stop_reading(self) -> None:
        if self._lock.holder.stop_reading is not None:
            self._lock.holder.stop_reading()

    def _progress(self) -> UploadProgress:
        """What is safe to go on from, should this process die now."""
        latest, writer = self._lock.progress, self._writer
        if self._checksum is not None or writer.stored_bytes <= latest.offset:
            return latest
        return latest.replace(
            offset=writer.stored_bytes,
            upload_id=writer.upload_id,
            tail=writer.stored_tail,
        )

    async def _keep(self) -> None:
        """Store all that has arrived, and let go of the upload."""
        try:
            if self._checksum is None:
                await self._writer.set_aside()
            await self._writer.settle()
        finally:
            await self._writer.stop()
            await self._lock.release(self._progress())

    async def _give_up(self) -> None:
        """Let go of the upload as it was before this request."""
        try:
            # A part with wrong bytes that is still under way could arrive behind the right one.
            with suppress(StoreError):
                await self._writer.settle()
        finally:
            await self._writer.stop()
            await self._lock.release(self._lock.progress)

    async def _finish(self, length: int) -> None:
        writer = self._writer
        if writer.upload_id is None:
            await writer.put_whole()
            progress = self._lock.progress
        else:
            await writer.flush()
            # From here on the upload is finished by whoever comes across it.
            progress = self._lock.progress.replace(offset=length, upload_id=writer.upload_id, tail=None)
            await self._lock.save(lambda: progress)
        await self._desk.finish(self._info, progress, length)

    def _name_tail(self) -> str:
        self._named_tails += 1
        key = keys.upload_tail(self._info.id, self._lock.generation, self._named_tails)
        self._tails.append(key)
        return key
