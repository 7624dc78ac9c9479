"""Which segment of a look viewers wait for: the API writes it, the worker that makes the look reads it."""

import asyncio
import time
from collections.abc import Callable

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.records import RecordUnreadable
from backend.core.store.interface import Store
from backend.core.unit_records import Wanted

ASK_EVERY_SECONDS = 1.0
"""How often this process writes a wish for the same look."""


class Wants:
    """The newest wish for each look: it has one place at a time to go on from, so the last write wins.

    `clock` returns Unix time in seconds.
    """

    def __init__(self, raw: Store, clock: Callable[[], float] = time.time) -> None:
        self._raw = raw
        self._clock = clock
        self._newest: dict[str, int] = {}
        """By request: the segment that is asked for and not written yet."""
        self._written: dict[str, float] = {}
        """By request: when a wish was last written, by the loop's clock. The latest is at the end."""

    async def ask(self, request: str, segment: int) -> None:
        """Say that a viewer has begun to wait for this segment.

        It returns once that is written, or a newer wish has taken its place: that may take a second.

        Raises: StoreError.
        """
        now = asyncio.get_running_loop().time
        while self._written and next(iter(self._written.values())) <= now() - ASK_EVERY_SECONDS:
            del self._written[next(iter(self._written))]
        self._newest[request] = segment
        try:
            if request in self._written:
                await asyncio.sleep(self._written[request] + ASK_EVERY_SECONDS - now())
        finally:
            newest = self._newest.get(request) == segment
            if newest:
                del self._newest[request]
        if newest:
            self._written.pop(request, None)
            self._written[request] = now()
            wish = Wanted(segment=segment, at_unix_ms=int(self._clock() * 1000))
            await self._raw.put(keys.wanted(request), wish.to_json())

    async def newest(self, request: str) -> int | None:
        """Return the segment that was asked for last, or None. Raises: StoreError."""
        try:
            return Wanted.from_json((await self._raw.get(keys.wanted(request))).body).segment
        except (ObjectNotFound, RecordUnreadable):
            return None
