"""Where the servers of an attempt (feeder, sink) report errors, because they have no caller to raise them to.

ffmpeg and the packager see only a broken connection, and may still exit with 0 after one.
"""

import asyncio

from backend.core.errors import AttemptFailed, VodbucketError
from worker.sandbox.machine import fault_in


class BackgroundErrors:
    """The first error reported in an attempt."""

    def __init__(self) -> None:
        self._first: VodbucketError | None = None
        self._reported = asyncio.Event()

    def report(self, error: Exception, *, meaning: str = "Something failed", code: str | None = None) -> None:
        """Keep the error if it is the first. Others than ours become MachineFault or AttemptFailed."""
        if not isinstance(error, VodbucketError):
            error = fault_in(error) or AttemptFailed(f"{meaning}: {error!r}.", code=code)
        self._first = self._first or error
        self._reported.set()

    @property
    def any(self) -> bool:
        return self._first is not None

    def check(self) -> None:
        """Raise the error, if there is one."""
        if self._first is not None:
            raise self._first

    async def watch(self) -> None:
        """Raise the error as soon as there is one."""
        await self._reported.wait()
        self.check()
