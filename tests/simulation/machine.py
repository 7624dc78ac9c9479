"""A worker's machine in virtual time: what runs at once shares it."""

import asyncio
from dataclasses import dataclass, field

EPSILON = 1e-6


@dataclass(slots=True, eq=False)
class _Load:
    left: float
    most: float
    done: asyncio.Event = field(default_factory=asyncio.Event)
    rate: float = 0.0


class Machine:
    """Shares its speed fairly between loads, as an operating system does with programs of many threads."""

    def __init__(self) -> None:
        self._loads: list[_Load] = []
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def work(self, seconds: float, most: float = 1.0) -> None:
        """Do what takes this long on an idle machine, if `most` of its cores can be used for it."""
        load = _Load(seconds * most, most)
        self._pass_time()
        self._loads.append(load)
        self._share()
        try:
            await load.done.wait()
        finally:
            self._pass_time()
            if load in self._loads:
                self._loads.remove(load)
            self._share()

    def _pass_time(self) -> None:
        now = asyncio.get_running_loop().time()
        for load in self._loads:
            load.left -= load.rate * (now - self._since)
        self._since = now

    def _share(self) -> None:
        """Give each load its share, and wake up when the first one ends."""
        free, waiting = 1.0, sorted(self._loads, key=lambda load: load.most)
        for number, load in enumerate(waiting):
            load.rate = min(load.most, free / (len(waiting) - number))
            free -= load.rate
        if self._timer is not None:
            self._timer.cancel()
        if self._loads:
            soonest = min(load.left / load.rate for load in self._loads)
            self._timer = asyncio.get_running_loop().call_later(max(soonest, 0.0), self._end)

    def _end(self) -> None:
        self._pass_time()
        for load in [load for load in self._loads if load.left <= EPSILON]:
            self._loads.remove(load)
            load.done.set()
        self._share()
