"""When to poll the queue, what to claim from a snapshot of it, and what changes after an outage.

All slots of a worker share one poller: an idle worker costs one LIST per pause, however many slots it has.
"""

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from backend.core.concurrency import sleep_unless_set
from backend.core.errors import StoreError
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import QueueSnapshot

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
"""After a poll that found nothing; it doubles each time, up to the poll interval."""
JITTER = 0.1
"""Pauses are up to this share longer, never shorter: workers do not poll in step, nor more often than set."""
MAX_OUTAGE_PAUSE_SECONDS = 30.0
"""Between polls while the store does not answer."""
SNAPSHOT_SECONDS = 10.0
"""How long one snapshot may be claimed from."""
SLOW_SHARE_OF_LEASE = 1 / 6
"""A poll that takes longer than this share of a lease counts as an outage."""
HOLD_OFF_SHARE_OF_LEASE = 1 / 2
"""How long silent workers have to renew their leases after an outage, as a share of a lease."""


class Poller:
    """Finds jobs until `stop` is set or, with `drain`, until no job waits or runs anywhere.

    `poll_seconds` is the longest pause between polls of an idle queue.
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
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._drain = drain
        self._monotonic = monotonic
        self._polling = asyncio.Lock()
        self._snapshot: QueueSnapshot | None = None
        self._polled_at = 0.0
        self._pause = 0.0
        self._hold_off_until = 0.0

    async def next_claim(self) -> Claim | None:
        """Wait for a job and claim it. None: there will be no more."""
        while True:
            try:
                snapshot = await self._usable_snapshot()
                if snapshot is None:
                    return None
                claim = await self._queue.claim(snapshot, silent_too=self._may_take_over)
            except StoreError as error:
                self._snapshot = None
                self._hold_off()
                self._pause = min(self._poll_seconds * 2, MAX_OUTAGE_PAUSE_SECONDS)
                log.warning("queue_unreachable", error=error.message, pause_seconds=self._pause)
                continue
            if claim is not None:
                self._pause = 0.0
                return claim

    async def _usable_snapshot(self) -> QueueSnapshot | None:
        async with self._polling:
            if self._snapshot is not None and self._is_usable(self._snapshot):
                return self._snapshot
            if self._drain and self._snapshot is not None and self._snapshot.is_empty:
                return None
            await self._wait_to_poll()
            if self._stop.is_set():
                return None
            self._snapshot = await self._poll()
            return self._snapshot

    def _is_usable(self, snapshot: QueueSnapshot) -> bool:
        return not snapshot.is_used_up and self._monotonic() - self._polled_at < SNAPSHOT_SECONDS

    async def _wait_to_poll(self) -> None:
        await sleep_unless_set(self._stop, self._pause * random.uniform(1, 1 + JITTER))  # noqa: S311  # load only
        self._pause = min(max(FIRST_PAUSE_SECONDS, self._pause * 2), self._poll_seconds)

    async def _poll(self) -> QueueSnapshot:
        started = self._monotonic()
        snapshot = await self._queue.poll()
        self._polled_at = self._monotonic()
        if self._polled_at - started > self._lease_seconds * SLOW_SHARE_OF_LEASE:
            self._hold_off()
        return snapshot

    @property
    def _may_take_over(self) -> bool:
        return self._monotonic() >= self._hold_off_until

    def _hold_off(self) -> None:
        """After an outage, give workers that could not renew their leases the time to do so."""
        self._hold_off_until = self._monotonic() + self._lease_seconds * HOLD_OFF_SHARE_OF_LEASE
