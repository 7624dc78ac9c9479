"""Where the parts that serve an attempt (feeder, sink) leave what went wrong, because they cannot raise it.

ffmpeg and the packager see only a broken connection, and may still exit with 0 after one.
"""

import asyncio

from backend.core.errors import VodbucketError


class BackgroundErrors:
    """The first fault of an attempt."""

    def __init__(self) -> None:
        self._first: VodbucketError | None = None
        self._happened = asyncio.Event()

    def report(self, error: VodbucketError) -> None:
        self._first = self._first or error
        self._happened.set()

    @property
    def any(self) -> bool:
        return self._first is not None

    def check(self) -> None:
        """Raise the fault, if there is one."""
        if self._first is not None:
            raise self._first

    async def watch(self) -> None:
        """Raise the fault as soon as there is one."""
        await self._happened.wait()
        self.check()
