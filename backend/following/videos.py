"""Follows videos for any number of subscribers, with one reader of the store per video and process.

A look is one LIST of a video's records. It tells like a conditional GET whether one of them has changed, and
only then the video is read. Subscribers get the newest state, so a slow one skips what came between.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import structlog

from backend.core import keys
from backend.core.backoff import Backoff
from backend.core.concurrency import sleep_unless_set
from backend.core.errors import StoreError, VideoNotFound
from backend.core.library.videos import LibraryItem, read_item
from backend.core.records import RecordUnreadable, StatusWord
from backend.core.store.interface import Buckets, ObjectInfo

log = structlog.get_logger(__name__)

WAKE_SECONDS = 2.0
"""How often a subscriber is woken if nothing happens, to see whether it may go on."""
EAGER_SECONDS = 0.15
"""Pause between looks while viewers wait for the first frame."""
EAGER_LOOKS = 100
"""After these, the video is probably waiting for a worker."""
BUSY_SECONDS = 1.0
IDLE_SECONDS = 5.0
"""Pause between looks at a video that is finished: how soon its deletion elsewhere is noticed."""
LONGEST_PAUSE_SECONDS = 15.0
"""While the store is unavailable."""


@dataclass(eq=False, slots=True)
class _Followed:
    followers: int = 0
    item: LibraryItem | None = None
    """None: not read yet."""
    is_gone: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set and replaced at each change."""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to look at once."""
    looking: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class FollowedVideos:
    """`on_change` is called with the id of a video that was changed or deleted, by whichever process."""

    def __init__(self, buckets: Buckets, on_change: Callable[[str], None]) -> None:
        self._buckets = buckets
        self._on_change = on_change
        self._followed: dict[str, _Followed] = {}
        self._is_ending = False

    async def follow(self, video_id: str) -> AsyncGenerator[LibraryItem | None]:
        """Yield the video now and after each change, and None after `WAKE_SECONDS` without one.

        Ends when the process stops. Raises: VideoNotFound: also when the video is deleted.
        """
        followed = self._followed.get(video_id) or self._begin(video_id)
        followed.followers += 1
        seen: LibraryItem | None = None
        try:
            while not self._is_ending:
                if followed.is_gone:
                    raise VideoNotFound
                if followed.item is seen:
                    if followed.looking is not None and followed.looking.done():
                        return  # it has crashed, which is logged
                    await sleep_unless_set(followed.changed, WAKE_SECONDS)
                    if followed.item is seen and not followed.is_gone and not self._is_ending:
                        yield None
                else:
                    seen = followed.item
                    yield seen
        finally:
            followed.followers -= 1
            if not followed.followers:
                self._end(video_id, followed)

    def hurry(self, video_id: str) -> None:
        """Look at once: this process has changed the video."""
        if followed := self._followed.get(video_id):
            followed.hurry.set()

    def end(self) -> None:
        """Let nobody wait any longer: the process stops."""
        self._is_ending = True
        for followed in self._followed.values():
            followed.wake()

    def _begin(self, video_id: str) -> _Followed:
        self._followed[video_id] = followed = _Followed()
        followed.looking = asyncio.create_task(self._look_again(video_id, followed))
        followed.looking.add_done_callback(lambda _: followed.wake())
        return followed

    def _end(self, video_id: str, followed: _Followed) -> None:
        if followed.looking is not None:
            followed.looking.cancel()
        if self._followed.get(video_id) is followed:
            del self._followed[video_id]

    async def _look_again(self, video_id: str, followed: _Followed) -> None:
        seen: tuple[ObjectInfo, ...] | None = None
        backoff, failures, looks = Backoff(BUSY_SECONDS, LONGEST_PAUSE_SECONDS), 0, 0
        while True:
            followed.hurry.clear()
            try:
                records = await self._records(video_id)
                if records is None or records != seen:
                    self._on_change(video_id)
                    item = await read_item(self._buckets, video_id)
                    seen = records
                    if followed.item is None or item.status.request != followed.item.status.request:
                        looks = 0
                    if item != followed.item:
                        followed.item = item
                        followed.wake()
                failures, looks = 0, looks + 1
            except VideoNotFound:
                self._on_change(video_id)
                followed.is_gone = True
                del self._followed[video_id]  # there may be one again
                return
            except (StoreError, RecordUnreadable) as error:
                failures += 1
                if failures == 1:
                    log.warning("video_not_followed", video=video_id, error=error.message)
            pause = backoff.pause_seconds(failures) if failures else _pause(followed.item, looks)
            await sleep_unless_set(followed.hurry, pause)

    async def _records(self, video_id: str) -> tuple[ObjectInfo, ...] | None:
        """Return what the store knows of the video's records, past its media. None: there are too many."""
        prefix = keys.video_prefix(video_id)
        page = await self._buckets.video.list_page(prefix, start_after=keys.before_records(video_id))
        return None if page.truncated else page.objects


def is_under_way(item: LibraryItem) -> bool:
    return item.status.status in (StatusWord.QUEUED, StatusWord.PROCESSING)


def _pause(item: LibraryItem | None, looks: int) -> float:
    if item is None or not is_under_way(item):
        return IDLE_SECONDS
    return BUSY_SECONDS if item.status.playable or looks > EAGER_LOOKS else EAGER_SECONDS
