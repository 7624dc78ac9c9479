"""The store as an attempt uses it: the stall watchdog's clock stands still while the store takes its time."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from backend.core.store.interface import Buckets, Store
from backend.core.store.retrying import RetryingStore
from worker.sandbox.activity import ActivityClock

T = TypeVar("T")


class WatchedStore(RetryingStore):
    """Stops `clock` during every call. Reads are not covered: `SourceFeeder` does that itself."""

    def __init__(self, store: Store, clock: ActivityClock) -> None:
        super().__init__(store, 0)
        self._clock = clock

    async def _try(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        with self._clock.waiting():
            return await call()


def watched(buckets: Buckets, clock: ActivityClock) -> Buckets:
    return Buckets(WatchedStore(buckets.raw, clock), WatchedStore(buckets.video, clock))
