"""A cache of what was read from the store a short time ago, for what every request needs."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


@dataclass(slots=True, eq=False)
class _Entry(Generic[Found]):
    reading: asyncio.Future[Found]
    began: float
    until: float = math.inf
    weight: int = 0


class RecentReads(Generic[Key, Found]):
    """Reads by key, each used for `seconds` after it began. `clock` returns seconds.

    Concurrent requests for a key share one read. Failures are not kept. Beyond a total weight of `capacity`,
    what was used longest ago is dropped; without `weight`, each read weighs 1. A clock that is set back makes
    reads older, never younger.
    """

    def __init__(
        self,
        read: Callable[[Key], Awaitable[Found]],
        *,
        seconds: float | Callable[[Found], float],
        capacity: int,
        clock: Callable[[], float],
        weight: Callable[[Found], int] = lambda _: 1,
    ) -> None:
        self._read = read
        self._seconds = seconds if callable(seconds) else lambda _: seconds
        self._capacity = capacity
        self._clock = clock
        self._weigh = weight
        self._entries: dict[Key, _Entry[Found]] = {}
        """The one used last is at the end."""
        self._weight = 0

    def peek(self, key: Key) -> Found | None:
        """Return what a recent read found, or None without waiting."""
        entry = self._recent(key)
        return entry.reading.result() if entry is not None and entry.reading.done() else None

    async def get(self, key: Key) -> Found:
        """Return what a recent read found, or read. Raises what the read raises."""
        entry = self._recent(key) or self._begin(key)
        return await asyncio.shield(entry.reading)

    def forget(self, key: Key) -> None:
        """Read again at the next request: the caller has changed what is stored."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry.weight

    def forget_all(self) -> None:
        self._entries.clear()
        self._weight = 0

    def _recent(self, key: Key) -> _Entry[Found] | None:
        entry = self._entries.get(key)
        if entry is None or not entry.began <= self._clock() < entry.until:
            return None
        self._entries[key] = self._entries.pop(key)
        return entry

    def _begin(self, key: Key) -> _Entry[Found]:
        self.forget(key)
        self._entries[key] = entry = _Entry(asyncio.ensure_future(self._read(key)), self._clock())

        def ended(reading: asyncio.Future[Found]) -> None:
            failed = reading.cancelled() or reading.exception() is not None
            if self._entries.get(key) is not entry:
                return
            if failed:
                del self._entries[key]
                return
            entry.until = entry.began + self._seconds(reading.result())
            entry.weight = self._weigh(reading.result())
            self._weight += entry.weight
            while self._weight > self._capacity:
                self.forget(next(iter(self._entries)))

        entry.reading.add_done_callback(ended)
        return entry
