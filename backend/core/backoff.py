"""How long to pause before trying again: one policy for stores, queues and servers that do not answer."""

import random
from dataclasses import dataclass

FACTOR = 2.0
JITTER = 0.1
"""Clients that failed at the same moment must not all come back at the same moment."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from the first to the longest, each extended by a random share up to `jitter`."""

    first_seconds: float
    longest_seconds: float
    jitter: float = JITTER

    def pause_seconds(self, failures: int) -> float:
        """Return the pause after this many failures in a row: zero without one."""
        if failures < 1:
            return 0.0
        pause = self.first_seconds
        for _ in range(failures - 1):
            if pause >= self.longest_seconds:
                break
            pause *= FACTOR
        return min(pause, self.longest_seconds) * random.uniform(1, 1 + self.jitter)  # noqa: S311  # load only
