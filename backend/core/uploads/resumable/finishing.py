"""The last steps of a resumable upload. Each can be repeated after a crash."""

from contextlib import suppress
from datetime import datetime

import structlog

from backend.core import keys
from backend.core.errors import ObjectNotFound, UploadVanished
from backend.core.store.interface import Buckets, Store, exists
from backend.core.store.prefixes import abort_uploads_below, delete_below
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description, enter_video
from backend.core.uploads.part_writer import PartWriter, UploadPlan, check_parts
from backend.core.uploads.records import Role, UploadInfo, UploadProgress, UploadState

log = structlog.get_logger(__name__)


async def complete(
    buckets: Buckets, info: UploadInfo, progress: UploadProgress, buffers: PartBuffers
) -> None:
    """Assemble the file. Unless the upload is partial, add its video and queue it.

    Raises:
        UploadVanished: the store no longer has all parts.
    """
    if info.length is None:
        raise UploadVanished
    if not await is_assembled(buckets, info):
        await _assemble(buckets.raw, info, info.length, progress, buffers)
    if info.role is not Role.PARTIAL:
        description = Description(
            info.filename, info.title, info.content_type, info.original, info.owner, guest=info.guest
        )
        await enter_video(buckets, description.video(info.id, info.length, info.created_at), info.options)


async def mark_finished(buckets: Buckets, info: UploadInfo) -> UploadState:
    """Record that the upload is finished, and remove everything else that was stored for it.

    No heartbeat may be running any more: it would write what this removes.
    """
    finished = info.replace(finished=True)
    await buckets.raw.put(keys.upload_info(info.id), finished.to_json())
    await clear(buckets.raw, finished)
    log.info("upload_finished", upload=info.id, size_bytes=info.length, role=info.role)
    return UploadState.of_finished(finished)


async def clear(raw: Store, finished: UploadInfo) -> None:
    """Reduce a finished upload to its `.done` record. As long as `.info` exists, this is not complete."""
    await raw.put(keys.upload_done(finished.id), finished.to_json())
    # A process killed between opening a multipart upload and recording its id leaves the upload open.
    await abort_uploads_below(raw, keys.upload(finished.id))
    await delete_below(raw, keys.upload_state(finished.id))
    await raw.delete(keys.upload_info(finished.id))


async def remove(raw: Store, info: UploadInfo, now: datetime) -> None:
    """Remove everything stored for an upload except its video."""
    if not info.finished:
        # From here on every request finds it expired, even if a crash leaves some of it behind.
        await raw.put(keys.upload_info(info.id), info.replace(expires_at=now).to_json())
    if not info.finished or info.role is Role.PARTIAL:
        await abort_uploads_below(raw, keys.upload(info.id))
        await raw.delete(keys.upload(info.id))
    await remove_records(raw, info.id)


async def remove_records(raw: Store, upload_id: str) -> None:
    """Remove an upload's records. `.info` and `.done` go last, so that this can be repeated after a crash."""
    await delete_below(raw, keys.upload_state(upload_id))
    await raw.delete_many([keys.upload_info(upload_id), keys.upload_done(upload_id)])


async def is_assembled(buckets: Buckets, info: UploadInfo) -> bool:
    """Return whether the parts are one object already. A worker may even have encoded and deleted it."""
    with suppress(ObjectNotFound):
        return (await buckets.raw.head(keys.upload(info.id))).size_bytes == info.length
    return await exists(buckets.video, keys.video_record(info.id))


async def _assemble(
    raw: Store, info: UploadInfo, length: int, progress: UploadProgress, buffers: PartBuffers
) -> None:
    key, tail_bytes = keys.upload(info.id), progress.tail.size_bytes if progress.tail else 0
    writer = PartWriter(
        raw,
        key,
        UploadPlan.of_parts(info.part_size_bytes),
        buffers,
        upload_id=progress.upload_id,
        stored_parts=(length - tail_bytes) // info.part_size_bytes,
        tail=progress.tail,
    )
    if progress.upload_id is None and tail_bytes != length:
        raise UploadVanished
    try:
        if progress.upload_id is None:
            await writer.put_whole()
            return
        await writer.flush()
    finally:
        await writer.stop()
    parts = await raw.list_parts(key, progress.upload_id)
    needed = [part for part in parts if (part.number - 1) * info.part_size_bytes < length]
    check_parts(needed, info.part_size_bytes)
    if sum(part.size_bytes for part in needed) != length:
        raise UploadVanished
    await raw.complete_upload(key, progress.upload_id, needed)
