"""Trying again: a new request for a video whose source is still stored.

A marker's key is never used twice (docs/queue.md), so each request has a number above all earlier ones. How a
request ended stays in `videos/<id>/results/`, which is what tells the numbers that were used.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from backend.core import keys
from backend.core.errors import AlreadyQueued, ObjectNotFound, SourceGone
from backend.core.library import read_video
from backend.core.records import AS_THE_WORKER_CHOOSES, Job, Status, TranscodeOptions
from backend.core.store import Buckets, Store

log = structlog.get_logger(__name__)


async def retry_video(
    buckets: Buckets,
    video_id: str,
    *,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Job:
    """Queue the video's source once more and return the job; what is published stays until that succeeds.

    Raises:
        VideoNotFound: there is no such video.
        SourceGone: its source was deleted, as it is after a success unless originals are kept.
        AlreadyQueued: a job of this video waits or runs.
    """
    await read_video(buckets, video_id)
    source = keys.upload(video_id)
    try:
        size_bytes = (await buckets.raw.head(source)).size_bytes
    except ObjectNotFound:
        raise SourceGone from None
    request = keys.request_name(video_id, await next_request_number(buckets, video_id))
    letters = await _keys(buckets.raw, keys.dead_letter(video_id))
    created_at = now()
    job = Job(
        id=video_id,
        request=request,
        source=source,
        source_size_bytes=size_bytes,
        options=options,
        created_at=created_at,
    )
    if not await buckets.raw.create(keys.marker(request), job.to_json()):
        raise AlreadyQueued
    log.info("video_queued_again", video=video_id, request=request)
    await buckets.raw.delete_many(letters)
    # A worker may be quicker: how its request ends is believed over this.
    await buckets.video.put(keys.status(video_id), Status.queued(video_id, created_at, request).to_json())
    return job


async def next_request_number(buckets: Buckets, video_id: str) -> int:
    """Return the lowest number above all that were used. Raises: AlreadyQueued.

    A job moves from its marker to a lease to an outcome, so looking in that order cannot miss it.
    """
    for prefix in (keys.marker(video_id), keys.leases_of_video(video_id)):
        if await _keys(buckets.raw, prefix):
            raise AlreadyQueued
    ended = await _keys(buckets.video, keys.results_of(video_id))
    return max((keys.request_number(keys.request_of_result(key)) + 1 for key in ended), default=0)


async def _keys(store: Store, prefix: str) -> list[str]:
    return [info.key async for info in store.list_all(prefix)]
