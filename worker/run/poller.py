"""When to poll the queue, what to claim from a snapshot of it, and what changes after an outage.

All slots of a worker share one poller: an idle worker costs one LIST per pause, however many slots it has.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import structlog

from backend.core.backoff import Backoff
from backend.core.concurrency import run_unless_set, sleep_unless_set
from backend.core.errors import MachineFault, StoreError
from backend.core.jobs.interface import VideoJobs
from backend.core.jobs.snapshot import QueueSnapshot
from worker.run.machine import CHECKS

log = structlog.get_logger(__name__)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

FIRST_PAUSE_SECONDS = 1.0
"""After a poll that found nothing; it doubles each time, up to the poll interval."""
DEAF_SECONDS = 0.2
"""After a poll no bell is heard for this long, so that any number of them costs five polls a second."""
UNITS_PAUSE_SECONDS = 1.5
"""The longest pause while there is a job that is divided."""
MAX_OUTAGE_PAUSE_SECONDS = 30.0
"""Between polls while the store does not answer."""
SNAPSHOT_SECONDS = 10.0
"""How long one snapshot may be claimed from."""
SLOW_SHARE_OF_LEASE = 1 / 6
"""A poll that takes longer than this share of a lease counts as an outage."""
HOLD_OFF_SHARE_OF_LEASE = 1 / 2
"""How long silent workers have to renew their leases after an outage, as a share of a lease."""


class Find(Protocol[T_co]):
    """Claims something of a snapshot for one slot. Returns None if there is nothing in it for that slot."""

    async def __call__(self, snapshot: QueueSnapshot, *, silent_too: bool) -> T_co | None:
        """Without `silent_too`, what silent workers hold is left alone."""
        ...


async def _always_ready() -> None:
    return


class Poller:
    """Finds jobs until `stop` is set or, with `drain`, until no job waits or runs anywhere.

    `poll_seconds` is the longest pause between polls of an idle queue. `ready` is called before each claim;
    while it raises MachineFault, nothing is claimed. `rung` is set when there may be a new job: it ends the
    pause of an idle queue.
    """

    def __init__(
        self,
        queue: VideoJobs,
        stop: asyncio.Event,
        *,
        poll_seconds: float,
        lease_seconds: float,
        drain: bool = False,
        ready: Callable[[], Awaitable[None]] = _always_ready,
        rung: asyncio.Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._stop = stop
        self._lease_seconds = lease_seconds
        self._drain = drain
        self._ready = ready
        self._rung = rung or asyncio.Event()
        self._faults = 0
        self._monotonic = monotonic
        self._polling = asyncio.Lock()
        self._snapshot: QueueSnapshot | None = None
        self._polled_at = 0.0
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, poll_seconds)
        self._outage_backoff = Backoff(poll_seconds * 2, MAX_OUTAGE_PAUSE_SECONDS)
        self._pause, self._deaf, self._idle_polls = 0.0, 0.0, 0
        self._hold_off_until = 0.0

    async def next(self, find: Find[T]) -> T | None:
        """Wait until `find` claims something of a snapshot. None: there will be no more."""
        exhausted: QueueSnapshot | None = None
        while True:
            try:
                snapshot = await self._usable_snapshot(exhausted)
                if snapshot is None:
                    return None
                if not snapshot.is_used_up or snapshot.planned:
                    await self._check_machine()
                claim = await find(snapshot, silent_too=self._may_take_over)
            except MachineFault as error:
                self._snapshot = None
                self._faults += 1
                self._pause = self._deaf = CHECKS.pause_seconds(self._faults)
                log.error("machine_not_ready", error=error.message, pause_seconds=round(self._pause, 1))
                continue
            except StoreError as error:
                self._snapshot = None
                self._hold_off()
                self._pause = self._deaf = self._outage_backoff.pause_seconds(1)
                log.warning("queue_unreachable", error=error.message, pause_seconds=round(self._pause, 1))
                continue
            if claim is not None:
                self._pause, self._deaf, self._idle_polls = 0.0, 0.0, 0
                return claim
            exhausted = snapshot

    async def _check_machine(self) -> None:
        await self._ready()
        if self._faults:
            self._faults = 0
            log.info("machine_ready")

    async def _usable_snapshot(self, exhausted: QueueSnapshot | None) -> QueueSnapshot | None:
        """Return a snapshot that the caller, or another slot, has not found to hold nothing for it."""
        if (snapshot := self._fresh(exhausted)) is not None:
            return snapshot  # even while another slot waits to poll, as it found nothing in this one
        async with self._polling:
            if (snapshot := self._fresh(exhausted)) is not None:
                return snapshot
            if self._drain and self._snapshot is not None and self._snapshot.is_empty:
                return None
            if exhausted is not None and exhausted is self._snapshot and not exhausted.is_used_up:
                # other slots still find jobs in it, each of which would end the pause of this one
                self._pause = max(self._pause, self._backoff.pause_seconds(1))
            await self._wait_to_poll()
            if self._stop.is_set():
                return None
            self._snapshot = await self._poll()
            return self._snapshot

    def _fresh(self, exhausted: QueueSnapshot | None) -> QueueSnapshot | None:
        usable = self._monotonic() - self._polled_at < SNAPSHOT_SECONDS
        return self._snapshot if usable and self._snapshot is not exhausted else None

    async def _wait_to_poll(self) -> None:
        await sleep_unless_set(self._stop, self._deaf)
        await run_unless_set(self._stop, sleep_unless_set(self._rung, self._pause - self._deaf))
        self._idle_polls = 1 if self._rung.is_set() else self._idle_polls + 1
        self._rung.clear()  # before the poll: a job added during it rings again
        self._pause = self._backoff.pause_seconds(self._idle_polls)
        if self._snapshot is not None and self._snapshot.planned:  # units come and go
            self._pause = min(self._pause, UNITS_PAUSE_SECONDS)
        self._deaf = min(DEAF_SECONDS, self._pause)

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
