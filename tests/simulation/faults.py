"""Faults of store calls and their rates in one schedule, all drawn from the schedule's seed.

Each schedule has its own mix, which leaves out most kinds of faults: some bugs appear only if a single kind
strikes alone.
"""

import random
import re
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
"""Calls that a network, a proxy or an SDK may repeat."""


class Fate(Enum):
    NONE = auto()
    CRASH_BEFORE = auto()
    """The process dies before the call takes effect."""
    CRASH_AFTER = auto()
    FREEZE_BEFORE = auto()
    """The process freezes before the call, often for longer than its lease."""
    FREEZE_AFTER = auto()
    SLOW = auto()
    """Only the call hangs; the rest of the process continues."""
    LOST = auto()
    """The call takes effect, but the caller sees an error."""
    FAILED = auto()
    """The call does not take effect, and the caller sees an error."""
    LATE = auto()
    """The caller sees an error, and the call takes effect later."""
    REPEATED = auto()
    """The call takes effect twice, the second time later."""
    STOP = auto()
    """SIGTERM."""


KINDS = tuple(fate for fate in Fate if fate is not Fate.NONE)
KIND_SHARE = 0.3
RATES = (0.005, 0.02, 0.08)
AIMED_SHARE = 0.1
AIMED_RATE = 0.3


class Faults:
    """Draws the fates of one schedule."""

    def __init__(
        self,
        rng: random.Random,
        lease_seconds: float,
        often: frozenset[Fate] = frozenset(),
        aimed: tuple[Fate, str] | None = None,
    ) -> None:
        """`often` names kinds that must be in the mix, `aimed` one that often strikes calls like this."""
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
        if aimed is None and rng.random() < AIMED_SHARE:
            aimed = rng.choice(KINDS), rng.choice(sorted(MUTATIONS))
        self._aimed = aimed

    def cease(self) -> None:
        self._total, self._aimed = 0.0, None

    @property
    def over(self) -> bool:
        """Whether they have ceased, or there were never to be any."""
        return self._total == 0.0 and self._aimed is None

    def fate(self, call: object) -> Fate:
        if self._aimed is not None:
            fate, pattern = self._aimed
            if re.match(rf"{pattern}\b", str(call)) and self._rng.random() < AIMED_RATE:
                return self._struck(fate)
        chance = self._rng.random()
        if chance >= self._total:
            return Fate.NONE
        return self._struck(next(fate for until, fate in self._until if chance < until))

    def _struck(self, fate: Fate) -> Fate:
        self.struck[fate] = self.struck.get(fate, 0) + 1
        return fate

    def freeze_seconds(self) -> float:
        return self._lease_seconds * self._rng.choice((0.2, 0.9, 1.1, 2.5, 6))

    def delay_seconds(self) -> float:
        return self._lease_seconds * self._rng.choice((0, 0.1, 0.5, 1.2, 3))

    def restart_seconds(self) -> float:
        return self._lease_seconds * self._rng.choice((0, 0.5, 2))

    def outlives_its_sender(self) -> bool:
        return self._rng.random() < 0.5
