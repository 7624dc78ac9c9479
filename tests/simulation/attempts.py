"""What every attempt at a job or a unit does: it keeps its lease, rides out failed calls, and may fail."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from backend.core.errors import (
    STORE_AWAY,
    AttemptFailed,
    LeaseLost,
    MachineFault,
    ObjectNotFound,
    SourceRejected,
    StoreError,
    StoreUnavailable,
)
from tests.simulation.scheduler import Process, Race, Rest, Stopped, time_out
from tests.simulation.stage import Stage
from worker.run.heartbeat import (
    HEARTBEAT_RETRY_SECONDS,
    HEARTBEATS_PER_LEASE,
    RELEASE_RETRY_SECONDS,
    Heartbeat,
    StopRequested,
)

CALLS_RIDDEN_OUT = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedHeartbeat(Heartbeat):
    """The product's heartbeat without an event loop."""

    stage: Stage
    process: Process

    async def keep(self, renew: Callable[[], Awaitable[None]]) -> None:
        interval = self.lease_seconds / HEARTBEATS_PER_LEASE
        renewed, pause = self.stage.scheduler.now, interval
        while True:
            await Rest(pause)
            sent, pause = self.stage.scheduler.now, interval
            try:
                await Race((renew(), time_out(interval)))
                renewed = sent
            except (StoreError, TimeoutError) as error:
                pause = HEARTBEAT_RETRY_SECONDS
                if self.stage.scheduler.now - renewed >= self.lease_seconds + self.patience_seconds:
                    raise StoreUnavailable from error

    async def insist(
        self,
        end: Callable[[], Awaitable[None]],
        hold: Callable[[], Awaitable[None]],
        stop: asyncio.Event,
    ) -> bool:
        limit = interval = self.lease_seconds / HEARTBEATS_PER_LEASE
        while True:
            try:
                await Race((end(), time_out(limit)))
                return True
            except (*STORE_AWAY, TimeoutError) as error:
                limit *= 2 if isinstance(error, TimeoutError) else 1
            if self.process.stopping:
                return False
            with suppress(*STORE_AWAY, TimeoutError, LeaseLost):
                await Race((hold(), time_out(interval)))
            await Rest(RELEASE_RETRY_SECONDS)


async def work_a_while(stage: Stage) -> None:
    """Take some time, and fail as often as the schedule says."""
    await Rest(stage.rng.choice((0, 3, 30)))
    if stage.rng.random() < stage.plan.failure_rate:
        failures = (SourceRejected, MachineFault, AttemptFailed, AttemptFailed, AttemptFailed)
        raise stage.rng.choice(failures)


async def find_source(stage: Stage, source: str) -> None:
    try:
        await ride_out(lambda: stage.buckets.raw.head(source))
    except ObjectNotFound:
        raise AttemptFailed("The source is gone.") from None


async def ride_out(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that failed, as all that a worker runs does."""
    for _ in range(CALLS_RIDDEN_OUT):
        with suppress(StoreUnavailable):
            return await call()
        await Rest(HEARTBEAT_RETRY_SECONDS)
    return await call()


async def until_stopped() -> None:
    await Stopped()
    raise StopRequested
