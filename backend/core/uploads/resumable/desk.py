"""The records and the last steps of resumable uploads, for whichever request comes across them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from backend.core import keys
from backend.core.errors import ObjectNotFound, UploadExpired, UploadNotFound, UploadVanished
from backend.core.ids import new_id
from backend.core.records import TranscodeOptions, Video
from backend.core.store.interface import Buckets, Store, exists
from backend.core.store.prefixes import abort_uploads_below, delete_below
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description, enter_video
from backend.core.uploads.part_writer import UploadPlan, check_parts
from backend.core.uploads.quota import NO_QUOTA, Quota
from backend.core.uploads.records import Role, UploadInfo, UploadProgress
from backend.core.uploads.resumable.locks import UploadLock, UploadLocks

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadRules:
    max_bytes: int
    lifetime: timedelta
    """Unfinished uploads can be resumed for so long."""
    quota: Quota = NO_QUOTA


@dataclass(frozen=True, slots=True)
class UploadState:
    """Where an upload stands."""

    info: UploadInfo
    offset: int
    length: int | None

    @property
    def video_id(self) -> str | None:
        """The video that came of it, once there is one."""
        return self.info.id if self.info.finished and self.info.role is not Role.PARTIAL else None


class UploadDesk:
    """The buckets, the rules, and the steps that may each be repeated after a crash."""

    def __init__(
        self,
        buckets: Buckets,
        retrying: Buckets,
        buffers: PartBuffers,
        rules: UploadRules,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`retrying` are the same buckets, for what a client has begun to send."""
        self.buckets = buckets
        self.retrying = retrying
        self.buffers = buffers
        self.rules = rules
        self.now = now
        self.locks = UploadLocks(buckets.raw)

    def announced(
        self,
        role: Role,
        length: int | None,
        said: Description,
        *,
        upload_id: str | None = None,
        concat: str | None,
        metadata: str | None,
        options: TranscodeOptions,
    ) -> UploadInfo:
        """Return the record of an upload that begins now; `upload_id` is for one whose id is given."""
        created_at = self.now()
        return UploadInfo(
            id=upload_id or new_id(int(created_at.timestamp() * 1000)),
            role=role,
            concat=concat,
            length=length,
            part_size_bytes=UploadPlan.for_size(
                self.rules.max_bytes if length is None else length
            ).part_size_bytes,
            metadata=metadata,
            filename=said.filename,
            title=said.title,
            content_type=said.content_type,
            options=options,
            created_at=created_at,
            expires_at=created_at + self.rules.lifetime,
        )

    async def info(self, upload_id: str, *, even_expired: bool = False) -> UploadInfo:
        """Read what is known of the upload; remove what a finished one no longer needs.

        Raises:
            UploadNotFound, UploadExpired
        """
        try:
            stored = await self.buckets.raw.get(keys.upload_info(upload_id))
        except ObjectNotFound:
            try:
                stored = await self.buckets.raw.get(keys.upload_done(upload_id))
            except ObjectNotFound:
                raise UploadNotFound from None
        info = UploadInfo.from_json(stored.body)
        if info.has_expired(self.now()) and not even_expired:
            raise UploadExpired
        if info.finished and stored.info.key == keys.upload_info(upload_id):
            await self._clear(info)  # a server was killed while it did
        return info

    @asynccontextmanager
    async def holding(
        self, upload_id: str, *, even_expired: bool = False
    ) -> AsyncIterator[tuple[UploadInfo, UploadLock]]:
        """Hold the upload while the block lasts; its record is read anew.

        Another request may have finished or dropped the upload since the caller has looked at it.

        Raises:
            UploadLocked, UploadNotFound
            UploadExpired: it is, or its parts have vanished from the store, which expires them by itself.
        """
        lock = await self.locks.take(upload_id)
        try:
            try:
                info = await self.info(upload_id, even_expired=even_expired)
            except UploadNotFound:
                await lock.discard()
                raise
            if info.finished:
                await lock.discard()
            yield info, lock
        except UploadVanished:
            raise UploadExpired from None
        finally:
            lock.deregister()

    async def finish(self, info: UploadInfo, progress: UploadProgress, length: int) -> None:
        """Make a video of what is stored. May be repeated. Raises: UploadVanished."""
        await self._assemble(info, progress, length)
        if info.role is not Role.PARTIAL:
            await enter_video(self.retrying, self._video(info, length), info.options)

    async def conclude(self, info: UploadInfo, length: int) -> UploadState:
        """Note that the upload is finished, and remove what it needed until then. May be repeated."""
        finished = info.replace(finished=True, length=length)
        await self.retrying.raw.put(keys.upload_info(info.id), finished.to_json())
        await self._clear(finished)
        log.info("upload_finished", upload=info.id, size_bytes=length, role=info.role)
        return UploadState(finished, length, length)

    async def _clear(self, finished: UploadInfo) -> None:
        """Keep of an upload only that it is finished. While there is an `.info`, that is not done yet."""
        await self.retrying.raw.put(keys.upload_done(finished.id), finished.to_json())
        # A process that was killed between opening a multipart upload and noting it has left that one.
        await abort_uploads_below(self.retrying.raw, keys.upload(finished.id))
        await delete_below(self.retrying.raw, keys.upload_state(finished.id))
        await self.retrying.raw.delete(keys.upload_info(finished.id))

    async def remove(self, info: UploadInfo) -> None:
        """Remove what there is of an upload but the video that came of it. May be repeated."""
        raw = self.buckets.raw
        if not info.finished:
            # From here on it is gone for everybody, however much of it is left by a crash.
            await raw.put(keys.upload_info(info.id), info.replace(expires_at=self.now()).to_json())
        if not info.finished or info.role is Role.PARTIAL:
            await abort_uploads_below(raw, keys.upload(info.id))
            await raw.delete(keys.upload(info.id))
        await remove_records(raw, info.id)

    async def has_arrived(self, info: UploadInfo, length: int | None) -> bool:
        """Say whether the parts are one object already, or have even been encoded since."""
        with suppress(ObjectNotFound):
            return (await self.retrying.raw.head(keys.upload(info.id))).size_bytes == length
        return await exists(self.retrying.video, keys.video_record(info.id))

    async def _assemble(self, info: UploadInfo, progress: UploadProgress, length: int) -> None:
        """Make sure that there is an object of all parts. Raises: UploadVanished."""
        if await self.has_arrived(info, length):
            return
        raw, key = self.retrying.raw, keys.upload(info.id)
        last = await self._tail_of(progress)
        if progress.upload_id is None:
            if len(last) != length:
                raise UploadVanished
            await raw.put(key, last)
            return
        if last:
            number = (length - len(last)) // info.part_size_bytes + 1
            await raw.put_part(key, progress.upload_id, number, last)
        parts = await raw.list_parts(key, progress.upload_id)
        needed = [part for part in parts if (part.number - 1) * info.part_size_bytes < length]
        check_parts(needed, info.part_size_bytes)
        if sum(part.size_bytes for part in needed) != length:
            raise UploadVanished
        await raw.complete_upload(key, progress.upload_id, needed)

    async def _tail_of(self, progress: UploadProgress) -> bytes:
        try:
            return (await self.retrying.raw.get(progress.tail.key)).body if progress.tail else b""
        except ObjectNotFound:
            raise UploadVanished from None

    def _video(self, info: UploadInfo, length: int) -> Video:
        said = Description(info.filename, info.title, info.content_type)
        return said.video(info.id, length, info.created_at)


def state_of(finished: UploadInfo) -> UploadState:
    return UploadState(finished, finished.length or 0, finished.length)


async def remove_records(raw: Store, upload_id: str) -> None:
    """Remove what is known of an upload; its record goes last, so that it can be repeated after a crash."""
    await delete_below(raw, keys.upload_state(upload_id))
    await raw.delete_many([keys.upload_info(upload_id), keys.upload_done(upload_id)])
