"""What a video has for players besides its manifests: single files, captions and chapters."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress

from backend.core import keys
from backend.core.concurrency import gather_or_cancel, gather_pair
from backend.core.errors import NotReady
from backend.core.library.captions import list_captions
from backend.core.library.tracks import Track, tracks_of
from backend.core.library.videos import published_outputs, read_item
from backend.core.recent_reads import RecentReads
from backend.core.records import Chapter, Stage, Status
from backend.core.store.interface import Buckets, exists
from backend.playback.index import IN_PROGRESS_SECONDS, PUBLISHED_SECONDS

CAPACITY = 20_000
"""Videos, captions and chapters that are cached."""
_FILES = frozenset({keys.DOWNLOAD, keys.DOWNLOAD_MP4, keys.POSTER, keys.STORYBOARD})


class Presentation(StrEnum):
    """What the manifests of a video describe now."""

    FIRST_LOOK = "first_look"
    """The whole video in one quality, until all are ready. Segments are held back until they exist."""
    GROWING = "growing"
    """What is encoded so far. There is no DASH manifest yet."""
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Parts:
    """`files` are those of `run` that exist."""

    run: str | None
    is_published: bool
    files: frozenset[str]
    tracks: tuple[Track, ...]
    chapters: tuple[Chapter, ...]

    @property
    def presentation(self) -> Presentation:
        if self.is_published:
            return Presentation.COMPLETE
        is_look = self.run is not None and keys.is_look(self.run)
        return Presentation.FIRST_LOOK if is_look else Presentation.GROWING


class PartsReads:
    """Reads the parts of videos, each with about ten requests to the store. `monotonic` returns seconds."""

    def __init__(self, buckets: Buckets, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._buckets = buckets
        self._recent = RecentReads(
            self.read,
            seconds=lambda parts: PUBLISHED_SECONDS if parts.is_published else IN_PROGRESS_SECONDS,
            capacity=CAPACITY,
            clock=monotonic,
            weight=lambda parts: 1 + len(parts.tracks) + len(parts.chapters),
        )

    async def recent(self, video_id: str) -> Parts:
        """Return what was read in the last seconds, for guests. Raises as `read`."""
        return await self._recent.get(video_id)

    def forget(self, video_id: str) -> None:
        self._recent.forget(video_id)

    async def read(self, video_id: str) -> Parts:
        """Raises: VideoNotFound. NotReady: nothing can be played yet."""
        status = (await read_item(self._buckets, video_id)).status
        if not status.playable:
            raise NotReady
        (files, chapters), uploaded = await gather_pair(
            self._files_and_chapters(status), list_captions(self._buckets, video_id)
        )
        return Parts(
            keys.run_of_key(video_id, status.outputs or ""),
            status.stage is Stage.COMPLETE,
            files,
            tracks_of(uploaded, status.captions),
            chapters,
        )

    async def _files_and_chapters(self, status: Status) -> tuple[frozenset[str], tuple[Chapter, ...]]:
        if status.stage is Stage.COMPLETE:
            outputs = await published_outputs(self._buckets, status.id)
            if outputs is None:
                return frozenset(), ()
            return _FILES.intersection(output.path for output in outputs.objects), outputs.chapters
        early = (keys.POSTER, keys.STORYBOARD)
        found = await gather_or_cancel(
            exists(self._buckets.video, f"{status.outputs}{path}") for path in early
        )
        return frozenset(compress(early, found)), status.chapters
