"""Two coroutines that take turns at a bucket, call by call, so that a test decides how they interleave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Any

from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Body,
    Buckets,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    StoredObject,
)
from tests.lab.memory_store import MemoryStore

_player: ContextVar[str | None] = ContextVar("player", default=None)
SETTLED = 25
"""After this many passes of the event loop, every task waits for its turn or has ended."""
MANY_CALLS = 1000


class Turns:
    """Holds back each call of a player until it is let through."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Event]] = {}

    async def take(self) -> None:
        player = _player.get()
        if player is not None:
            turn = asyncio.Event()
            self._waiting.setdefault(player, []).append(turn)
            await turn.wait()

    async def let(self, player: str, calls: int, task: asyncio.Task[Any]) -> int:
        """Let the player make up to this many calls, and return how many it made before it ended."""
        for made in range(calls + 1):
            for _ in range(SETTLED):
                await asyncio.sleep(0)
            if task.done() or made == calls:
                return made
            self._waiting[player].pop(0).set()
        return calls


class TurnStore(MemoryStore):
    """A bucket whose callers take turns. Calls outside of a race are not held back."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await self._turns.take()
        await super().put(key, body, headers)

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await self._turns.take()
        return await super().create(key, body, headers)

    async def get(self, key: str) -> StoredObject:
        await self._turns.take()
        return await super().get(key)

    async def delete(self, key: str) -> None:
        await self._turns.take()
        await super().delete(key)

    async def head(self, key: str) -> ObjectInfo:
        await self._turns.take()
        return await super().head(key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        await self._turns.take()
        await super().delete_many(keys)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        await self._turns.take()
        return await super().list_page(prefix, start_after=start_after, limit=limit)


@dataclass(frozen=True, slots=True)
class Race:
    """Two coroutines that use these buckets, not started yet."""

    buckets: Buckets
    first: Coroutine[Any, Any, object]
    second: Coroutine[Any, Any, object]


@dataclass(frozen=True, slots=True)
class Ended:
    """What the two returned or raised."""

    buckets: Buckets
    first: object
    second: object


async def every_order(
    begin: Callable[[Turns], Awaitable[Race]], *, whole: bool = False
) -> AsyncIterator[Ended]:
    """Run the race again and again, and yield each end.

    One of the two makes some calls, the other makes some, the one makes all others, then the other does. All
    numbers of calls are tried, and each of the two is the one. With `whole`, the other makes all its calls.
    """
    for one, other in (("first", "second"), ("second", "first")):
        for calls in count():
            for calls_of_other in [MANY_CALLS] if whole else count():
                turns = Turns()
                race = await begin(turns)
                tasks = {"first": _start("first", race.first), "second": _start("second", race.second)}
                made = await turns.let(one, calls, tasks[one])
                made_by_other = await turns.let(other, calls_of_other, tasks[other])
                await turns.let(one, MANY_CALLS, tasks[one])
                await turns.let(other, MANY_CALLS, tasks[other])
                yield Ended(race.buckets, *await asyncio.gather(*tasks.values(), return_exceptions=True))
                if made_by_other < calls_of_other:
                    break
            if made < calls:
                break


def _start(player: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    token = _player.set(player)
    task = asyncio.create_task(work)
    _player.reset(token)
    return task
