"""From received bytes to a queued video: what every way to upload has in common."""

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
    StorageFull,
    UnsupportedType,
    UploadTooLarge,
    VideoNotFound,
)
from backend.core.ids import new_id
from backend.core.jobs.retry import first_job, next_request_number
from backend.core.library.videos import add_video, delete_video, queue_first, read_video
from backend.core.names import clean_filename, clean_text
from backend.core.records import AS_THE_WORKER_CHOOSES, FetchSpec, Guest, Retention, TranscodeOptions, Video
from backend.core.store.interface import Buckets
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.one_shot import clean_up, store_source
from backend.core.uploads.quota import NO_QUOTA, Bounds, Quota
from backend.core.uploads.sniff import checked_media

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Description:
    """What the uploader says about the video. Any field may be missing or nonsense."""

    filename: str | None = None
    title: str | None = None
    content_type: str | None = None
    original: Retention | None = None
    """What becomes of the file after publication. The API's settings have a say too."""
    owner: str | None = None
    """Id of the person who uploads, as the server knows it."""
    note: str | None = None
    """For the owner, from a guest."""
    guest: Guest | None = None
    """Set if a guest uploads for that person."""

    def video(self, video_id: str, size_bytes: int | None, created_at: datetime) -> Video:
        """Return the record of a video with this description."""
        filename = clean_filename(self.filename)
        return Video(
            id=video_id,
            title=clean_text(self.title) or PurePosixPath(filename).stem,
            filename=filename,
            size_bytes=size_bytes,
            content_type=_media_type(self.content_type, filename),
            original=self.original,
            owner=self.owner,
            guest=self.guest,
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
    bounds: Bounds | None = None,
) -> Video:
    """Store the bytes and queue the video. Only a video that this returned may be acknowledged.

    On any error, including a cancelled request, everything written is removed. `describe` is called when the
    body has ended, because a form may send the title after the file. `announced_bytes` is the size to check
    against the quota when the exact size is unknown.

    Raises:
        EmptyUpload, IncompleteUpload, UploadTooLarge: see `store_source`.
        TooManyUploads, StorageFull: see `Quota`.
        UnsupportedType: the first bytes are surely not those of a video or audio file.
    """
    room = await quota.admit(buckets.raw, declared_bytes if announced_bytes is None else announced_bytes)
    created_at = now()
    video_id = bounds.upload_id if bounds else new_id(int(created_at.timestamp() * 1000))
    if bounds:
        max_bytes = min(max_bytes, bounds.max_bytes)
    key = keys.upload(video_id)
    try:
        size_bytes = await store_source(
            buckets.raw,
            key,
            checked_media(body),
            declared_bytes=declared_bytes,
            max_bytes=min(max_bytes, room),
            buffers=buffers,
            tail_key=keys.upload_tail(video_id),
        )
        video = describe().video(video_id, size_bytes, created_at)
        await add_video(buckets, video, first_job(video, options))
    except UploadTooLarge:  # nothing was stored, as with the next three
        if room < max_bytes:
            raise StorageFull from None
        raise
    except (EmptyUpload, IncompleteUpload, UnsupportedType):
        raise
    except BaseException:  # including the cancellation when a client disconnects
        await run_shielded(clean_up(delete_video(buckets, video_id), "upload_not_discarded", id=video_id))
        raise
    log.info("video_added", id=video_id, size_bytes=size_bytes)
    return video


async def enter_video(
    buckets: Buckets,
    video: Video,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    fetch: FetchSpec | None = None,
) -> bool:
    """Add a video whose source is stored, or is to be fetched, and queue it.

    Callers repeat this until it has succeeded once. Returns whether it was added now.
    """
    job = first_job(video, options, fetch)
    try:
        await read_video(buckets, video.id)
    except VideoNotFound:
        await add_video(buckets, video, job)
        return True
    with suppress(AlreadyQueued):
        if await next_request_number(buckets, video.id) == 0:
            await queue_first(buckets, video, job)
    return False


def _media_type(claimed: str | None, filename: str) -> str:
    """Use the claimed type only if it is video or audio: curl, for example, calls every body a form."""
    kind = clean_text(claimed).lower()
    if kind.startswith(("video/", "audio/")):
        return kind
    return guess_type(filename)[0] or "application/octet-stream"
