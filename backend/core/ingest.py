"""From received bytes to a queued video: the one verb behind every way to upload."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

import structlog

from backend.core import keys
from backend.core.errors import StoreError
from backend.core.ids import new_id
from backend.core.library import add_video, delete_video
from backend.core.records import Job, Video
from backend.core.store import Buckets
from backend.core.upload import finish_even_if_cancelled, store_source

log = structlog.get_logger(__name__)

NAME_LENGTH = 300
UNNAMED = "video"


@dataclass(frozen=True, slots=True)
class Source:
    """What the uploader says about the bytes. `size_bytes` is None when it is not known beforehand."""

    filename: str | None = None
    title: str | None = None
    content_type: str | None = None
    size_bytes: int | None = None


async def ingest(
    buckets: Buckets,
    source: Source,
    body: AsyncIterator[bytes],
    *,
    max_bytes: int,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Video:
    """Store the bytes and queue the video. Only what this returns may be acknowledged.

    On any error, a cancelled request included, whatever was written is removed again.

    Raises:
        EmptyUpload, IncompleteUpload, UploadTooLarge: see `store_source`.
    """
    created_at = now()
    video_id = new_id(int(created_at.timestamp() * 1000))
    key = keys.upload(video_id)
    try:
        size_bytes = await store_source(
            buckets.raw, key, body, declared_bytes=source.size_bytes, max_bytes=max_bytes
        )
        filename = clean_filename(source.filename)
        video = Video(
            id=video_id,
            title=_clean_title(source.title) or PurePosixPath(filename).stem,
            filename=filename,
            size_bytes=size_bytes,
            content_type=source.content_type or "application/octet-stream",
            created_at=created_at,
        )
        job = Job(
            id=video_id,
            request=keys.request_name(video_id),
            source=key,
            source_size_bytes=size_bytes,
            created_at=created_at,
        )
        await add_video(buckets, video, job)
    except BaseException:
        await finish_even_if_cancelled(_discard(buckets, video_id))
        raise
    log.info("video_added", id=video_id, size_bytes=size_bytes)
    return video


def clean_filename(name: str | None) -> str:
    """Return the last component of what a client calls its file, without control characters."""
    last = re.split(r"[/\\]", _clean_title(name))[-1]
    return last or UNNAMED


def _clean_title(text: str | None) -> str:
    return _CONTROL.sub("", text or "").strip()[:NAME_LENGTH].strip()


async def _discard(buckets: Buckets, video_id: str) -> None:
    try:
        await delete_video(buckets, video_id)
    except StoreError as error:
        log.warning("upload_not_discarded", id=video_id, error=error.message)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
