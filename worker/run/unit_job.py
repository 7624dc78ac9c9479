"""What a claimed unit does in each case that `worker.run.outcomes` knows."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from backend.core.errors import StoreError, VodbucketError
from backend.core.jobs.interface import UnitJobs
from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import Job, StatusError
from backend.core.unit_records import UnitOutputs, UnitPlan
from worker.run.outcomes import Attempts, Ending, Insist, discard

log = structlog.get_logger(__name__)


class Maker(Protocol):
    """Does units: `worker.units.making.UnitMaker`, or a test double."""

    async def run(self, claim: UnitClaim) -> UnitOutputs:
        """Do one unit. Raises: SourceRejected, AttemptFailed, MachineFault, StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class UnitRunner:
    """Handles claims of units for `worker.run.slots`."""

    units: UnitJobs
    maker: Maker
    on_end: Callable[[Job, UnitPlan], Awaitable[None]]
    """Is called when a unit has ended."""
    attempts: Attempts

    async def __call__(self, claim: UnitClaim, stop: asyncio.Event) -> None:
        """Do one unit to its end. Never raises, except when cancelled."""
        job, work = claim.job, UnitWork(self, claim)
        await self.attempts.run(work, stop, video=job.id, request=job.request, unit=claim.unit)


@dataclass(frozen=True, slots=True)
class UnitWork:
    """A claimed unit, as `worker.run.outcomes.Work`."""

    runner: UnitRunner
    claim: UnitClaim
    noun: str = "unit"

    async def make(self) -> Ending:
        return partial(self._finish, await self.runner.maker.run(self.claim))

    async def _finish(self, outputs: UnitOutputs, insist: Insist) -> None:
        ended = False

        async def finish() -> None:
            nonlocal ended
            ended = await self.runner.units.finish(self.claim, outputs)

        await insist(finish)
        log.info("unit_finished", won=ended)
        if ended:
            with suppress(StoreError):  # the next one to end writes it again
                await self.runner.on_end(self.claim.job, self.claim.plan)
        else:
            await discard(self)

    async def renew(self) -> None:
        await self.runner.units.renew(self.claim)

    hold = renew

    async def release(self, *, retry_after_seconds: float, error: str | None, outage: bool) -> None:
        await self.runner.units.release(
            self.claim, retry_after_seconds=retry_after_seconds, error=error, outage=outage
        )

    async def fail(self, error: StatusError) -> None:
        await self.runner.units.fail(self.claim, error)

    async def lost(self, error: VodbucketError) -> None:
        await self.discard()

    async def discard(self) -> None:
        await self.runner.units.discard(self.claim)
