"""Which looks this worker has begun and nobody plays yet: they get all of the machine."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MAX_OPENING_SECONDS = 5.0
PLAYER_START_SECONDS = 1.0
"""From when a look can be played to a player's first frame, if it runs on this machine too."""


class Openings:
    """Other units begin when no look is being opened. `on_opened` is called when that may have changed."""

    def __init__(self, on_opened: Callable[[], None]) -> None:
        self._on_opened = on_opened
        self._looks: set[object] = set()

    def __bool__(self) -> bool:
        return bool(self._looks)

    @contextmanager
    def opening(self) -> Iterator[Callable[[], None]]:
        """Open one look until a second after what this yields was called, but not for too long."""
        look, loop = object(), asyncio.get_running_loop()
        self._looks.add(look)

        def opened() -> None:
            self._looks.discard(look)
            self._on_opened()

        limit = loop.call_later(MAX_OPENING_SECONDS, opened)

        def playable() -> None:
            nonlocal limit
            limit.cancel()
            limit = loop.call_later(PLAYER_START_SECONDS, opened)

        try:
            yield playable
        except BaseException:  # nobody will play this attempt's look
            limit.cancel()
            opened()
            raise
