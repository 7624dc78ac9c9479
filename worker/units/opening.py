"""Which looks this worker has begun and nobody can play yet: they get all of the machine."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MAX_OPENING_SECONDS = 5.0


class Openings:
    """Other units begin when no look is being opened. `on_opened` is called when that may have changed."""

    def __init__(self, on_opened: Callable[[], None]) -> None:
        self._on_opened = on_opened
        self._looks: set[object] = set()

    def __bool__(self) -> bool:
        return bool(self._looks)

    @contextmanager
    def opening(self) -> Iterator[Callable[[], None]]:
        """Open one look until what this yields is called, the block ends, or it takes too long."""
        look = object()
        self._looks.add(look)

        def opened() -> None:
            if look in self._looks:
                self._looks.remove(look)
                self._on_opened()

        limit = asyncio.get_running_loop().call_later(MAX_OPENING_SECONDS, opened)
        try:
            yield opened
        finally:
            limit.cancel()
            opened()
