"""One claimed unit from start to end: do it while renewing its lease, then finish, release or fail it.

As `worker.run.job` for whole jobs: every outcome is handled here, and no exception leaves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from backend.core.concurrency import run_guarded
from backend.core.errors import (
    AttemptFailed,
    JobFailure,
    LeaseLost,
    MachineFault,
    SourceRejected,
    StoreError,
)
from backend.core.jobs.interface import UnitJobs
from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import StatusError, UnitOutputs
from worker.run.heartbeat import Heartbeat, StopRequested, until_stopped
from worker.run.job import MAX_OUTAGES, RETRIES, trust_the_machine
from worker.run.unit_status import UnitStatus

log = structlog.get_logger(__name__)


class Maker(Protocol):
    """Does units: `worker.units.making.UnitMaker`, or a test double."""

    async def run(self, claim: UnitClaim) -> UnitOutputs:
        """Do one unit. Raises: SourceRejected, AttemptFailed, MachineFault, StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class UnitRunner:
    """Handles claims of units for `worker.run.slots`. The fields are as in `JobRunner`."""

    units: UnitJobs
    maker: Maker
    status: UnitStatus
    heartbeat: Heartbeat
    max_attempts: int
    examine: Callable[[Exception], Awaitable[None]] = trust_the_machine

    async def __call__(self, claim: UnitClaim, stop: asyncio.Event) -> None:
        """Do one unit to its end. Never raises, except when cancelled."""
        with structlog.contextvars.bound_contextvars(
            video=claim.job.id, request=claim.job.request, unit=claim.unit, attempt=claim.lease.attempt
        ):
            try:
                await self._run(claim, stop)
            except Exception as error:  # must not end the worker; the lease expires and the unit is retried
                log.exception("unit_abandoned", error=str(error))

    async def _run(self, claim: UnitClaim, stop: asyncio.Event) -> None:
        if claim.lease.attempt > self.max_attempts:
            await self._fail(claim, JobFailure(claim.lease.last_error, code="worker_crashed"), stop)
            return
        log.info("unit_started", generation=claim.generation)
        try:
            await self._finish(claim, await self._make(claim, stop), stop)
        except LeaseLost:
            log.warning("unit_lost")
            await self.units.discard(claim)
        except StopRequested:
            await self._release(claim, stop)
        except SourceRejected as error:
            await self._fail(claim, error, stop)
        except AttemptFailed as error:
            await self._retry(claim, error, stop)
        except (MachineFault, StoreError) as error:
            await self._hand_back(claim, error, stop)
        except Exception as error:  # a bug: log the traceback and give the unit its other attempts
            log.exception("unit_broke")
            await self._retry(claim, AttemptFailed(f"Internal error ({type(error).__name__})."), stop)

    async def _make(self, claim: UnitClaim, stop: asyncio.Event) -> UnitOutputs:
        """Do the unit until it is done, the lease is lost or the worker stops."""
        return await run_guarded(
            self._attempt(claim),
            self.heartbeat.keep(lambda: self.units.renew(claim)),
            until_stopped(stop),
        )

    async def _attempt(self, claim: UnitClaim) -> UnitOutputs:
        try:
            return await self.maker.run(claim)
        except Exception as error:  # of any kind: the machine may be its cause
            await self.examine(error)
            raise

    async def _finish(self, claim: UnitClaim, outputs: UnitOutputs, stop: asyncio.Event) -> None:
        ended = False

        async def finish() -> None:
            nonlocal ended
            ended = await self.units.finish(claim, outputs)

        await self._insist(claim, finish, stop)
        log.info("unit_finished", won=ended)
        if ended:
            with suppress(StoreError):  # the next one to end writes it again
                await self.status.write(claim.job, claim.plan)
        else:
            await self._discard(claim)

    async def _retry(self, claim: UnitClaim, error: JobFailure, stop: asyncio.Event) -> None:
        attempt = claim.lease.attempt
        if attempt >= self.max_attempts:
            await self._fail(claim, error, stop)
            return
        pause = RETRIES.pause_seconds(attempt)
        log.warning("unit_attempt_failed", error=error.message, retry_after_seconds=pause)
        await self._release(claim, stop, pause, error.message)

    async def _hand_back(
        self, claim: UnitClaim, error: MachineFault | StoreError, stop: asyncio.Event
    ) -> None:
        """Release the unit without counting the attempt: the store or this machine failed, not the video."""
        outages = claim.lease.outages + 1
        if outages > MAX_OUTAGES:
            await self._fail(claim, error, stop)
            return
        pause = RETRIES.pause_seconds(outages)
        log.warning("unit_handed_back", code=error.code, error=error.message, retry_after_seconds=pause)
        await self._release(claim, stop, pause, error.message, outage=True)

    async def _release(
        self,
        claim: UnitClaim,
        stop: asyncio.Event,
        retry_after_seconds: float = 0,
        error: str | None = None,
        *,
        outage: bool = False,
    ) -> None:
        async def release() -> None:
            with suppress(LeaseLost):
                await self.units.release(
                    claim, retry_after_seconds=retry_after_seconds, error=error, outage=outage
                )

        if await self._insist(claim, release, stop):
            await self._discard(claim)

    async def _fail(
        self, claim: UnitClaim, error: MachineFault | StoreError | JobFailure, stop: asyncio.Event
    ) -> None:
        code = error.failure_code if isinstance(error, JobFailure) else error.code
        log.warning("unit_failed", code=code, error=error.message)

        async def fail() -> None:
            with suppress(LeaseLost):
                await self.units.fail(claim, StatusError(code=code, message=error.message))

        if await self._insist(claim, fail, stop):
            await self._discard(claim)

    async def _insist(
        self, claim: UnitClaim, end: Callable[[], Awaitable[None]], stop: asyncio.Event
    ) -> bool:
        async def hold() -> None:
            await self.units.renew(claim)

        return await self.heartbeat.insist(end, hold, stop)

    async def _discard(self, claim: UnitClaim) -> None:
        try:
            await self.units.discard(claim)
        except StoreError as error:  # the worker that ends the request deletes it
            log.warning("unit_not_discarded", error=error.message)
