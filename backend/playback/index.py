"""Finds the run that a video currently plays from."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from backend.core import keys
from backend.core.errors import NotReady
from backend.core.library.videos import read_item
from backend.core.records import CaptionTrack, Stage
from backend.core.store.interface import Buckets

IN_PROGRESS_SECONDS = 2.0
PUBLISHED_SECONDS = 10.0
"""How long this process caches what it read. After that, a deleted video is gone everywhere."""
CACHED_VIDEOS = 4096


@dataclass(frozen=True, slots=True)
class Playable:
    """The run that a video currently plays from."""

    video_id: str
    prefix: str
    is_published: bool
    title: str
    duration_seconds: float
    captions: tuple[CaptionTrack, ...]
    """Captions from the source file."""

    def key_of(self, path: str) -> str:
        """Raises: BadRequest: the path leads outside the video."""
        return keys.playable_object(self.video_id, self.prefix, path)


@dataclass(slots=True, eq=False)
class _CacheEntry:
    reading: "asyncio.Task[Playable]"
    valid_until: float = math.inf


class PlaybackIndex:
    """Resolves video ids for thousands of segment requests with a few reads of the store.

    Concurrent requests for one video share one read. Failures are not cached. `monotonic` returns seconds.
    """

    def __init__(self, buckets: Buckets, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._buckets = buckets
        self._monotonic = monotonic
        self._cache: dict[str, _CacheEntry] = {}

    async def resolve(self, video_id: str) -> Playable:
        """Raises: VideoNotFound. NotReady: no run has written anything yet."""
        cached = self._cache.get(video_id)
        if cached is None or cached.valid_until <= self._monotonic():
            cached = self._begin_reading(video_id)
        return await asyncio.shield(cached.reading)

    def forget(self, video_id: str) -> None:
        self._cache.pop(video_id, None)

    def _begin_reading(self, video_id: str) -> _CacheEntry:
        started = self._monotonic()
        entry = _CacheEntry(asyncio.create_task(self._read(video_id)))
        self._cache.pop(video_id, None)
        self._cache[video_id] = entry
        if len(self._cache) > CACHED_VIDEOS:
            del self._cache[next(iter(self._cache))]

        def finished(reading: "asyncio.Task[Playable]") -> None:
            if reading.cancelled() or reading.exception() is not None:
                entry.valid_until = started
            else:
                lifetime = PUBLISHED_SECONDS if reading.result().is_published else IN_PROGRESS_SECONDS
                entry.valid_until = started + lifetime

        entry.reading.add_done_callback(finished)
        return entry

    async def _read(self, video_id: str) -> Playable:
        item = await read_item(self._buckets, video_id)
        prefix = item.status.outputs
        if prefix is None or not prefix.startswith(keys.video_prefix(video_id)):
            raise NotReady
        return Playable(
            video_id,
            prefix,
            is_published=item.status.stage is Stage.COMPLETE,
            title=item.video.title,
            duration_seconds=item.status.duration_seconds or 0,
            captions=item.status.captions,
        )
