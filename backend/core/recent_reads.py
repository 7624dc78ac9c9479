"""A cache of what was read from the store a short time ago, for checks that every request repeats."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class RecentReads(Generic[Key, Found]):
    """Reads by key, each used for `seconds` after it began. `clock` returns Unix seconds.

    Concurrent requests for a key share one read. Failures are not kept. Beyond `capacity` keys, the oldest
    read is dropped. A clock that is set back makes reads older, never younger.
    """

    def __init__(
        self,
        read: Callable[[Key], Awaitable[Found]],
        *,
        seconds: float,
        capacity: int,
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        self._reads: dict[Key, tuple[float, asyncio.Future[Found]]] = {}

    def peek(self, key: Key) -> Found | None:
        """Return what a recent read found, or None without waiting."""
        began, reading = self._reads.get(key, (0.0, None))
        if reading is None or not reading.done() or not self._is_recent(began):
            return None
        return reading.result()

    async def get(self, key: Key) -> Found:
        """Return what a recent read found, or read. Raises what the read raises."""
        began, reading = self._reads.get(key, (0.0, None))
        if reading is None or not self._is_recent(began):
            reading = self._begin(key)
        return await asyncio.shield(reading)

    def forget(self, key: Key) -> None:
        """Read again at the next request: the caller has changed what is stored."""
        self._reads.pop(key, None)

    def forget_all(self) -> None:
        self._reads.clear()

    def _is_recent(self, began: float) -> bool:
        return 0 <= self._clock() - began < self._seconds

    def _begin(self, key: Key) -> asyncio.Future[Found]:
        reading = asyncio.ensure_future(self._read(key))
        self._reads.pop(key, None)
        self._reads[key] = entry = (self._clock(), reading)
        if len(self._reads) > self._capacity:
            del self._reads[next(iter(self._reads))]

        def drop_failure(ended: asyncio.Future[Found]) -> None:
            failed = ended.cancelled() or ended.exception() is not None
            if failed and self._reads.get(key) is entry:
                del self._reads[key]

        reading.add_done_callback(drop_failure)
        return reading
