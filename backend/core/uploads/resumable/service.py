"""Resumable uploads: files that arrive in any number of requests, at any server, over days.

All that is known of an upload lies in the raw bucket (docs/objects.md), so that any server goes on where
another was killed. Bytes go straight into the parts of a multipart upload; those that are no whole part yet
are kept as an object of their own until the next request. No offset is told to a client before the store
holds its bytes. Putting parts together, entering the video and removing what was needed meanwhile may each be
repeated.
"""

from collections.abc import AsyncIterator, Sequence

import structlog

from backend.core import keys
from backend.core.concurrency import run_shielded
from backend.core.errors import (
    EmptyUpload,
    FinalUpload,
    OffsetMismatch,
    UploadExpired,
    UploadTooLarge,
    UploadVanished,
)
from backend.core.records import AS_THE_WORKER_CHOOSES, TranscodeOptions
from backend.core.store.interface import exists
from backend.core.uploads.ingest import Description
from backend.core.uploads.records import Role, UploadInfo
from backend.core.uploads.resumable.append import AppendRequest, Checksum
from backend.core.uploads.resumable.concatenation import concatenate
from backend.core.uploads.resumable.desk import UploadDesk, UploadState, state_of
from backend.core.uploads.resumable.locks import UploadLock

log = structlog.get_logger(__name__)


class ResumableUploads:
    """The verbs behind a resumable upload's requests."""

    def __init__(self, desk: UploadDesk) -> None:
        self._desk = desk

    async def create(
        self,
        length: int | None,
        said: Description,
        *,
        metadata: str | None = None,
        partial: bool = False,
        options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    ) -> UploadInfo:
        """Announce an upload. `length` is in bytes, None while the client does not know.

        Raises:
            UploadTooLarge, EmptyUpload, TooManyUploads, StorageFull
        """
        if length is not None and length > self._desk.rules.max_bytes:
            raise UploadTooLarge
        if length == 0 and not partial:
            raise EmptyUpload
        await self._desk.rules.quota.admit(self._desk.buckets.raw, length)
        info = self._desk.announced(
            Role.PARTIAL if partial else Role.WHOLE,
            length,
            said,
            concat="partial" if partial else None,
            metadata=metadata,
            options=options,
        )
        await self._desk.buckets.raw.put(keys.upload_info(info.id), info.to_json())
        log.info("upload_created", upload=info.id, length=length, role=info.role)
        return info

    async def head(self, upload_id: str) -> UploadState:
        """Return where the upload stands; one whose last steps were cut off is finished first.

        Raises:
            UploadNotFound, UploadExpired, UploadLocked
        """
        progress = await self._desk.locks.stat(upload_id)
        # Read after the progress, which is removed only when this says that the upload is finished.
        info = await self._desk.info(upload_id)
        if info.finished:
            return state_of(info)
        if info.role is Role.FINAL:
            return UploadState(info, 0, info.length)
        if progress.offset == info.length:
            return await self._finish_again(upload_id)
        raw, key = self._desk.buckets.raw, keys.upload(upload_id)
        is_open = progress.upload_id is not None and await raw.is_open(key, progress.upload_id)
        if not is_open and await self._desk.has_arrived(info, info.length):
            return await self._finish_again(upload_id)
        if progress.upload_id is not None and not is_open:
            raise UploadExpired
        return UploadState(info, progress.offset, info.length)

    async def receive(
        self,
        upload_id: str,
        offset: int,
        body: AsyncIterator[bytes],
        *,
        body_bytes: int | None = None,
        length: int | None = None,
        checksum: Checksum | None = None,
    ) -> UploadState:
        """Add `body` at `offset`, and finish the upload when all of it is there.

        However the body ends, as much of it as has arrived is stored; with a checksum, all of it or nothing.

        Raises:
            UploadNotFound, UploadExpired, UploadLocked, FinalUpload, UnsupportedType
            OffsetMismatch: the upload stands elsewhere.
            LengthFixed: the length was announced before, and was another.
            UploadTooLarge: more than was announced, or is allowed.
            IncompleteUpload: the body broke off.
            ChecksumMismatch: nothing of the body was kept.
        """
        info = await self._desk.info(upload_id)
        if info.role is Role.FINAL:
            raise FinalUpload
        if not info.finished:
            async with self._desk.holding(upload_id) as (info, lock):
                if not info.finished:
                    reception = AppendRequest(self._desk, info, lock, length, checksum)
                    return await reception.run(offset, body, body_bytes)
        if offset == info.length and body_bytes == 0:
            return state_of(info)
        raise OffsetMismatch

    async def concatenate(
        self,
        partial_ids: Sequence[str],
        said: Description,
        *,
        header: str,
        metadata: str | None = None,
        options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    ) -> UploadState:
        """Make one upload, and a video, of complete partial uploads (see `concatenation`)."""
        return await concatenate(
            self._desk, partial_ids, said, header=header, metadata=metadata, options=options
        )

    async def terminate(self, upload_id: str) -> None:
        """Drop an upload and what was stored of it. A video that came of it stays.

        Raises:
            UploadNotFound, UploadLocked
        """
        info = await self._desk.info(upload_id, even_expired=True)
        if info.finished:
            await self._desk.remove(info)
        else:
            async with self._desk.holding(upload_id, even_expired=True) as (info, lock):
                if not info.finished and await exists(self._desk.buckets.video, keys.video_record(upload_id)):
                    info = (await self._finish_held(info, lock)).info
                await self._desk.remove(info)
        log.info("upload_terminated", upload=upload_id)

    async def _finish_again(self, upload_id: str) -> UploadState:
        async with self._desk.holding(upload_id) as (info, lock):
            return state_of(info) if info.finished else await self._finish_held(info, lock)

    async def _finish_held(self, info: UploadInfo, lock: UploadLock) -> UploadState:
        try:
            if info.length is None:
                raise UploadVanished
            async with lock.beating():
                await self._desk.finish(info, lock.progress, info.length)
        except BaseException:  # the next request may begin at once
            await run_shielded(lock.release(lock.progress))
            raise
        return await self._desk.conclude(info, info.length)
