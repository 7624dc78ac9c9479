"""One attempt at a claimed job or unit, from start to end, while its lease is renewed.

The work raises what happened; this module decides what that means for the queue. No exception leaves it:
broken work must not take the worker down.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog

from backend.core.backoff import Backoff
from backend.core.concurrency import run_guarded
from backend.core.errors import (
    AttemptFailed,
    JobFailure,
    LeaseLost,
    MachineFault,
    SourceRejected,
    StoreError,
    VideoDeleted,
    VodbucketError,
)
from backend.core.jobs.leases import Claim
from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import StatusError
from worker.run.heartbeat import Heartbeat, StopRequested, until_stopped

log = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS = 5.0
RETRIES = Backoff(FIRST_RETRY_SECONDS, longest_seconds=600, jitter=0)
MAX_OUTAGES = 50
"""Attempts that the store or a worker's machine may end, over about eight hours, before the work fails."""

Step = Callable[[], Awaitable[None]]
Insist = Callable[[Step], Awaitable[bool]]
"""Repeats a step until the store accepts it, or raises LeaseLost. Returns False: this worker had to stop."""
Ending = Callable[[Insist], Awaitable[None]]
"""Ends the claim as the work came out. Raises: as `Work.make`."""


class Work(Protocol):
    """A claimed job or unit: what to do, and how its claim ends."""

    @property
    def noun(self) -> str:
        """What it is called in events."""
        ...

    @property
    def claim(self) -> Claim | UnitClaim: ...

    async def make(self) -> Ending:
        """Do it. Raises: SourceRejected, AttemptFailed, MachineFault, StoreError."""
        ...

    async def renew(self) -> None:
        """Renew the lease. Raises: LeaseLost, VideoDeleted: stop, and call `lost`."""
        ...

    async def hold(self) -> None:
        """Renew the lease, whatever else happened. Raises: LeaseLost."""
        ...

    async def release(self, *, retry_after_seconds: float, error: str | None, outage: bool) -> None:
        """Give it back, as `VideoJobs.release`. Raises: LeaseLost."""
        ...

    async def fail(self, error: StatusError) -> None:
        """Give it up for good. Raises: LeaseLost."""
        ...

    async def lost(self, error: LeaseLost | VideoDeleted) -> None:
        """Clean up after the claim was lost."""
        ...

    async def discard(self) -> None:
        """Delete what the attempt stored, after the claim has ended without success."""
        ...


async def trust_the_machine(error: Exception) -> None:
    return


@dataclass(frozen=True, slots=True)
class Attempts:
    """How this worker does any work."""

    heartbeat: Heartbeat
    max_attempts: int
    examine: Callable[[Exception], Awaitable[None]] = trust_the_machine
    """Is called with each failure of the work. Raises MachineFault if this machine is its cause."""

    async def run(self, work: Work, stop: asyncio.Event, **context: Any) -> None:
        """Run one attempt to its end; all that is logged names `context`. Raises only when cancelled."""
        with structlog.contextvars.bound_contextvars(attempt=work.claim.lease.attempt, **context):
            try:
                await self.settle(work, stop)
            except Exception as error:  # must not end the worker; the lease expires and the work is retried
                log.exception(f"{work.noun}_abandoned", error=str(error))

    async def settle(self, work: Work, stop: asyncio.Event) -> None:
        """As `run`, but raises what could not be handled."""
        lease = work.claim.lease
        if lease.attempt > self.max_attempts:
            await self._fail(work, stop, JobFailure(lease.last_error, code="worker_crashed"))
            return
        log.info(f"{work.noun}_started", generation=work.claim.generation)
        try:
            end = await self._guarded(work, stop)
            await end(partial(self._insist, work, stop))
        except (LeaseLost, VideoDeleted) as error:
            log.warning(error.code)
            await work.lost(error)
        except StopRequested:
            await self._release(work, stop)
        except SourceRejected as error:
            await self._fail(work, stop, error)
        except AttemptFailed as error:
            await self._retry(work, stop, error)
        except (MachineFault, StoreError) as error:
            await self._hand_back(work, stop, error)
        except Exception as error:  # a bug: log the traceback and give the work its other attempts
            log.exception(f"{work.noun}_broke")
            await self._retry(work, stop, AttemptFailed(f"Internal error ({type(error).__name__})."))

    async def _guarded(self, work: Work, stop: asyncio.Event) -> Ending:
        """Do the work until it ends, the lease is lost, the video is deleted or the worker stops."""
        return await run_guarded(self._made(work), self.heartbeat.keep(work.renew), until_stopped(stop))

    async def _made(self, work: Work) -> Ending:
        try:
            return await work.make()
        except Exception as error:  # of any kind: the machine may be its cause
            await self.examine(error)
            raise

    async def _retry(self, work: Work, stop: asyncio.Event, error: JobFailure) -> None:
        attempt = work.claim.lease.attempt
        if attempt >= self.max_attempts:
            await self._fail(work, stop, error)
            return
        pause = RETRIES.pause_seconds(attempt)
        log.warning("attempt_failed", error=error.message, retry_after_seconds=pause)
        await self._release(work, stop, pause, error.message)

    async def _hand_back(self, work: Work, stop: asyncio.Event, error: VodbucketError) -> None:
        """Release the work without counting the attempt: the store or this machine failed, not the video."""
        outages = work.claim.lease.outages + 1
        if outages > MAX_OUTAGES:
            await self._fail(work, stop, error)
            return
        pause = RETRIES.pause_seconds(outages)
        log.warning(
            f"{work.noun}_handed_back", code=error.code, error=error.message, retry_after_seconds=pause
        )
        await self._release(work, stop, pause, error.message, outage=True)

    async def _release(
        self,
        work: Work,
        stop: asyncio.Event,
        retry_after_seconds: float = 0,
        error: str | None = None,
        *,
        outage: bool = False,
    ) -> None:
        """Let the work be tried again."""
        release = partial(work.release, retry_after_seconds=retry_after_seconds, error=error, outage=outage)
        await self._give_up(work, stop, release)

    async def _fail(self, work: Work, stop: asyncio.Event, error: VodbucketError) -> None:
        code = error.failure_code if isinstance(error, JobFailure) else error.code
        log.warning(f"{work.noun}_failed", code=code, error=error.message)
        fail = partial(work.fail, StatusError(code=code, message=error.message))
        await self._give_up(work, stop, fail)

    async def _give_up(self, work: Work, stop: asyncio.Event, step: Step) -> None:
        """End the claim, unless another worker has it, and delete what the attempt stored."""

        async def end() -> None:
            with suppress(LeaseLost):
                await step()

        if await self._insist(work, stop, end):
            log.info(f"{work.noun}_let_go")
            await discard(work)

    async def _insist(self, work: Work, stop: asyncio.Event, step: Step) -> bool:
        return await self.heartbeat.insist(step, work.hold, stop)


async def discard(work: Work) -> None:
    try:
        await work.discard()
    except StoreError as error:  # the worker that ends the request deletes it
        log.warning(f"{work.noun}_not_discarded", error=error.message)
