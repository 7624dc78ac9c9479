"""Ends the work of an attempt when its programs fail, make no progress or lose their source or store."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from backend.core.concurrency import run_guarded
from backend.core.errors import AttemptFailed
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.process import RunningProcess

log = structlog.get_logger(__name__)

CHECK_SECONDS = 1.0
STALLED = "stalled"
"""The code of a program that neither succeeds nor fails, such as hardware that hangs."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Watches one attempt: what its servers report to `errors`, and how long `activity` has been idle."""

    errors: BackgroundErrors
    activity: ActivityClock
    stall_seconds: float

    async def guarded(
        self, work: Coroutine[None, None, T], what: str = "The encoder", code: str = STALLED
    ) -> T:
        """Run `work` until it ends, an error is reported, or `what` makes no progress.

        Raises:
            AttemptFailed: with `code`, if there was no progress.
        """

        async def checked() -> T:
            try:
                return await work
            except BaseExceptionGroup as group:
                raise _first_error(group) from group
            finally:
                self.errors.check()  # a lost connection is what made a process fail just after it

        self.activity.touch()
        return await run_guarded(checked(), self.errors.watch(), self._watch_for_stalls(what, code))

    async def _watch_for_stalls(self, what: str, code: str) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self.activity.idle_seconds > self.stall_seconds:
                raise AttemptFailed(f"{what} made no progress for {self.stall_seconds:g} s.", code=code)


async def wait_for_success(
    process: RunningProcess, code: str, meanings: Mapping[int, str] | None = None
) -> None:
    """Wait for the process. `meanings` maps exit codes to more specific failure codes.

    Raises:
        AttemptFailed: it did not exit with 0.
    """
    exit_code = await process.wait()
    if exit_code != 0:
        log.warning("process_failed", process=process.name, exit_code=exit_code, stderr=process.stderr_tail)
        how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"exited with {exit_code}"
        raise AttemptFailed(f"{process.name} {how}.", code=(meanings or {}).get(exit_code, code))


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that ended the task group."""
    error = group.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error
