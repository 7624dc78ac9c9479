"""Which segment of a look viewers wait for: the API writes it, the worker that makes the look reads it."""

import time
from collections.abc import Callable

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.records import RecordUnreadable, Wanted
from backend.core.store.interface import Store

ASK_EVERY_SECONDS = 1.0
"""Per process and request: of the segments that are asked for in between, none is written."""


class Wants:
    """The newest wish of each request. The last write wins: a look has one place at a time to go on from.

    `monotonic` and `now` return seconds; they are replaced in tests.
    """

    def __init__(
        self,
        raw: Store,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._raw = raw
        self._monotonic = monotonic
        self._now = now
        self._asked: dict[str, float] = {}
        """When a wish of each request was last written, the latest last."""

    async def ask(self, request: str, segment: int) -> None:
        """Say that a viewer waits for this segment. Call it repeatedly while that is so.

        Most calls cost nothing: one a second is written. Raises: StoreError.
        """
        now = self._monotonic()
        while self._asked and next(iter(self._asked.values())) <= now - ASK_EVERY_SECONDS:
            del self._asked[next(iter(self._asked))]
        if request in self._asked:
            return
        self._asked[request] = now
        wish = Wanted(segment=segment, at_unix_ms=int(self._now() * 1000))
        await self._raw.put(keys.wanted(request), wish.to_json())

    async def newest(self, request: str) -> int | None:
        """Return the segment that was asked for last, or None. Raises: StoreError."""
        try:
            return Wanted.from_json((await self._raw.get(keys.wanted(request))).body).segment
        except (ObjectNotFound, RecordUnreadable):
            return None
