"""Child processes of `make run`: each has its own process group, dies with us, and its output is relayed."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backend.core.printable import printable
from infra.local.console import relay
from infra.local.leftovers import write_pid_file

_TETHER = Path(__file__).parents[2] / "worker/sandbox/tether.py"
_LINE_LIMIT_BYTES = 1024 * 1024
_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a child, and how long it may take to stop."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    stop_seconds: float


class Child:
    """One running child process."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process, pid_file: Path) -> None:
        self.command = command
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process = process
        self._pid_file = pid_file
        self._relay = asyncio.create_task(self._relay_lines())

    @classmethod
    async def start(cls, command: Command, pids: Path) -> "Child":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), "--", *command.argv),
            env=dict(command.env),
            cwd=command.directory,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            limit=_LINE_LIMIT_BYTES,
            start_new_session=True,  # Ctrl-C reaches only us; we stop the children in order
        )
        pid_file = pids / f"{command.name}.pid"
        write_pid_file(pid_file, process.pid)
        return cls(command, process, pid_file)

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def status(self) -> int:
        """The exit status after it ended; negative for a signal."""
        return self._process.returncode or 0

    async def wait(self) -> int:
        """Wait until it ends and its last lines are printed. Return the exit status."""
        status = await self._process.wait()
        # A grandchild may keep the pipe open.
        await asyncio.wait([self._relay], timeout=1)
        self.kill()
        self._relay.cancel()
        self._pid_file.unlink(missing_ok=True)
        return status

    async def stop(self) -> None:
        """Send SIGTERM, and kill its process group if it does not end in time."""
        if self.running:
            self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self.command.stop_seconds)
        self.kill()
        await self.wait()

    def kill(self) -> None:
        """Kill the rest of its process group immediately."""
        with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _relay_lines(self) -> None:
        reader = self._process.stdout
        assert reader is not None
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than the limit; the reader dropped it
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self.tail.append(printable(text))
            relay(self.name, text)
