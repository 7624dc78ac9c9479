"""The memory that all uploads of a process share: a pool of buffers for parts, first come, first served.

However many uploads there are, and however slow their clients, the pool never exceeds its size. An upload
that finds it empty waits, and stops reading from its client meanwhile. When others wait, a buffer that fills
too slowly is reclaimed. From then on, that client is known to be slow: faster ones go first, and all slow
ones together get at most half of the pool, so that fast ones never wait for them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

MIB = 1024 * 1024
SLOW_SECONDS = 2.0
"""A buffer that takes longer than this to fill is reclaimed when other uploads wait for memory."""
FIRST_LOOK_SECONDS = 0.5
"""It is reclaimed this early if it fills at less than a part in `CRAWLING_SECONDS`."""
CRAWLING_SECONDS = 16.0


class Pace(Enum):
    """How a client filled its last buffers. The value is for how long it lets others go first, in seconds."""

    FAST = 0.0
    SLOW = 10.0
    """One was reclaimed. That may happen to a fast client which pauses, so it gets another turn soon."""
    CRAWLING = 60.0
    """Two in a row were reclaimed early."""


class Buffer:
    """The bytes of one part: filled from the start, then sent without a copy."""

    def __init__(self, memory: bytearray, slow: bool, give_back: Callable[["Buffer"], None]) -> None:
        self.memory = memory
        self.slow = slow
        """Whether it was handed to a client that is known to be slow."""
        self._give_back = give_back
        self.size_bytes = 0
        """How much of it is filled."""

    @property
    def full(self) -> bool:
        return self.size_bytes == len(self.memory)

    @property
    def content(self) -> memoryview:
        return memoryview(self.memory)[: self.size_bytes]

    def fill(self, data: memoryview) -> int:
        """Copy as much of `data` as there is room for, and return how much that was."""
        taken = min(len(data), len(self.memory) - self.size_bytes)
        self.memory[self.size_bytes : self.size_bytes + taken] = data[:taken]
        self.size_bytes += taken
        return taken

    def release(self) -> None:
        self._give_back(self)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    weight: int
    slow: bool
    goes_before: float
    """By the event loop's clock: when it came; later for a slow client."""
    turn: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Filling:
    since: float
    bytes_before: int
    """What was read back from a tail; it says nothing about the client."""
    reclaim: Callable[[bool], None]

    def crawls(self, buffer: Buffer, now: float) -> bool:
        elapsed = now - self.since
        filled = buffer.size_bytes - self.bytes_before
        return elapsed >= FIRST_LOOK_SECONDS and filled * CRAWLING_SECONDS < len(buffer.memory) * elapsed


class PartBuffers:
    """A pool of `total_bytes`. A buffer larger than the whole pool is handed out while no other is in use."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._free = total_bytes
        self._held_by_slow = 0
        self._waiting: list[_Waiter] = []
        self._spare: list[bytearray] = []
        self._filling: dict[Buffer, _Filling] = {}

    async def acquire(self, size_bytes: int, pace: Pace = Pace.FAST) -> Buffer:
        """Wait until there is memory for a buffer of `size_bytes`, and return it empty."""
        loop = asyncio.get_running_loop()
        slow, goes_before = pace is not Pace.FAST, loop.time() + pace.value
        waiter = _Waiter(min(size_bytes, self._total), slow, goes_before, loop.create_future())
        self._waiting.append(waiter)
        self._waiting.sort(key=lambda one: one.goes_before)
        self._admit()
        if not waiter.turn.done():
            await self._wait(waiter)
        return Buffer(self._memory(size_bytes), slow, self._take_back)

    def allow_reclaim(self, buffer: Buffer, reclaim: Callable[[bool], None]) -> None:
        """Call `reclaim` if the buffer fills too slowly while other uploads wait: with True if it crawls."""
        self._filling[buffer] = _Filling(asyncio.get_running_loop().time(), buffer.size_bytes, reclaim)

    def pin(self, buffer: Buffer) -> None:
        """Stop reclaiming the buffer: it is being sent, and is released after that."""
        self._filling.pop(buffer, None)

    async def _wait(self, waiter: _Waiter) -> None:
        try:
            while not waiter.turn.done():
                await asyncio.wait([waiter.turn], timeout=FIRST_LOOK_SECONDS)
                if not waiter.turn.done():
                    self._reclaim_slow_ones()
        except asyncio.CancelledError:
            if waiter.turn.done():
                self._add_to_free(waiter.weight, slow=waiter.slow)
            else:
                self._waiting.remove(waiter)
            self._admit()
            raise

    def _reclaim_slow_ones(self) -> None:
        now = asyncio.get_running_loop().time()
        for buffer, filling in list(self._filling.items()):
            crawls = filling.crawls(buffer, now)
            if crawls or now - filling.since >= SLOW_SECONDS:
                del self._filling[buffer]
                filling.reclaim(crawls)

    def _take_back(self, buffer: Buffer) -> None:
        self._filling.pop(buffer, None)
        size_bytes = len(buffer.memory)
        if size_bytes <= self._total:
            self._spare.append(buffer.memory)
        self._add_to_free(min(size_bytes, self._total), slow=buffer.slow)
        self._admit()

    def _add_to_free(self, weight: int, *, slow: bool) -> None:
        self._free += weight
        self._held_by_slow -= weight if slow else 0

    def _admit(self) -> None:
        for waiter in list(self._waiting):
            held_by_slow = self._held_by_slow + (waiter.weight if waiter.slow else 0)
            if waiter.slow and self._held_by_slow and held_by_slow > self._total // 2:
                continue  # later ones in the line may be fast
            if waiter.weight > self._free:
                return
            self._waiting.remove(waiter)
            self._held_by_slow = held_by_slow
            self._free -= waiter.weight
            waiter.turn.set_result(None)

    def _memory(self, size_bytes: int) -> bytearray:
        """Reuse spare memory of this size. Otherwise spare memory of other sizes is freed to make room."""
        for index, spare in enumerate(self._spare):
            if len(spare) == size_bytes:
                return self._spare.pop(index)
        held = sum(map(len, self._spare))
        while held > self._free:
            held -= len(self._spare.pop(0))
        return bytearray(size_bytes)
