"""What playback has to do with retention: it has what was removed made again."""

import time
from collections.abc import Callable

from backend.core.jobs.retry import rebuild_video
from backend.core.recent_reads import RecentReads
from backend.core.store.interface import Buckets

BEGUN_SECONDS = 5.0
"""How long this process does not look again whether there is anything to make."""
BEGUN_VIDEOS = 4096


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
