"""From received bytes to a queued video: the one verb behind every way to upload."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from mimetypes import guess_type
from pathlib import PurePosixPath

import structlog

from backend.core import keys
from backend.core.concurrency import run_shielded
from backend.core.errors import (
    AlreadyQueued,
    EmptyUpload,
    IncompleteUpload,
    StoreError,
    UnsupportedType,
    UploadTooLarge,
    VideoNotFound,
)
from backend.core.ids import new_id
from backend.core.jobs.retry import next_request_number
from backend.core.library.videos import add_video, delete_video, read_video
from backend.core.names import clean_filename, clean_text
from backend.core.records import AS_THE_WORKER_CHOOSES, Job, TranscodeOptions, Video
from backend.core.store.interface import Buckets
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.one_shot import store_source
from backend.core.uploads.quota import NO_QUOTA, Quota
from backend.core.uploads.sniff import sniffed

DISCARD_SECONDS = 10.0
"""The uploader waits for the answer; what cannot be removed in time is the sweeper's."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Description:
    """What the uploader says about the video; any of it may be missing or odd."""

    filename: str | None = None
    title: str | None = None
    content_type: str | None = None

    def video(self, video_id: str, size_bytes: int, created_at: datetime) -> Video:
        """Return the record of a video of which this is said."""
        filename = clean_filename(self.filename)
        return Video(
            id=video_id,
            title=clean_text(self.title) or PurePosixPath(filename).stem,
            filename=filename,
            size_bytes=size_bytes,
            content_type=_media_type(self.content_type, filename),
            created_at=created_at,
        )


async def ingest(
    buckets: Buckets,
    body: AsyncIterator[bytes],
    describe: Callable[[], Description],
    *,
    declared_bytes: int | None,
    max_bytes: int,
    announced_bytes: int | None = None,
    buffers: PartBuffers | None = None,
    quota: Quota = NO_QUOTA,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Video:
    """Store the bytes and queue the video. Only what this returns may be acknowledged.

    On any error, a cancelled request included, whatever was written is removed again. `describe` is called
    when the body has ended, as a form may name the title behind the file. `announced_bytes` is what the quota
    is asked for where the size is known but roughly.

    Raises:
        EmptyUpload, IncompleteUpload, UploadTooLarge: see `store_source`.
        TooManyUploads, StorageFull: see `Quota`.
        UnsupportedType: it begins like no video.
    """
    await quota.admit(buckets.raw, declared_bytes if announced_bytes is None else announced_bytes)
    created_at = now()
    video_id = new_id(int(created_at.timestamp() * 1000))
    key = keys.upload(video_id)
    try:
        size_bytes = await store_source(
            buckets.raw,
            key,
            sniffed(body),
            declared_bytes=declared_bytes,
            max_bytes=max_bytes,
            buffers=buffers,
            tail_key=keys.upload_tail(video_id),
        )
        video = describe().video(video_id, size_bytes, created_at)
        await add_video(buckets, video, _job(video, options))
    except (EmptyUpload, IncompleteUpload, UploadTooLarge, UnsupportedType):
        raise  # refused before anything was kept
    except BaseException:  # also a client that has gone cancels this
        await run_shielded(_discard(buckets, video_id))
        raise
    log.info("video_added", id=video_id, size_bytes=size_bytes)
    return video


async def enter_video(
    buckets: Buckets, video: Video, options: TranscodeOptions = AS_THE_WORKER_CHOOSES
) -> None:
    """Enter a video whose source is stored, and queue it; to be repeated until it has succeeded once."""
    job = _job(video, options)
    try:
        await read_video(buckets, video.id)
    except VideoNotFound:
        await add_video(buckets, video, job)
        return
    with suppress(AlreadyQueued):
        if await next_request_number(buckets, video.id) == 0:
            await buckets.raw.create(keys.marker(job.request), job.to_json())


def _job(video: Video, options: TranscodeOptions) -> Job:
    return Job(
        id=video.id,
        request=keys.request_name(video.id),
        source=keys.upload(video.id),
        source_size_bytes=video.size_bytes,
        options=options,
        created_at=video.created_at,
    )


def _media_type(said: str | None, filename: str) -> str:
    """Believe a media type that is one; curl, for one, calls every body a form."""
    kind = clean_text(said).lower()
    if kind.startswith(("video/", "audio/")):
        return kind
    return guess_type(filename)[0] or "application/octet-stream"


async def _discard(buckets: Buckets, video_id: str) -> None:
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            await delete_video(buckets, video_id)
    except (StoreError, TimeoutError) as error:
        log.warning("upload_not_discarded", id=video_id, error=str(error))
