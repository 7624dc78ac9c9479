"""The worker's one view of the queue: when to look again, what to claim from a look, what an outage changes.

All slots of a worker share it: an idle worker costs one LIST per pause however many jobs it could run.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from backend.core.backoff import Backoff
from backend.core.concurrency import sleep_unless_set
from backend.core.errors import StoreError
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import QueueSnapshot

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
"""After a look that found nothing; doubled with each, up to the poll interval."""
LONGEST_PAUSE_SECONDS = 30.0
"""Between looks while the store does not answer."""
VIEW_SECONDS = 10.0
"""How long one look may be claimed from."""
SLOW_SHARE_OF_LEASE = 1 / 6
"""A look that takes longer, in leases, says that the store was away."""
HELD_BACK_SHARE_OF_LEASE = 1 / 2
"""How long after an outage silent workers have to be heard of again, in leases."""


class Poller:
    """Finds jobs until `stop`, with `drain` until no job waits or runs anywhere.

    `poll_seconds` is the longest pause between looks at a queue with nothing to do.
    """

    def __init__(
        self,
        queue: JobQueue,
        stop: asyncio.Event,
        *,
        poll_seconds: float,
        lease_seconds: float,
        drain: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._stop = stop
        self._lease_seconds = lease_seconds
        self._drain = drain
        self._monotonic = monotonic
        self._looking = asyncio.Lock()
        self._view: QueueSnapshot | None = None
        self._looked_at = 0.0
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, poll_seconds)
        self._outage_backoff = Backoff(poll_seconds * 2, LONGEST_PAUSE_SECONDS)
        self._pause, self._idle_polls = 0.0, 0
        self._held_back_until = 0.0

    async def next_claim(self) -> Claim | None:
        """Wait for a job and claim it; None: there will be none any more."""
        while True:
            try:
                view = await self._usable_view()
                if view is None:
                    return None
                claim = await self._queue.claim(view, silent_too=self._hears_of_everyone)
            except StoreError as error:
                self._view = None
                self._store_was_away()
                self._pause = self._outage_backoff.pause_seconds(1)
                log.warning("queue_unreachable", error=error.message, pause_seconds=round(self._pause, 1))
                continue
            if claim is not None:
                self._pause, self._idle_polls = 0.0, 0
                return claim

    async def _usable_view(self) -> QueueSnapshot | None:
        async with self._looking:
            if self._view is not None and self._is_usable(self._view):
                return self._view
            if self._drain and self._view is not None and self._view.is_empty:
                return None
            await self._rest()
            if self._stop.is_set():
                return None
            self._view = await self._look()
            return self._view

    def _is_usable(self, view: QueueSnapshot) -> bool:
        return not view.is_used_up and self._monotonic() - self._looked_at < VIEW_SECONDS

    async def _rest(self) -> None:
        await sleep_unless_set(self._stop, self._pause)
        self._idle_polls += 1
        self._pause = self._backoff.pause_seconds(self._idle_polls)

    async def _look(self) -> QueueSnapshot:
        began = self._monotonic()
        view = await self._queue.poll()
        self._looked_at = self._monotonic()
        if self._looked_at - began > self._lease_seconds * SLOW_SHARE_OF_LEASE:
            self._store_was_away()
        return view

    @property
    def _hears_of_everyone(self) -> bool:
        return self._monotonic() >= self._held_back_until

    def _store_was_away(self) -> None:
        """Workers that could not renew their leases meanwhile live: they are given the time to say so."""
        self._held_back_until = self._monotonic() + self._lease_seconds * HELD_BACK_SHARE_OF_LEASE
