"""Measures how long the programs of an attempt have made no progress, for the stall watchdog."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class ActivityClock:
    """Counts the seconds since the last progress. It stands still while the store is being waited for."""

    def __init__(self) -> None:
        self._idle_seconds = 0.0
        self._running_since = time.monotonic()
        self._waits = 0

    def touch(self) -> None:
        """Start from zero: something made progress."""
        self._idle_seconds, self._running_since = 0.0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Stop the clock for the block, which waits for the store. Blocks may overlap."""
        self._idle_seconds = self.idle_seconds
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            self._running_since = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        return self._idle_seconds + (0.0 if self._waits else time.monotonic() - self._running_since)
