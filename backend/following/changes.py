"""What happens to all videos, for subscribers who follow all that they may see.

One task per process reads the event log and the list of running jobs, and each video of which something is
new, however many subscribers there are. Each has an inbox of bounded size.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from backend.core import keys
from backend.core.backoff import Backoff
from backend.core.concurrency import gather_or_cancel, sleep_unless_set
from backend.core.errors import StoreError, VideoNotFound
from backend.core.event_records import EventKind
from backend.core.events.feed import EventFeed
from backend.core.library.videos import LibraryItem, read_item
from backend.core.records import RecordUnreadable, StatusWord
from backend.core.store.interface import Buckets
from backend.following.videos import WAKE_SECONDS, FollowedVideos
from backend.playback.rights import Protection

log = structlog.get_logger(__name__)

JOBS_SECONDS = 2.0
"""How often to look which jobs run."""
FEED_WAIT_SECONDS = 25.0
MAX_RUNNING = 32
"""Videos whose progress is followed at a time. Of others, only beginning and end are told."""
READS_AT_ONCE = 8
MAX_INBOX = 500
"""Videos that an inbox holds. With more, its subscriber is told to list them all."""
KNOWN_VIDEOS = 10_000
"""Of so many it is remembered who could see them."""
_BACKOFF = Backoff(1, 30)


class Change(NamedTuple):
    """What has become of a video."""

    item: LibraryItem | None
    """None: it was deleted."""
    before: Protection | None
    """What decided before who may see it. None: that is not known."""


@dataclass(eq=False, slots=True)
class _Inbox:
    changes: dict[str, Change] = field(default_factory=dict)
    is_full: bool = False
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, video_id: str, change: Change) -> None:
        if earlier := self.changes.get(video_id):
            change = change._replace(before=earlier.before)
        self.changes[video_id] = change
        self.is_full = self.is_full or len(self.changes) > MAX_INBOX
        if self.is_full:
            self.changes.clear()
        self.filled.set()

    def take(self) -> Mapping[str, Change]:
        taken = {} if self.is_full else self.changes
        self.changes, self.is_full = {}, False
        self.filled.clear()
        return taken


class Changes:
    """Tells what has changed, by whichever process."""

    def __init__(self, buckets: Buckets, feed: EventFeed, videos: FollowedVideos) -> None:
        self._buckets = buckets
        self._feed = feed
        self._videos = videos
        self._inboxes: set[_Inbox] = set()
        self._noted: dict[str, None] = {}
        self._is_noted = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, Protection] = {}
        self._watching: asyncio.Task[object] | None = None
        self._is_ending = False

    async def follow(self) -> AsyncGenerator[Mapping[str, Change] | None]:
        """Yield what has changed, by video, and None after `WAKE_SECONDS` without a change.

        An empty mapping means that too much has changed to tell it all. Ends when the process stops.
        """
        inbox = _Inbox()
        self._inboxes.add(inbox)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        try:
            while not self._is_ending and not self._watching.done():
                await sleep_unless_set(inbox.filled, WAKE_SECONDS)
                yield inbox.take() if inbox.filled.is_set() else None
        finally:
            self._inboxes.discard(inbox)
            if not self._inboxes and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    def note(self, video_id: str) -> None:
        """Something has happened to this video."""
        if self._inboxes:
            self._noted[video_id] = None
            self._is_noted.set()

    def end(self) -> None:
        """Let nobody wait any longer: the process stops."""
        self._is_ending = True
        if self._watching is not None:
            self._watching.cancel()
        for inbox in self._inboxes:
            inbox.filled.set()

    async def _watch(self) -> None:
        try:
            await gather_or_cancel(
                [self._read_noted(), _kept_up(self._read_events), _kept_up(self._read_jobs)]
            )
        finally:
            for task in self._running.values():
                task.cancel()
            self._noted.clear()

    async def _read_events(self) -> None:
        await self._feed.read(None, 1, 0)
        after = self._feed.log.last
        while True:
            for event in await self._feed.read(after, 200, FEED_WAIT_SECONDS):
                after = event.number
                if event.type != EventKind.TEST.type:
                    self.note(event.data.id)

    async def _read_jobs(self) -> None:
        """Follow the videos whose jobs run."""
        while True:
            page = await self._buckets.raw.list_page(keys.LEASES)
            for lease in keys.ours(keys.parse_lease, (info.key for info in page.objects)):
                video_id = keys.video_of_request(lease.request)
                if video_id not in self._running and len(self._running) < MAX_RUNNING:
                    self._running[video_id] = asyncio.create_task(self._follow(video_id))
            await asyncio.sleep(JOBS_SECONDS)

    async def _follow(self, video_id: str) -> None:
        try:
            async with aclosing(self._videos.follow(video_id)) as seen:
                async for item in seen:
                    if item is not None:
                        self._tell(video_id, item)
                        if item.status.status is not StatusWord.PROCESSING:
                            return
        except VideoNotFound:
            self._tell(video_id, None)
        finally:
            del self._running[video_id]

    async def _read_noted(self) -> None:
        while True:
            await self._is_noted.wait()
            self._is_noted.clear()
            while self._noted:
                some = list(self._noted)[:READS_AT_ONCE]
                for video_id in some:
                    del self._noted[video_id]
                await gather_or_cancel(self._read(video_id) for video_id in some)

    async def _read(self, video_id: str) -> None:
        try:
            self._tell(video_id, await read_item(self._buckets, video_id))
        except VideoNotFound:
            self._tell(video_id, None)
        except (StoreError, RecordUnreadable) as error:
            log.warning("change_not_read", video=video_id, error=error.message)
            for inbox in self._inboxes:
                inbox.is_full = True  # they list the videos themselves
                inbox.filled.set()

    def _tell(self, video_id: str, item: LibraryItem | None) -> None:
        before = self._known.pop(video_id, None)
        if item is not None:
            self._known[video_id] = Protection(item.video.owner, item.video.visibility)
            if len(self._known) > KNOWN_VIDEOS:
                del self._known[next(iter(self._known))]
        for inbox in self._inboxes:
            inbox.put(video_id, Change(item, before))


async def _kept_up(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begin `work` again, after growing pauses, while the store is unavailable."""
    failures = 0
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await work()
        except StoreError as error:
            if asyncio.get_running_loop().time() - began > _BACKOFF.longest_seconds:
                failures = 0
            failures += 1
            log.warning("changes_not_followed", error=error.message)
            await asyncio.sleep(_BACKOFF.pause_seconds(failures))
