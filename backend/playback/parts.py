"""What a video has for players besides its manifests: single files, captions and chapters."""

import time
from collections.abc import Callable, Mapping
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
from backend.core.records import Chapter, Outputs, Stage, Status
from backend.core.status import complete_status
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
    REDUCED = "reduced"
    """Nothing: there are only files for download, as the rest was removed to save space."""


@dataclass(frozen=True, slots=True)
class Parts:
    """`files` maps those that exist to their run."""

    title: str
    run: str | None
    is_published: bool
    is_reduced: bool
    files: Mapping[str, str]
    tracks: tuple[Track, ...]
    chapters: tuple[Chapter, ...]
    picture: tuple[int, int] | None
    """Width and height of the best rendition; None for audio, or until it is known."""

    @property
    def presentation(self) -> Presentation:
        if self.is_reduced:
            return Presentation.REDUCED
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
        item = await read_item(self._buckets, video_id)
        status, kept = item.status, item.kept
        is_reduced = kept is not None and (status.stage is Stage.COMPLETE or not status.playable)
        if not status.playable and not is_reduced:
            raise NotReady
        shown = complete_status(kept) if kept is not None and is_reduced else status
        (files, chapters), uploaded = await gather_pair(
            self._files_and_chapters(shown), list_captions(self._buckets, video_id)
        )
        return Parts(
            item.video.title,
            keys.run_of_key(video_id, shown.outputs or ""),
            shown.stage is Stage.COMPLETE and not is_reduced,
            is_reduced,
            (_files_of(kept) if kept else {}) | files,
            tracks_of(uploaded, shown.captions),
            chapters,
            max(
                ((one.width, one.height) for one in shown.renditions if one.width and one.height),
                default=None,
            ),
        )

    async def _files_and_chapters(self, status: Status) -> tuple[dict[str, str], tuple[Chapter, ...]]:
        if status.stage is Stage.COMPLETE:
            outputs = await published_outputs(self._buckets, status.id)
            return ({}, ()) if outputs is None else (_files_of(outputs), outputs.chapters)
        early = (keys.POSTER, keys.STORYBOARD)
        found = await gather_or_cancel(
            exists(self._buckets.video, f"{status.outputs}{path}") for path in early
        )
        run = keys.run_of_key(status.id, status.outputs or "") or ""
        return dict.fromkeys(compress(early, found), run), status.chapters


def _files_of(outputs: Outputs) -> dict[str, str]:
    return dict.fromkeys(_FILES.intersection(output.path for output in outputs.objects), outputs.run)
