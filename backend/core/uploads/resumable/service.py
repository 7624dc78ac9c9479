"""Resumable uploads: files that arrive in any number of requests, at any server, over days.

Everything known about an upload is in the raw bucket (docs/objects.md), so any server can continue where
another was killed. Bytes are streamed into the parts of a multipart upload. The bytes after the last whole
part are stored as an object of their own, the tail, until the next request. A client is never told an offset
before the store holds the bytes.
"""

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel, run_shielded
from backend.core.errors import (
    EmptyUpload,
    FinalUpload,
    ObjectNotFound,
    OffsetMismatch,
    StoreError,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
    UploadTooLarge,
    UploadVanished,
    VideoNotFound,
)
from backend.core.ids import id_time, new_id
from backend.core.library.videos import read_video, remove_unfinished
from backend.core.records import AS_THE_WORKER_CHOOSES, TranscodeOptions
from backend.core.store.interface import Buckets, exists
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description
from backend.core.uploads.part_writer import UploadPlan
from backend.core.uploads.quota import Bounds, UploadRules
from backend.core.uploads.records import Role, UploadInfo, UploadProgress, UploadState
from backend.core.uploads.resumable import finishing
from backend.core.uploads.resumable.append import AppendRequest, Checksum
from backend.core.uploads.resumable.concatenation import (
    PartialUnfinished,
    Span,
    check_media_type,
    compose,
    id_of,
)
from backend.core.uploads.resumable.locks import UploadLock, UploadLocks

log = structlog.get_logger(__name__)

IDLE = timedelta(minutes=15)
"""A guest who has sent nothing for so long may lose the place to another one."""


class ResumableUploads:
    """Create, inspect, append to, concatenate and terminate resumable uploads."""

    def __init__(
        self,
        buckets: Buckets,
        retrying: Buckets,
        buffers: PartBuffers,
        rules: UploadRules,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_queued: Callable[[], None] = lambda: None,
    ) -> None:
        """`retrying` are the same buckets with retries, for work that would be lost if the store failed.

        `on_queued` is called when an upload has become a video: before its records are tidied up.
        """
        self._buckets = buckets
        self._retrying = retrying
        self._buffers = buffers
        self._rules = rules
        self._now = now
        self._on_queued = on_queued
        self._locks = UploadLocks(buckets.raw)

    async def create(
        self,
        length: int | None,
        description: Description,
        *,
        metadata: str | None = None,
        partial: bool = False,
        options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
        bounds: Bounds | None = None,
    ) -> UploadInfo:
        """Create an upload. `length` is in bytes, None while the client does not know it.

        Raises:
            UploadTooLarge, EmptyUpload, TooManyUploads, StorageFull
        """
        max_bytes = min(self._rules.max_bytes, bounds.max_bytes) if bounds else self._rules.max_bytes
        if length is not None and length > max_bytes:
            raise UploadTooLarge
        if length == 0 and not partial:
            raise EmptyUpload
        await self._rules.quota.admit(self._buckets.raw, length)
        info = self._new_info(
            Role.PARTIAL if partial else Role.WHOLE,
            length,
            description,
            concat="partial" if partial else None,
            metadata=metadata,
            options=options,
        )
        if bounds is not None:
            info = info.replace(
                id=bounds.upload_id,
                part_size_bytes=UploadPlan.for_size(length or max_bytes).part_size_bytes,
                max_bytes=max_bytes,
                expires_at=min(info.expires_at, bounds.ends_at),
            )
        await self._buckets.raw.put(keys.upload_info(info.id), info.to_json())
        log.info("upload_created", upload=info.id, length=length, role=info.role)
        return info

    async def info(self, upload_id: str, *, even_expired: bool = False) -> UploadInfo:
        """Return the upload's record. Clean up first if it is finished and a crash interrupted the clean-up.

        Raises:
            UploadNotFound, UploadExpired
        """
        try:
            stored = await self._buckets.raw.get(keys.upload_info(upload_id))
        except ObjectNotFound:
            try:
                stored = await self._buckets.raw.get(keys.upload_done(upload_id))
            except ObjectNotFound:
                raise UploadNotFound from None
        info = UploadInfo.from_json(stored.body)
        if info.has_expired(self._now()) and not even_expired:
            raise UploadExpired
        if info.finished and stored.info.key == keys.upload_info(upload_id):
            await finishing.clear(self._retrying.raw, info)
        return info

    async def head(self, upload_id: str) -> UploadState:
        """Return the upload's state. If a crash interrupted the last steps, finish the upload first.

        Raises:
            UploadNotFound, UploadExpired, UploadLocked
        """
        progress = await self._locks.stat(upload_id)
        # Read after the progress, which is only removed once this record says that the upload is finished.
        info = await self.info(upload_id)
        if info.finished:
            return UploadState.of_finished(info)
        if info.role is Role.FINAL:
            return UploadState(info, 0)
        if progress.offset == info.length:
            return await self._finish(upload_id)
        key = keys.upload(upload_id)
        is_open = progress.upload_id is not None and await self._buckets.raw.is_open(key, progress.upload_id)
        if not is_open and await finishing.is_assembled(self._retrying, info):
            return await self._finish(upload_id)
        if progress.upload_id is not None and not is_open:
            raise UploadExpired
        return UploadState(info, progress.offset)

    async def append(
        self,
        upload_id: str,
        offset: int,
        body: AsyncIterator[bytes],
        *,
        body_bytes: int | None = None,
        length: int | None = None,
        checksum: Checksum | None = None,
    ) -> UploadState:
        """Append `body` at `offset`, and finish the upload once it is complete.

        However the body ends, the bytes that arrived are stored; with a checksum, all of them or none.

        Raises:
            UploadNotFound, UploadExpired, UploadLocked, FinalUpload, UnsupportedType
            OffsetMismatch: the upload's offset is a different one.
            LengthFixed: `length` differs from the one announced before.
            UploadTooLarge: more bytes than announced, or than this server accepts.
            IncompleteUpload: the connection broke.
            ChecksumMismatch: none of the body was kept.
        """
        info = await self.info(upload_id)
        if info.role is Role.FINAL:
            raise FinalUpload
        if not info.finished:
            async with self._locked(upload_id) as (info, lock):
                if not info.finished:
                    request = AppendRequest(
                        self._buckets.raw,
                        self._retrying,
                        self._buffers,
                        self._rules,
                        info,
                        lock,
                        length,
                        checksum,
                        self._complete,
                    )
                    return await request.run(offset, body, body_bytes)
        if offset == info.length and body_bytes == 0:
            return UploadState.of_finished(info)
        raise OffsetMismatch

    async def concatenate(
        self,
        partial_ids: Sequence[str],
        description: Description,
        *,
        header: str,
        metadata: str | None = None,
        options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    ) -> UploadState:
        """Make one upload, and a video, from complete partial uploads, in their order.

        Raises:
            PartialUnfinished, EmptyUpload, UploadTooLarge, StorageFull, UnsupportedType
            UploadNotFound: one of the partial uploads does not exist.
            UploadLocked: another request is doing the same.
        """
        final_id = id_of(partial_ids)
        state = await self._if_finished(final_id)
        if state is None:
            new_info = functools.partial(
                self._new_info,
                Role.FINAL,
                description=description,
                upload_id=final_id,
                concat=header,
                metadata=metadata,
                options=options,
            )
            async with self._locks.take(final_id) as lock:
                state = await self._concatenate(lock, final_id, partial_ids, new_info)
        # The records stay: a client that missed an answer asks about a piece again, and finds it complete.
        try:
            await self._buckets.raw.delete_many([keys.upload(partial_id) for partial_id in partial_ids])
        except StoreError as error:
            log.warning("partial_uploads_left", upload=final_id, error=error.message)
        return state

    async def terminate(self, upload_id: str) -> None:
        """Remove an upload and everything stored for it except its video.

        Raises:
            UploadNotFound, UploadLocked
        """
        info = await self.info(upload_id, even_expired=True)
        if info.finished:
            await finishing.remove(self._buckets.raw, info, self._now())
        else:
            async with self._locked(upload_id, even_expired=True) as (info, lock):
                if not info.finished and await exists(self._buckets.video, keys.video_record(upload_id)):
                    info = (await self._finish_locked(info, lock)).info
                await finishing.remove(self._buckets.raw, info, self._now())
        log.info("upload_terminated", upload=upload_id)

    async def evict(self, upload_id: str, only_idle: bool) -> bool:
        """End an upload so that it never becomes a video. Return False if it is one, or is being sent.

        It may also be one in a single request, of which there may be no record, unless `only_idle`.
        """
        with suppress(VideoNotFound):  # or the record is a tombstone, which a killed server has left
            await read_video(self._buckets, upload_id)
            return False
        if only_idle:
            listed = await self._buckets.raw.list_page(keys.records_of_upload(upload_id))
            active = max([id_time(upload_id), *(info.modified for info in listed.objects)])
            if listed.store_now - active < IDLE:
                return False
        try:
            with suppress(UploadNotFound):
                await self.terminate(upload_id)
        except UploadLocked:
            return False
        return await remove_unfinished(self._buckets, upload_id)

    def _new_info(
        self,
        role: Role,
        length: int | None,
        description: Description,
        *,
        upload_id: str | None = None,
        concat: str | None,
        metadata: str | None,
        options: TranscodeOptions,
    ) -> UploadInfo:
        created_at = self._now()
        plan = UploadPlan.for_size(self._rules.max_bytes if length is None else length)
        return UploadInfo(
            id=upload_id or new_id(int(created_at.timestamp() * 1000)),
            role=role,
            concat=concat,
            length=length,
            part_size_bytes=plan.part_size_bytes,
            metadata=metadata,
            filename=description.filename,
            title=description.title,
            content_type=description.content_type,
            options=options,
            original=description.original,
            owner=description.owner,
            guest=description.guest,
            created_at=created_at,
            expires_at=created_at + self._rules.lifetime,
        )

    @asynccontextmanager
    async def _locked(
        self, upload_id: str, *, even_expired: bool = False
    ) -> AsyncIterator[tuple[UploadInfo, UploadLock]]:
        """Hold the upload's lock while the block runs, and yield its record as it is now.

        Another request may have finished or terminated the upload since the caller read the record.

        Raises:
            UploadLocked, UploadNotFound
            UploadExpired: the time is over, or the store no longer has the parts.
        """
        async with self._locks.take(upload_id) as lock:
            try:
                info = await self.info(upload_id, even_expired=even_expired)
            except UploadNotFound:
                await lock.discard()
                raise
            if info.finished:
                await lock.discard()
            try:
                yield info, lock
            except UploadVanished:
                raise UploadExpired from None

    async def _finish(self, upload_id: str) -> UploadState:
        async with self._locked(upload_id) as (info, lock):
            return UploadState.of_finished(info) if info.finished else await self._finish_locked(info, lock)

    async def _finish_locked(self, info: UploadInfo, lock: UploadLock) -> UploadState:
        try:
            async with lock.heartbeat():
                await self._complete(info, lock.progress)
        except BaseException:  # release the lock at once, so that the next request need not wait
            await run_shielded(lock.release(lock.progress))
            raise
        return await finishing.mark_finished(self._retrying, info)

    async def _complete(self, info: UploadInfo, progress: UploadProgress) -> None:
        await finishing.complete(self._retrying, info, progress, self._buffers)
        if info.role is not Role.PARTIAL:
            self._on_queued()

    async def _concatenate(
        self,
        lock: UploadLock,
        final_id: str,
        partial_ids: Sequence[str],
        new_info: Callable[[int], UploadInfo],
    ) -> UploadState:
        recorded = False
        try:
            if (state := await self._if_finished(final_id)) is not None:
                await lock.discard()
                return state
            pieces = await self._pieces(partial_ids)
            length = sum(piece.length or 0 for piece in pieces)
            if length == 0:
                raise EmptyUpload
            if length > self._rules.max_bytes:
                raise UploadTooLarge
            # A piece may be listed several times. What an interrupted request has joined is replaced.
            replaced = {keys.upload(piece.id) for piece in pieces}
            replaced |= {keys.upload(final_id), keys.upload_info(final_id)}
            await self._rules.quota.admit_bytes(self._buckets.raw, length, replaced)
            info, raw = new_info(length), self._retrying.raw
            spans = [Span(keys.upload(piece.id), 0, piece.length) for piece in pieces if piece.length]
            await check_media_type(raw, spans[0])
            recorded = True
            await raw.put(keys.upload_info(final_id), info.to_json())
            async with lock.heartbeat():
                if not await exists(self._retrying.video, keys.video_record(final_id)):
                    await compose(raw, keys.upload(final_id), spans, self._buffers)
                await self._complete(info, lock.progress)
            return await finishing.mark_finished(self._retrying, info)
        except BaseException:  # release the lock at once, so that the next request need not wait
            await run_shielded(lock.release(lock.progress) if recorded else lock.discard())
            raise

    async def _if_finished(self, final_id: str) -> UploadState | None:
        try:
            info = await self.info(final_id)
        except UploadNotFound:
            return None
        return UploadState.of_finished(info) if info.finished else None

    async def _pieces(self, partial_ids: Sequence[str]) -> list[UploadInfo]:
        """Return the partial uploads' records. Raises: PartialUnfinished, UploadNotFound."""
        pieces = await gather_or_cancel(self.info(partial_id) for partial_id in partial_ids)
        for piece in pieces:
            if piece.role is not Role.PARTIAL:
                raise PartialUnfinished(f"{piece.id} is not a partial upload.")
            if not piece.finished:
                raise PartialUnfinished
        found = await gather_or_cancel(exists(self._buckets.raw, keys.upload(one.id)) for one in pieces)
        gone = [piece for piece, stored in zip(pieces, found, strict=True) if piece.length and not stored]
        for piece in gone:  # its video was deleted since: the client has to send it again
            await finishing.remove(self._buckets.raw, piece, self._now())
        if gone:
            raise UploadNotFound
        return pieces
