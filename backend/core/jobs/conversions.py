"""Requests that wait for the outcomes of conversions.

All that wait in a process share one watcher. It lists what is queued or leased, however many wait, and reads
the outcome of each conversion that is neither any more. Some more are read in turn: a worker that dies right
after it has published leaves a lease.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ObjectNotFound, StoreError, TooManyConversions
from backend.core.records import Outcome, RecordUnreadable, read_outcome
from backend.core.store.interface import Buckets, Store

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.3
BUSY_SHARE = 0.2
"""The watcher rests so long after a look that looking takes at most this share of the time."""
MAX_PAGES = 4
"""Of a LIST. If more is queued, nothing can be said of what is not listed, and all are read in turn."""
READ_IN_TURN = 8
"""At each look."""
READS_AT_ONCE = 32
DISCARDS_AT_ONCE = 16
"""Each has a limited time: a thousand at once, as after a proxy has died, would all run out of it."""


class Conversions:
    """`at_once` is how many may be received or wait in this process at a time."""

    def __init__(self, buckets: Buckets, at_once: int) -> None:
        self._buckets = buckets
        self._free = at_once
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._turns: deque[str] = deque()
        self._watching: asyncio.Task[None] | None = None
        self.discarding = asyncio.Semaphore(DISCARDS_AT_ONCE)
        """To be held while a conversion is deleted."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the duration of the block. Raises: TooManyConversions: there is none."""
        if not self._free:
            raise TooManyConversions
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    async def outcome(self, video_id: str) -> Outcome | None:
        """Return how the conversion ended; None: it has not. Raises: RecordUnreadable, StoreError."""
        try:
            stored = await self._buckets.video.get(keys.result(video_id, video_id))
        except ObjectNotFound:
            return None
        return read_outcome(stored.body)

    async def wait(self, video_id: str, seconds: float) -> Outcome | None:
        """Wait until the conversion has ended; None: it has not within `seconds`."""
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[video_id] = ended
        self._turns.append(video_id)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(seconds):
                return await ended
        except TimeoutError:
            return None
        finally:
            del self._waiting[video_id]

    def end(self) -> None:
        """Answer all that wait as if their time was over: the server stops."""
        for ended in self._waiting.values():
            if not ended.done():
                ended.set_exception(TimeoutError())

    async def _watch(self) -> None:
        while self._waiting:
            began = time.monotonic()
            try:
                await self._look()
            except StoreError as error:
                log.warning("conversions_not_looked_at", error=error.message)
            took = time.monotonic() - began
            await asyncio.sleep(max(LOOK_SECONDS, took / BUSY_SHARE))
        self._turns.clear()

    async def _look(self) -> None:
        waiting = [video_id for video_id, ended in self._waiting.items() if not ended.done()]
        # in this order: a job moves from its marker to a lease
        queued = await _requests_below(self._buckets.raw, keys.QUEUE, keys.parse_marker)
        leased = await _requests_below(self._buckets.raw, keys.LEASES, _leased)
        gone = [] if queued is None or leased is None else [one for one in waiting if one not in queued]
        gone = [one for one in gone if one not in (leased or ())]
        reading, free = dict.fromkeys([*gone, *self._next_turns()]), asyncio.Semaphore(READS_AT_ONCE)

        async def read(video_id: str) -> None:
            async with free:
                try:
                    outcome = await self.outcome(video_id)
                except RecordUnreadable as error:
                    log.warning("record_unreadable", video=video_id, error=error.message)
                    return
            ended = self._waiting.get(video_id)
            if outcome is not None and ended is not None and not ended.done():
                ended.set_result(outcome)

        await gather_or_cancel(map(read, reading))

    def _next_turns(self) -> Iterator[str]:
        for _ in range(min(READ_IN_TURN, len(self._turns))):
            video_id = self._turns.popleft()
            if video_id in self._waiting:
                self._turns.append(video_id)
                yield video_id


def _leased(key: str) -> str:
    return keys.parse_lease(key).request


async def _requests_below(raw: Store, prefix: str, parse: Callable[[str], str]) -> set[str] | None:
    """Return the requests of all markers or leases; None: there are too many."""
    found, start_after = set[str](), ""
    for _ in range(MAX_PAGES):
        page = await raw.list_page(prefix, start_after=start_after)
        found.update(keys.ours(parse, (info.key for info in page.objects)))
        if not page.truncated:
            return found
        start_after = page.objects[-1].key
    return None
