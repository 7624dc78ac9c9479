"""What can go wrong with a store call, and how often in one schedule: all drawn from the schedule's seed.

Each schedule has a mix of its own, in which most of the kinds are missing: faults that are always there
hide what needs one kind alone.
"""

import random
from enum import Enum, auto

MUTATIONS = frozenset(
    {
        "put",
        "create",
        "delete",
        "delete_many",
        "open_upload",
        "put_part",
        "complete_upload",
        "abort_upload",
    }
)
REPEATED = frozenset({"put", "create", "delete", "delete_many"})
"""What a network, a proxy or an SDK may do once more."""


class Fate(Enum):
    NONE = auto()
    CRASH_BEFORE = auto()
    """The process dies before the call takes effect."""
    CRASH_AFTER = auto()
    FREEZE_BEFORE = auto()
    """The process stands still, often beyond its lease, and the call has not yet been made."""
    FREEZE_AFTER = auto()
    SLOW = auto()
    """Only the call hangs; the rest of the process continues."""
    LOST = auto()
    """It takes effect, the caller sees an error."""
    FAILED = auto()
    """It does not take effect, the caller sees an error."""
    LATE = auto()
    """The caller sees an error, and later it takes effect."""
    REPEATED = auto()
    """It takes effect twice, the second time later."""
    STOP = auto()
    """SIGTERM."""


KINDS = tuple(fate for fate in Fate if fate is not Fate.NONE)
KIND_SHARE = 0.3
RATES = (0.005, 0.02, 0.08)


class Faults:
    """Draws the fates of one schedule."""

    def __init__(
        self, rng: random.Random, lease_seconds: float, often: frozenset[Fate] = frozenset()
    ) -> None:
        """`often` are kinds that are sure to be in the mix."""
        self._rng = rng
        self._lease_seconds = lease_seconds
        self._until: list[tuple[float, Fate]] = []
        self.struck: dict[Fate, int] = {}
        total = 0.0
        for kind in KINDS:
            drawn, rate = rng.random() < KIND_SHARE, RATES[int(rng.random() * len(RATES))]
            if drawn or kind in often:
                total += RATES[-1] if kind in often else rate
                self._until.append((total, kind))
        self._total = total

    def cease(self) -> None:
        self._total = 0.0

    @property
    def over(self) -> bool:
        return self._total == 0.0

    def fate(self, verb: str) -> Fate:
        chance = self._rng.random()
        if chance >= self._total:
            return Fate.NONE
        for until, fate in self._until:
            if chance < until:
                self.struck[fate] = self.struck.get(fate, 0) + 1
                return fate
        raise AssertionError("the last kind reaches up to the total")

    def freeze_seconds(self) -> float:
        return self._lease_seconds * self._rng.choice((0.2, 0.9, 1.1, 2.5, 6))

    def delay_seconds(self) -> float:
        return self._lease_seconds * self._rng.choice((0, 0.1, 0.5, 1.2, 3))

    def restart_seconds(self) -> float:
        return self._lease_seconds * self._rng.choice((0, 0.5, 2))

    def outlives_its_sender(self) -> bool:
        return self._rng.random() < 0.5
