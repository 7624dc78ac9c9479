"""Retries: a new request for a video whose source is still stored, or can be fetched again.

So is the request that makes removed renditions again: without its source, from the file for download.

A marker's key is never used twice (docs/queue.md), so each request gets a higher number than all earlier
ones. The used numbers are known because the outcome of each request stays in `videos/<id>/results/`.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from backend.core import keys
from backend.core.errors import AlreadyQueued, ObjectNotFound, SourceGone
from backend.core.library.videos import kept_outputs, latest_outcome, read_item, read_video
from backend.core.records import (
    AS_THE_WORKER_CHOOSES,
    DeadLetter,
    FetchKind,
    FetchSpec,
    Job,
    Retention,
    Stage,
    Status,
    TranscodeOptions,
    Video,
    rank_of,
)
from backend.core.store.interface import Buckets, Store
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)


async def retry_video(
    buckets: Buckets,
    video_id: str,
    *,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    after: str | None = None,
) -> Job:
    """Queue the video's source again and return the job. Published outputs stay until it succeeds.

    With `after`, only if that is the latest request.

    Raises:
        VideoNotFound
        SourceGone: the source was deleted, as happens after a success unless originals are kept.
        AlreadyQueued: a job of this video is queued, waiting or running.
    """
    video, kept = await read_video(buckets, video_id), await kept_outputs(buckets, video_id)
    fetch, source, size_bytes = None, keys.upload(video_id), await source_size(buckets.raw, video_id)
    if size_bytes is None and kept is not None:
        source = keys.run_prefix(video_id, kept.run) + keys.DOWNLOAD
        with suppress(ObjectNotFound):
            size_bytes = (await buckets.video.head(source)).size_bytes
    if size_bytes is None:
        fetch = await _fetch_of(buckets, video_id)
    options = await _of_conversion(buckets, video_id) or options
    number = await next_request_number(buckets, video_id)
    if after is not None and number != keys.request_number(after) + 1:
        raise AlreadyQueued
    letters = await keys_below(buckets.raw, keys.dead_letter(video_id))
    job = job_of(video, number, size_bytes, created_at=now(), options=options, fetch=fetch)
    if kept is not None:  # what was kept so far is not for this job to delete
        job = job.replace(source=source, original=Retention(keep=True))
    if not await buckets.raw.create(job.marker, job.to_json()):
        raise AlreadyQueued
    log.info("video_queued_again", video=video_id, request=job.request)
    await buckets.raw.delete_many(letters)
    # A worker may be faster. The outcome of its request takes precedence over this.
    status = Status.of_job(job)
    await buckets.video.put(keys.status(video_id), status.to_json())
    return job


async def _of_conversion(buckets: Buckets, video_id: str) -> TranscodeOptions | None:
    """Return the options of a conversion, which remains one."""
    try:
        return Job.from_json((await buckets.video.get(keys.conversion(video_id))).body).options
    except ObjectNotFound:
        return None


async def rebuild_video(buckets: Buckets, video_id: str) -> Job | None:
    """Queue a request that makes the removed renditions of a video again.

    None: they are not removed, are being made, or an attempt has failed, which only `retry_video` repeats.

    Raises: VideoNotFound.
    """
    item = await read_item(buckets, video_id)
    if item.kept is None or item.status.stage is not Stage.COMPLETE:
        return None
    try:
        return await retry_video(buckets, video_id, after=item.kept.request)
    except (AlreadyQueued, SourceGone) as error:
        log.info("not_rebuilt", video=video_id, error=error.message)
        return None


async def source_size(raw: Store, video_id: str) -> int | None:
    """Return the size of the source, or None if it is not stored."""
    try:
        return (await raw.head(keys.upload(video_id))).size_bytes
    except ObjectNotFound:
        return None


async def _fetch_of(buckets: Buckets, video_id: str) -> FetchSpec:
    """Return how to fetch a source that no request has got yet: from a web page, with yt-dlp.

    Raises: SourceGone: there is no way.
    """
    outcome = await latest_outcome(buckets, video_id)
    if not isinstance(outcome, DeadLetter) or outcome.job.fetch is None:
        raise SourceGone
    if outcome.error.code == "fetch_web_page":
        return outcome.job.fetch.model_copy(update={"kind": FetchKind.YTDLP})
    return outcome.job.fetch


def job_of(
    video: Video,
    number: int,
    source_size_bytes: int | None,
    *,
    created_at: datetime,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    fetch: FetchSpec | None = None,
) -> Job:
    """Return the job of the video's request with this number."""
    return Job(
        id=video.id,
        request=keys.request_name(video.id, number),
        source=keys.upload(video.id),
        source_size_bytes=source_size_bytes,
        fetch=fetch,
        rank=rank_of(source_size_bytes),
        options=options,
        original=video.original,
        created_at=created_at,
    )


def first_job(
    video: Video, options: TranscodeOptions = AS_THE_WORKER_CHOOSES, fetch: FetchSpec | None = None
) -> Job:
    """Return the job with which a video is added. Without `fetch`, its source is stored."""
    return job_of(video, 0, video.size_bytes, created_at=video.created_at, options=options, fetch=fetch)


async def next_request_number(buckets: Buckets, video_id: str) -> int:
    """Return the lowest number above all used ones. Raises: AlreadyQueued.

    A job moves from its marker to a lease to an outcome, so listing in that order cannot miss it.
    """
    for prefix in keys.markers_of_video(video_id):
        if any(keys.ours(keys.parse_marker, await keys_below(buckets.raw, prefix))):
            raise AlreadyQueued
    if any(keys.ours(keys.parse_lease, await keys_below(buckets.raw, keys.leases_of_video(video_id)))):
        raise AlreadyQueued
    ended = await keys_below(buckets.video, keys.results_of(video_id))
    requests = keys.ours(keys.request_of_result, ended)
    return max((keys.request_number(request) + 1 for request in requests), default=0)
