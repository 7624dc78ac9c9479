"""Keeps the store within a budget: removes renditions that nobody has watched for the longest time.

What is left of a video (`keys.KEPT`, its records, a kept original) suffices to make them again, which the
next viewer causes (`backend.core.jobs.retry`). Several processes may do this at once: sizes are those of
LISTs, and `reduce_video` decides by what is stored.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import structlog

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.library.videos import published_outputs, reduce_video
from backend.core.records import RecordUnreadable, Reduced
from backend.core.settings import WorkerSettings
from backend.core.store.interface import Buckets
from backend.core.sweep.inventory import VideoHoldings, list_raw, list_videos_held

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """None: there is no such limit."""

    max_bytes: int | None = None
    """Of both buckets together."""
    unwatched: timedelta | None = None
    """How long renditions stay after they were last watched, or else published."""

    @classmethod
    def of(cls, settings: WorkerSettings) -> Self:
        days = settings.renditions_ttl_days
        return cls(settings.storage_max_bytes, None if days is None else timedelta(days=days))

    @property
    def is_limited(self) -> bool:
        return self.max_bytes is not None or self.unwatched is not None


@dataclass(frozen=True, slots=True)
class Reduction:
    """A video whose renditions were removed."""

    video_id: str
    unwatched_seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CleanReport:
    stored_bytes: int
    """In both buckets, before anything was removed."""
    rebuilt_bytes: int
    """About how much the renditions will add that are being made again."""
    reductions: tuple[Reduction, ...]
    """What was removed, or in a dry run, what would be."""
    dry_run: bool


async def clean(buckets: Buckets, rules: RetentionRules, *, dry_run: bool = False) -> CleanReport:
    """Remove renditions, those first that were not watched for the longest time, until the rules are kept.

    Videos with a job that waits or runs are left alone.

    Raises:
        StoreError: what was removed is removed, and the next call does the rest.
    """
    now = (await buckets.raw.list_page(keys.LAST_SWEEP, limit=1)).store_now
    raw = await list_raw(buckets.raw)
    stored, coming, candidates = raw.size_bytes, 0, list[tuple[datetime, VideoHoldings]]()
    async for video in list_videos_held(buckets.video):
        stored += video.size_bytes
        if video.id in raw.queued or video.id in raw.leased_videos:
            coming += await _coming_bytes(buckets, video)
        elif video.exists and video.results:
            watched = [video.watched] if video.watched else []
            candidates.append((max([*video.results.values(), *watched]), video))
    excess = stored + coming - rules.max_bytes if rules.max_bytes is not None else 0
    reductions = []
    for watched_at, video in sorted(candidates, key=lambda candidate: candidate[0]):
        unwatched = now - watched_at
        if excess <= 0 and (rules.unwatched is None or unwatched <= rules.unwatched):
            break
        size_bytes = await _reduce(buckets, video, dry_run=dry_run)
        if size_bytes:
            excess -= size_bytes
            reductions.append(Reduction(video.id, unwatched.total_seconds(), size_bytes))
    return CleanReport(stored, coming, tuple(reductions), dry_run)


async def _reduce(buckets: Buckets, video: VideoHoldings, *, dry_run: bool) -> int:
    """Remove the video's renditions and return their size. 0: there are none, or they must stay."""
    outputs = await published_outputs(buckets, video.id)
    run = video.runs.get(outputs.run) if outputs else None
    if outputs is None or run is None or not run.removable_bytes or not run.kept_bytes:
        return 0
    if not dry_run:
        if not await reduce_video(buckets, outputs, run.removable_bytes):
            return 0
        log.info("video_reduced", video=video.id, size_bytes=run.removable_bytes)
    return run.removable_bytes


async def _coming_bytes(buckets: Buckets, video: VideoHoldings) -> int:
    """Return how much is still to come of renditions that are being made again."""
    latest = max(video.results, key=keys.request_number, default=None)
    if latest is None or latest not in video.reduced:
        return 0
    try:
        removed = Reduced.from_json((await buckets.video.get(keys.reduction(video.id, latest))).body)
    except (ObjectNotFound, RecordUnreadable):
        return 0
    number = keys.request_number(latest)
    made = sum(
        run.size_bytes
        for name, run in video.runs.items()
        if keys.request_number(keys.request_of_run(video.id, name)) > number
    )
    return max(0, removed.size_bytes - made)
