"""A store as one process sees it: calls may fail, be slow, or be the last ones before the process dies.

A call that was sent still takes effect, perhaps much later, even if the process is cancelled or killed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from backend.core.errors import StoreUnavailable
from backend.core.store.interface import Store
from tests.core.uploads.upload_lab import Killed


class Trouble(Enum):
    """What happens to one call."""

    LOST = "it does not arrive"
    ANSWER_LOST = "it arrives, but its response is lost"
    SLOW = "it arrives after a while"
    VERY_SLOW = "it arrives long after its lease expired"
    LATE = "it fails, and arrives soon after"
    VERY_LATE = "it fails, and arrives long after its lease expired"
    KILLED = "the process is killed before it"
    KILLED_BEHIND = "the process is killed after sending it"


DELAY_SECONDS = {Trouble.SLOW: 3.0, Trouble.VERY_SLOW: 25.0, Trouble.LATE: 1.0, Trouble.VERY_LATE: 25.0}
GIVEN_UP = (Trouble.LATE, Trouble.VERY_LATE)
NONE: Mapping[int, Trouble] = MappingProxyType({})


@dataclass
class Line:
    """The connection of a process to its stores."""

    dead: bool = False
    calls: int = 0
    troubles: dict[int, Trouble] = field(default_factory=dict)

    def expect(self, troubles: Mapping[int, Trouble]) -> None:
        """Schedule troubles, each by the number of calls before it."""
        self.troubles = {self.calls + after: trouble for after, trouble in troubles.items()}

    def next_trouble(self) -> Trouble | None:
        if self.dead:
            raise Killed
        trouble = self.troubles.pop(self.calls, None)
        self.calls += 1
        if trouble in (Trouble.KILLED, Trouble.KILLED_BEHIND):
            self.dead = True
        if trouble is Trouble.KILLED:
            raise Killed
        if trouble is Trouble.LOST:
            raise StoreUnavailable
        return trouble


class UnsteadyStore:
    """A store behind a `Line`."""

    def __init__(self, store: Store, line: Line) -> None:
        self._store = store
        self._line = line

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)

        async def call(*args: object, **options: object) -> object:
            trouble = self._line.next_trouble()

            async def on_its_way() -> object:
                if trouble in DELAY_SECONDS:
                    await asyncio.sleep(DELAY_SECONDS[trouble])
                return await verb(*args, **options)

            sent = asyncio.ensure_future(on_its_way())
            sent.add_done_callback(_heard)
            if trouble in GIVEN_UP:
                raise StoreUnavailable
            answer = await asyncio.shield(sent)
            if trouble is Trouble.ANSWER_LOST:
                raise StoreUnavailable
            if self._line.dead:
                raise Killed
            return answer

        async def listing(*args: object, **options: object) -> AsyncIterator[object]:
            trouble = self._line.next_trouble()
            if trouble in GIVEN_UP:
                raise StoreUnavailable
            if trouble in DELAY_SECONDS:
                await asyncio.sleep(DELAY_SECONDS[trouble])
            async for one in verb(*args, **options):
                if self._line.dead:
                    raise Killed
                yield one
            if trouble is Trouble.ANSWER_LOST:
                raise StoreUnavailable

        return listing if name in {"read", "list_all", "list_uploads"} else call


def _heard(sent: "asyncio.Future[object]") -> None:
    """Retrieve the error of a call that nobody waits for any more, so that asyncio does not warn."""
    if not sent.cancelled():
        sent.exception()
