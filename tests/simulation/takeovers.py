"""Whether every lease that took over from another waited long enough, by the store's clock."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from backend.core.records import LeaseState
from tests.simulation.scheduler import broken


@dataclass(slots=True)
class LeaseHistory:
    """When a lease was written, and when it may be taken over."""

    written: int
    longest_silence: int = 0
    due: float | None = None
    """When a released lease may be taken."""


class TakeOvers:
    """The histories of all leases of one kind. `seconds` is the store's time."""

    def __init__(self, lease_seconds: float, seconds: Callable[[], int]) -> None:
        self._lease_seconds = lease_seconds
        self._seconds = seconds
        self.histories: dict[str, LeaseHistory] = {}

    def written(self, key: str, body: bytes, before: str | None, *, over: bool) -> None:
        """Note a write. `before`: the previous generation. `over`: nothing is left to run."""
        now, lease = self._seconds(), json.loads(body)
        if "Internal error" in (lease["last_error"] or ""):
            broken(f"a fault of the product's own: {lease['last_error']}")
        history = self.histories.get(key)
        if history is None:
            if before is not None:
                self._check(key, before, now, over=over)
            history = self.histories[key] = LeaseHistory(now)
        history.longest_silence = max(history.longest_silence, now - history.written)
        history.written = now
        if lease["state"] == LeaseState.RELEASED and history.due is None:
            history.due = now + lease["retry_after_seconds"]

    def _check(self, key: str, before: str, now: int, *, over: bool) -> None:
        previous = self.histories.get(before)
        if previous is None:
            broken(f"{key} follows on no lease")
        silence = max(previous.longest_silence, now - previous.written)
        due = previous.due is not None and previous.due <= now
        if silence <= self._lease_seconds and not due and not over:
            broken(f"{key} took over from a worker that had been silent for {silence} s at most")
