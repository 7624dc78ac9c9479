"""Finds the run that a video currently plays from."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from backend.core import keys
from backend.core.errors import NotReady
from backend.core.library.videos import read_item
from backend.core.recent_reads import RecentReads
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
    run: str
    is_published: bool
    title: str
    duration_seconds: float
    captions: tuple[CaptionTrack, ...]
    """Captions from the source file."""
    reduced_run: str | None = None
    """The published run, if its renditions are removed: `keys.KEPT` are there. It plays until another can."""

    @property
    def can_play(self) -> bool:
        """Whether the run has more than files for download."""
        return self.run != self.reduced_run

    @property
    def download_run(self) -> str | None:
        return self.run if self.is_published else self.reduced_run


class PlaybackIndex:
    """Resolves video ids for thousands of requests with a few reads of the store.

    `monotonic` returns seconds.
    """

    def __init__(self, buckets: Buckets, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._buckets = buckets
        self._recent = RecentReads(
            self._read,
            seconds=lambda playable: PUBLISHED_SECONDS if playable.is_published else IN_PROGRESS_SECONDS,
            capacity=CACHED_VIDEOS,
            clock=monotonic,
        )

    async def resolve(self, video_id: str) -> Playable:
        """Raises: VideoNotFound. NotReady: no run has written anything yet."""
        return self._recent.peek(video_id) or await self._recent.get(video_id)

    def forget(self, video_id: str) -> None:
        self._recent.forget(video_id)

    async def _read(self, video_id: str) -> Playable:
        item = await read_item(self._buckets, video_id)
        reduced_run = item.kept.run if item.kept else None
        run = keys.run_of_key(video_id, item.status.outputs or "") or reduced_run
        if run is None:
            raise NotReady
        return Playable(
            video_id,
            run,
            is_published=item.status.stage is Stage.COMPLETE and reduced_run is None,
            title=item.video.title,
            duration_seconds=item.status.duration_seconds or 0,
            captions=item.status.captions,
            reduced_run=reduced_run,
        )
