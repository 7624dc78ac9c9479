"""What one look at the queue showed, and what of it is still to be tried."""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from backend.core import keys
from backend.core.errors import BadRequest
from backend.core.jobs.leases import SeenLease
from backend.core.records import Lease
from backend.core.store.interface import ObjectInfo

MISSES_OF_A_VIEW = 2
"""After so many markers in a row that others had claimed, a view is too old to go on with."""


class QueueSnapshot:
    """Queue and leases as one LIST showed them; claiming uses them up, by any number of claimers at once."""

    def __init__(
        self,
        objects: Iterable[ObjectInfo],
        leases: Sequence[SeenLease],
        due: Sequence[tuple[SeenLease, Lease]],
        *,
        goes_on: bool = False,
    ) -> None:
        """`objects` is what was listed; `leases` are those among it, `due` those that may be taken over.

        `goes_on`: more jobs wait than were listed.
        """
        self.goes_on = goes_on
        leased = {seen.request for seen in leases}
        self.leases = tuple(leases)
        self.markers = tuple(request for request in _markers(objects) if request not in leased)
        """Requests that wait, oldest first."""
        self._due = deque(due)
        self._waiting = list(self.markers)
        self._misses = 0

    @property
    def is_empty(self) -> bool:
        return not self.markers and not self.leases

    @property
    def is_used_up(self) -> bool:
        return not self._due and not self._waiting

    def next_due(self) -> tuple[SeenLease, Lease] | None:
        return self._due.popleft() if self._due else None

    def next_waiting(self, rng: random.Random, spread: int) -> str | None:
        """Take one of the `spread` oldest markers."""
        if not self._waiting:
            return None
        return self._waiting.pop(rng.randrange(min(spread, len(self._waiting))))

    def missed(self) -> None:
        """Note that somebody else had claimed a marker of this view."""
        self._misses += 1
        if self._misses >= MISSES_OF_A_VIEW:
            self._waiting.clear()

    def hit(self) -> None:
        self._misses = 0


def _markers(objects: Iterable[ObjectInfo]) -> Iterator[str]:
    for info in objects:
        with suppress(BadRequest):
            yield keys.parse_marker(info.key)
