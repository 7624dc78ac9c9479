"""Retries: a new request for a video whose source is still stored.

A marker's key is never used twice (docs/queue.md), so each request gets a higher number than all earlier
ones. The used numbers are known because the outcome of each request stays in `videos/<id>/results/`.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from backend.core import keys
from backend.core.errors import AlreadyQueued, ObjectNotFound, SourceGone
from backend.core.library.videos import read_video
from backend.core.records import AS_THE_WORKER_CHOOSES, Job, Status, TranscodeOptions, Video
from backend.core.store.interface import Buckets, ObjectInfo, Store
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)


async def retry_video(
    buckets: Buckets,
    video_id: str,
    *,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Job:
    """Queue the video's source again and return the job. Published outputs stay until it succeeds.

    Raises:
        VideoNotFound
        SourceGone: the source was deleted, as happens after a success unless originals are kept.
        AlreadyQueued: a job of this video is queued, waiting or running.
    """
    video = await read_video(buckets, video_id)
    source = await stored_source(buckets.raw, video_id)
    number = await next_request_number(buckets, video_id)
    letters = await keys_below(buckets.raw, keys.dead_letter(video_id))
    job = job_of(source, video, number, created_at=now(), options=options)
    if not await buckets.raw.create(keys.marker(job.request), job.to_json()):
        raise AlreadyQueued
    log.info("video_queued_again", video=video_id, request=job.request)
    await buckets.raw.delete_many(letters)
    # A worker may be faster. The outcome of its request takes precedence over this.
    status = Status.queued(video_id, job.created_at, job.request)
    await buckets.video.put(keys.status(video_id), status.to_json())
    return job


async def stored_source(raw: Store, video_id: str) -> ObjectInfo:
    """Raises: SourceGone."""
    try:
        return await raw.head(keys.upload(video_id))
    except ObjectNotFound:
        raise SourceGone from None


def job_of(
    source: ObjectInfo,
    video: Video,
    number: int,
    *,
    created_at: datetime,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
) -> Job:
    """Return the job of the video's request with this number."""
    return Job(
        id=video.id,
        request=keys.request_name(video.id, number),
        source=source.key,
        source_size_bytes=source.size_bytes,
        options=options,
        original=video.original,
        created_at=created_at,
    )


async def next_request_number(buckets: Buckets, video_id: str) -> int:
    """Return the lowest number above all used ones. Raises: AlreadyQueued.

    A job moves from its marker to a lease to an outcome, so listing in that order cannot miss it.
    """
    markers = keys.ours(keys.parse_marker, await keys_below(buckets.raw, keys.marker(video_id)))
    leases = keys.ours(keys.parse_lease, await keys_below(buckets.raw, keys.leases_of_video(video_id)))
    if any(markers) or any(leases):
        raise AlreadyQueued
    ended = await keys_below(buckets.video, keys.results_of(video_id))
    requests = keys.ours(keys.request_of_result, ended)
    return max((keys.request_number(request) + 1 for request in requests), default=0)
