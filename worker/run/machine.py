"""Whether this worker's machine can do jobs: checked before it claims one, and when an attempt has failed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from backend.core.backoff import Backoff
from backend.core.concurrency import sleep_unless_set
from backend.core.errors import ConfigurationError, MachineFault, StoreError
from worker.encode.encoder_trials import run_trial
from worker.encode.video_encoders import Encoders
from worker.sandbox.machine import check_resources, check_work_dir, fault_in
from worker.sandbox.tools import Tools, version_of
from worker.sandbox.workspace import sweep_workspaces

log = structlog.get_logger(__name__)

CHECKS = Backoff(first_seconds=1, longest_seconds=60)
"""While the machine cannot do jobs."""


class Machine:
    """The machine of one worker. All of its slots share it.

    What takes milliseconds is checked before each claim. The rest (are the tools what they claim to be, can
    they encode?) is checked after an attempt has failed or a tool was replaced, until it passes.
    """

    def __init__(self, tools: Tools, work_dir: Path, encoders: Encoders) -> None:
        self.tools, self.encoders, self.work_dir = tools, encoders, work_dir
        # if hardware fails, jobs continue in software
        self._needed = (encoders.fallback or encoders).chosen
        self._suspected = False
        self._known_files = tools.files()
        self._checking = asyncio.Lock()

    async def check_before_claim(self) -> None:
        """Raises: MachineFault: a job would fail here."""
        async with self._checking:
            await self._check()

    async def examine(self, error: Exception) -> None:
        """Find out whether this machine made an attempt fail with `error`, and not the file.

        Raises:
            MachineFault: it did. The attempt must not count.
        """
        if isinstance(error, StoreError):
            return
        fault, self._suspected = fault_in(error), True
        if fault is not None:
            raise fault from error
        async with self._checking:
            await self._check()

    async def _check(self) -> None:
        await check_quickly(self.tools, self.work_dir)
        files = self.tools.files()
        if self._suspected or files != self._known_files:
            self._suspected = True
            await check_tools(self.tools)
            for encoder in self._needed:
                if (failure := (await run_trial(self.tools, encoder)).failure) is not None:
                    raise MachineFault(f"{encoder.name} does not encode any more: {failure.reason}.")
            self._suspected, self._known_files = False, files


async def fit_machine(
    find: Callable[[], Tools],
    choose: Callable[[Tools], Awaitable[Encoders]],
    work_dir: Path,
    stop: asyncio.Event,
) -> Machine | None:
    """Wait until this machine is fit for jobs. None: `stop` was set.

    What dead workers left in WORK_DIR is deleted first: it may be what fills the disk.
    """
    faults = 0
    while not stop.is_set():
        with suppress(OSError):
            if swept := sweep_workspaces(work_dir):
                log.info("workspaces_swept", count=swept)
        try:
            tools = find()
            await check_quickly(tools, work_dir)
            await check_tools(tools)
            return Machine(tools, work_dir, await choose(tools))
        except (MachineFault, ConfigurationError, OSError) as error:
            faults += 1
            pause = CHECKS.pause_seconds(faults)
            log.error("machine_not_ready", error=str(error), pause_seconds=round(pause, 1))
            await sleep_unless_set(stop, pause)
    return None


async def check_quickly(tools: Tools, work_dir: Path) -> None:
    """Check what takes milliseconds. Raises: MachineFault."""

    def check() -> None:
        check_resources()
        tools.check_executable()
        check_work_dir(work_dir)

    try:
        await asyncio.to_thread(check)  # a disk may be slow
    except (OSError, RuntimeError) as error:
        if (fault := fault_in(error)) is None:
            raise
        raise fault from error


async def check_tools(tools: Tools) -> None:
    """Raises: MachineFault: a tool does not run, or is another program."""
    for name, path in (("ffmpeg", tools.ffmpeg), ("ffprobe", tools.ffprobe), ("packager", tools.packager)):
        await version_of(name, path)
