"""The memory that all uploads of a process share: a pool of buffers for parts, first come, first served.

However many uploads there are, and however slow their clients, the pool never exceeds its size. An upload
that finds it empty waits, and stops reading from its client meanwhile. When others wait, a buffer that a slow
client has not filled for a while is reclaimed, and faster clients go before that client the next time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

MIB = 1024 * 1024
SLOW_TURN_SECONDS = 10.0
"""For how long a slow client lets others go first when it waits for memory."""
SLOW_SECONDS = 2.0
"""A buffer that takes longer than this to fill is reclaimed when other uploads wait for memory."""


class Buffer:
    """The bytes of one part: filled from the start, then sent without a copy."""

    def __init__(self, memory: bytearray, give_back: Callable[["Buffer"], None]) -> None:
        self.memory = memory
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
    goes_before: float
    """By the event loop's clock: when it came; later for a slow client."""
    turn: asyncio.Future[None]


class PartBuffers:
    """A pool of `total_bytes`. A buffer larger than the whole pool is handed out while no other is in use."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._free = total_bytes
        self._waiting: list[_Waiter] = []
        self._spare: list[bytearray] = []
        self._reclaimable: dict[Buffer, tuple[float, Callable[[], None]]] = {}

    async def acquire(self, size_bytes: int, *, slow: bool = False) -> Buffer:
        """Wait until there is memory for a buffer of `size_bytes`, and return it empty.

        A `slow` client lets others go first, but only for `SLOW_TURN_SECONDS`.
        """
        weight = min(size_bytes, self._total)
        if self._waiting or self._free < weight:
            await self._wait(weight, slow=slow)
        else:
            self._free -= weight
        return Buffer(self._memory(size_bytes), self._take_back)

    def allow_reclaim(self, buffer: Buffer, reclaim: Callable[[], None]) -> None:
        """Call `reclaim` once the buffer has been filling for too long and other uploads wait for memory."""
        self._reclaimable[buffer] = (asyncio.get_running_loop().time(), reclaim)

    def pin(self, buffer: Buffer) -> None:
        """Stop reclaiming the buffer: it is being sent, and is released after that."""
        self._reclaimable.pop(buffer, None)

    async def _wait(self, weight: int, *, slow: bool) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(weight, loop.time() + (SLOW_TURN_SECONDS if slow else 0), loop.create_future())
        self._waiting.append(waiter)
        self._waiting.sort(key=lambda one: one.goes_before)
        try:
            while not waiter.turn.done():
                await asyncio.wait([waiter.turn], timeout=SLOW_SECONDS)
                if not waiter.turn.done():
                    self._reclaim_slow_ones()
        except asyncio.CancelledError:
            if waiter.turn.done():
                self._free += weight
            else:
                self._waiting.remove(waiter)
            self._admit()
            raise

    def _reclaim_slow_ones(self) -> None:
        now = asyncio.get_running_loop().time()
        for buffer, (since, reclaim) in list(self._reclaimable.items()):
            if now - since >= SLOW_SECONDS:
                del self._reclaimable[buffer]
                reclaim()

    def _take_back(self, buffer: Buffer) -> None:
        self._reclaimable.pop(buffer, None)
        size_bytes = len(buffer.memory)
        if size_bytes <= self._total:
            self._spare.append(buffer.memory)
        self._free += min(size_bytes, self._total)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0].weight <= self._free:
            waiter = self._waiting.pop(0)
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
