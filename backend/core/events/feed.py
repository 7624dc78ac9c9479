"""Lets any number of clients of a process wait for events, with one look at the store a second."""

import asyncio
import time
from collections.abc import Sequence

from backend.core.errors import BadRequest
from backend.core.event_records import Event
from backend.core.events.log import EventLog
from backend.core.store.interface import Buckets

LOOK_SECONDS = 1.0
APPENDS_AT_ONCE = 20
"""Of a long backlog, clients get what is logged so far."""


class UnknownEvent(BadRequest):
    """There is no event with this number yet. Leave out `after` to get the latest ones."""

    code = "unknown_event"


class EventFeed:
    """The event log, for clients that wait."""

    def __init__(self, buckets: Buckets) -> None:
        self.log = EventLog(buckets)
        self._lock = asyncio.Lock()
        self._looked_at = -LOOK_SECONDS
        self._ending = asyncio.Event()

    async def read(self, after: int | None, limit: int, wait_seconds: float) -> Sequence[Event]:
        """Return up to `limit` events after number `after`, by default the latest ones.

        If there are none yet, wait for one, up to `wait_seconds`. Raises: UnknownEvent.
        """
        deadline = time.monotonic() + wait_seconds
        await self._look()
        after = max(0, self.log.last - limit) if after is None else after
        if after > self.log.last:
            raise UnknownEvent
        while after == self.log.last and (left := deadline - time.monotonic()) > 0:
            if self._ending.is_set():
                break
            await asyncio.sleep(min(LOOK_SECONDS, left))
            await self._look()
        return await self.log.read(after, limit)

    async def _look(self) -> None:
        async with self._lock:
            if time.monotonic() - self._looked_at < LOOK_SECONDS / 2:
                return
            for _ in range(APPENDS_AT_ONCE):
                if not await self.log.append():
                    break
            self._looked_at = time.monotonic()

    def end(self) -> None:
        """Let nobody wait any longer: the process stops."""
        self._ending.set()
