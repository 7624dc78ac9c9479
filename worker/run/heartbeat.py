"""Keeps a lease alive during its work, and until the store has recorded the end of that work."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from backend.core.concurrency import run_unless_set
from backend.core.errors import STORE_AWAY, LeaseLost, StoreError, StoreUnavailable

log = structlog.get_logger(__name__)

HEARTBEATS_PER_LEASE = 3
HEARTBEAT_RETRY_SECONDS = 1.0
RELEASE_RETRY_SECONDS = 5.0
RELEASE_TIMEOUT_SECONDS = 10.0
"""How long a stopping worker tries to release or end its work; longer if the store's patience is. If it
cannot, the lease expires, and the attempt counts."""


class StopRequested(Exception):
    """The worker was asked to stop."""


async def until_stopped(stop: asyncio.Event) -> None:
    """Raises: StopRequested: as soon as `stop` is set."""
    await stop.wait()
    raise StopRequested


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`patience_seconds` is how long the work waits out a store outage; the lease is kept for as long."""

    lease_seconds: float
    patience_seconds: float = 0

    @property
    def _interval(self) -> float:
        return self.lease_seconds / HEARTBEATS_PER_LEASE

    async def keep(self, renew: Callable[[], Awaitable[None]]) -> None:
        """Renew until cancelled, or until `renew` raises something else than a StoreError.

        An outage is no reason to stop while the work waits it out: nobody else can take over the lease,
        unless only this worker is cut off. Then the work is done twice at worst: the next heartbeat or the
        publication finds out.

        Raises:
            StoreUnavailable: it lasts too long. The work is handed back once the store answers.
        """
        interval = self._interval
        renewed_at, pause = time.monotonic(), interval
        while True:
            await asyncio.sleep(pause)
            sent_at, pause = time.monotonic(), interval
            try:
                async with asyncio.timeout(interval):
                    await renew()
                renewed_at = sent_at
            except (StoreError, TimeoutError) as error:
                log.warning("heartbeat_failed", error=str(error))
                pause = min(HEARTBEAT_RETRY_SECONDS, interval)
                silent_seconds = time.monotonic() - renewed_at
                if silent_seconds >= self.lease_seconds + self.patience_seconds:
                    raise StoreUnavailable(f"No heartbeat got through for {silent_seconds:.0f} s.") from error

    async def insist(
        self,
        end: Callable[[], Awaitable[None]],
        hold: Callable[[], Awaitable[None]],
        stop: asyncio.Event,
    ) -> bool:
        """Repeat `end` until the store accepts it. False: this worker had to stop.

        Meanwhile the lease is kept as far as possible, with `hold`: if it expires, an attempt is lost. After
        one try took too long, the next one may take longer: the store may only be slow, a clean-up long.
        """

        async def insist() -> bool:
            limit = self._interval
            while True:
                try:
                    async with asyncio.timeout(limit):
                        await end()
                    return True
                except (*STORE_AWAY, TimeoutError) as error:
                    log.warning("job_not_ended", error=str(error))
                    limit *= 2 if isinstance(error, TimeoutError) else 1
                with suppress(*STORE_AWAY, TimeoutError, LeaseLost):
                    async with asyncio.timeout(self._interval):
                        await hold()
                await asyncio.sleep(min(RELEASE_RETRY_SECONDS, self._interval))

        grace_seconds = max(RELEASE_TIMEOUT_SECONDS, self.patience_seconds)
        return bool(await run_unless_set(stop, insist(), grace_seconds=grace_seconds))
