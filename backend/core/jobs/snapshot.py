"""The queue as one LIST showed it, and which of its jobs nobody here has tried to claim yet."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import NamedTuple

from backend.core import keys
from backend.core.jobs.leases import SeenLease
from backend.core.records import Lease

MAX_MISSES = 2
"""After this many markers in a row that others had claimed, a snapshot is too old to be of use."""
OLDEST_SHARE = 0.25
"""How often the oldest job goes first, instead of the one that costs least: none starves."""


class Needs(Enum):
    """The kind of slot that a job needs next."""

    FETCHING = "fetching"
    PLANNING = "planning"
    ENCODING = "encoding"
    """Only jobs that are known to be indivisible."""


class Waiting(NamedTuple):
    """A job's marker."""

    rank: str
    request: str

    @property
    def key(self) -> str:
        return keys.marker(self.request, self.rank)

    @property
    def needs(self) -> Needs:
        return Needs.FETCHING if self.rank == keys.FETCHED else Needs.PLANNING


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that is divided into units."""

    seen: SeenLease
    lease: Lease
    is_parked: bool
    """Nobody holds the job, and it may be joined as soon as its units are ready."""


class QueueSnapshot:
    """Markers and leases as one LIST showed them. Any number of claimers may use it up concurrently."""

    def __init__(
        self,
        markers: Iterable[Waiting],
        leases: Sequence[SeenLease],
        due: Sequence[tuple[SeenLease, Lease]],
        planned: Sequence[PlannedJob] = (),
        *,
        truncated: bool = False,
    ) -> None:
        """`markers` are waiting jobs, and `due` the leases that may be taken over.

        `planned`: jobs that are divided, oldest first. `truncated`: more jobs wait than were listed.
        """
        self.truncated = truncated
        self.planned = tuple(planned)
        leased = {seen.request for seen in leases}
        self.leases = tuple(leases)
        self.markers = tuple(waiting for waiting in markers if waiting.request not in leased)
        self._due = list(due)
        self._waiting = list(self.markers)
        self._misses = 0

    @property
    def is_empty(self) -> bool:
        return not self.markers and not self.leases

    @property
    def is_used_up(self) -> bool:
        return not self._due and not self._waiting

    def next_due(self, needs: Needs | None = None) -> tuple[SeenLease, Lease] | None:
        """Take the oldest lease that may be taken over, and whose job needs this. None: anything."""
        found = next((one for one in self._due if needs in {None, _needs_of(one[1])}), None)
        if found is not None:
            self._due.remove(found)
        return found

    def next_waiting(self, rng: random.Random, spread: int, needs: Needs | None = None) -> Waiting | None:
        """Take one of the `spread` markers to begin with: mostly, what costs little goes before the rest."""
        suitable = [one for one in self._waiting if needs in {None, one.needs}]
        if not suitable:
            return None
        suitable.sort(key=attrgetter("request") if rng.random() < OLDEST_SHARE else None)
        found = suitable[rng.randrange(min(spread, len(suitable)))]
        self._waiting.remove(found)
        return found

    def missed(self) -> None:
        """Note that another worker had already claimed a marker of this snapshot."""
        self._misses += 1
        if self._misses >= MAX_MISSES:
            self._waiting.clear()

    def hit(self) -> None:
        """Note that a marker of this snapshot was still there."""
        self._misses = 0


def _needs_of(lease: Lease) -> Needs:
    if lease.job.is_to_be_fetched:
        return Needs.FETCHING
    return Needs.ENCODING if lease.whole else Needs.PLANNING
