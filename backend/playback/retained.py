"""What playback has to do with retention: it notes who is watched, and has what was removed made again."""

import time
from collections.abc import Callable

import structlog

from backend.core import keys
from backend.core.errors import STORE_AWAY
from backend.core.jobs.retry import rebuild_video
from backend.core.recent_reads import RecentReads
from backend.core.store.interface import Buckets, Store

log = structlog.get_logger(__name__)

DAY_SECONDS = 86_400
NOTED_VIDEOS = 100_000
BEGUN_SECONDS = 5.0
"""How long this process does not look again whether there is anything to make."""
BEGUN_VIDEOS = 4096


class WatchedVideos:
    """Records when videos were last watched: each process once a day and video. `clock` returns Unix time."""

    def __init__(self, video: Store, clock: Callable[[], float]) -> None:
        self._video = video
        self._clock = clock
        self._day = 0
        self._noted: set[str] = set()

    async def note(self, video_id: str) -> None:
        day = int(self._clock()) // DAY_SECONDS
        if day != self._day or len(self._noted) >= NOTED_VIDEOS:
            self._day, self._noted = day, set()
        if video_id in self._noted:
            return
        self._noted.add(video_id)
        try:
            await self._video.put(keys.watched(video_id), b"")
        except STORE_AWAY as error:  # the video may still be watched
            self._noted.discard(video_id)
            log.warning("watched_not_noted", video=video_id, error=error.message)


class Rebuilds:
    """Has removed renditions made again, for any number of viewers at once. `ring` tells the workers."""

    def __init__(self, buckets: Buckets, ring: Callable[[], None]) -> None:
        self._buckets = buckets
        self._ring = ring
        self._begun = RecentReads(
            self._begin, seconds=BEGUN_SECONDS, capacity=BEGUN_VIDEOS, clock=time.monotonic
        )

    async def begin(self, video_id: str) -> None:
        """Queue what makes the renditions of this video, unless it is queued or running or has failed.

        Raises: VideoNotFound.
        """
        await self._begun.get(video_id)

    async def _begin(self, video_id: str) -> bool:
        job = await rebuild_video(self._buckets, video_id)
        if job is not None:
            self._ring()
        return job is not None
