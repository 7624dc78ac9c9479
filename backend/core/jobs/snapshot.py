"""The queue as one LIST showed it, and which of its jobs nobody here has tried to claim yet."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.core.jobs.leases import SeenLease
from backend.core.records import Lease

MAX_MISSES = 2
"""After this many markers in a row that others had claimed, a snapshot is too old to be of use."""


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
        markers: Iterable[str],
        leases: Sequence[SeenLease],
        due: Sequence[tuple[SeenLease, Lease]],
        planned: Sequence[PlannedJob] = (),
        *,
        truncated: bool = False,
    ) -> None:
        """`markers` are waiting requests, oldest first, and `due` the leases that may be taken over.

        `planned`: jobs that are divided, oldest first. `truncated`: more jobs wait than were listed.
        """
        self.truncated = truncated
        self.planned = tuple(planned)
        leased = {seen.request for seen in leases}
        self.leases = tuple(leases)
        self.markers = tuple(request for request in markers if request not in leased)
        self._due = list(due)
        self._waiting = list(self.markers)
        self._misses = 0

    @property
    def is_empty(self) -> bool:
        return not self.markers and not self.leases

    @property
    def is_used_up(self) -> bool:
        return not self._due and not self._waiting

    def next_due(self, whole: bool | None = None) -> tuple[SeenLease, Lease] | None:
        """Take the oldest lease that may be taken over."""
        found = next((one for one in self._due if _suits(one[1], whole)), None)
        if found is not None:
            self._due.remove(found)
        return found

    def next_waiting(self, rng: random.Random, spread: int) -> str | None:
        """Take one of the `spread` oldest markers."""
        if not self._waiting:
            return None
        return self._waiting.pop(rng.randrange(min(spread, len(self._waiting))))

    def missed(self) -> None:
        """Note that another worker had already claimed a marker of this snapshot."""
        self._misses += 1
        if self._misses >= MAX_MISSES:
            self._waiting.clear()

    def hit(self) -> None:
        """Note that a marker of this snapshot was still there."""
        self._misses = 0


def _suits(lease: Lease, whole: bool | None) -> bool:
    return whole is None or lease.whole is whole
