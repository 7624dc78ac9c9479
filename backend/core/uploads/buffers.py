"""The memory that all uploads of a process share: buffers for parts, lent first come, first served.

However many uploads there are and however slow their clients, no more than the pool's bytes are held.
Whoever finds the pool empty waits, so that clients are held back by their own connections. A buffer that a
slow client has not filled for a while is asked back when others wait, and they go first the next time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

MIB = 1024 * 1024
SLOW_TURN_SECONDS = 10.0
"""For so long a slow client lets those go first that come after it."""
SLOW_SECONDS = 2.0
"""A part that takes longer to arrive is put aside when other uploads wait for memory."""


class Buffer:
    """A part on its way: filled from its start, then sent from where it lies."""

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
    """By the event loop's clock: when it came, or later where others may go first."""
    turn: asyncio.Future[None]


class PartBuffers:
    """A pool of `total_bytes`. One buffer that is larger than all of it is lent while no other is."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._free = total_bytes
        self._waiting: list[_Waiter] = []
        self._spare: list[bytearray] = []
        self._filling: dict[Buffer, tuple[float, Callable[[], None]]] = {}

    async def lend(self, size_bytes: int, *, slow: bool = False) -> Buffer:
        """Return an empty buffer of `size_bytes`, when there is memory for it.

        Whoever was `slow` lately lets others go first, but not for ever.
        """
        weight = min(size_bytes, self._total)
        if self._waiting or self._free < weight:
            await self._wait(weight, slow=slow)
        else:
            self._free -= weight
        return Buffer(self._memory(size_bytes), self._take_back)

    def ask_back(self, buffer: Buffer, when_asked: Callable[[], None]) -> None:
        """Call `when_asked` as soon as the buffer has been filling for too long and others wait."""
        self._filling[buffer] = (asyncio.get_running_loop().time(), when_asked)

    def keep(self, buffer: Buffer) -> None:
        """The buffer is full or under way: it comes back by itself."""
        self._filling.pop(buffer, None)

    async def _wait(self, weight: int, *, slow: bool) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(weight, loop.time() + (SLOW_TURN_SECONDS if slow else 0), loop.create_future())
        self._waiting.append(waiter)
        self._waiting.sort(key=lambda one: one.goes_before)
        try:
            while not waiter.turn.done():
                await asyncio.wait([waiter.turn], timeout=SLOW_SECONDS)
                if not waiter.turn.done():
                    self._ask_slow_ones()
        except asyncio.CancelledError:
            if waiter.turn.done():
                self._free += weight
            else:
                self._waiting.remove(waiter)
            self._admit()
            raise

    def _ask_slow_ones(self) -> None:
        now = asyncio.get_running_loop().time()
        for buffer, (since, when_asked) in list(self._filling.items()):
            if now - since >= SLOW_SECONDS:
                del self._filling[buffer]
                when_asked()

    def _take_back(self, buffer: Buffer) -> None:
        self._filling.pop(buffer, None)
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
        """Reuse memory of this size; spare memory of other sizes makes room."""
        for index, spare in enumerate(self._spare):
            if len(spare) == size_bytes:
                return self._spare.pop(index)
        held = sum(map(len, self._spare))
        while held > self._free:
            held -= len(self._spare.pop(0))
        return bytearray(size_bytes)
