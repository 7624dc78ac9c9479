"""The one doorway for processes: argv lists, no shell, no stdin, no inherited secrets, nothing left behind.

What a process may take of the machine is limited by the kernel, whatever the file is that it works on.

Every process leads a session of its own, so that its whole group can be killed, and dies with the worker even
when that is killed with -9 (Linux; elsewhere the pipes that it reads and writes end).
"""

import asyncio
import ctypes
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backend.core.concurrency import run_shielded
from backend.core.errors import VodbucketError
from worker.sandbox.limits import OPEN_FILES, READING, Limits

STDERR_TAIL_LINES = 40
STDERR_LINE_BYTES = 64 * 1024
GRACE_SECONDS = 1.0
"""How long a group may take to end by itself; ffmpeg ignores a SIGTERM while it waits for its input."""
NICENESS = 5
"""Encoders give way to the API and the store on the same machine."""

FIRST_TO_GO = 800
"""Of 1000: when memory runs out, the kernel ends what works on the file rather than the worker (proc(5))."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


class ProcessTimedOut(VodbucketError):
    """The process took too long and was killed."""

    code = "process_timed_out"


@dataclass(frozen=True, slots=True)
class Completed:
    exit_code: int
    stdout: bytes
    stderr: str


class Running:
    """A process that was started by `running`; its stderr is drained from the start."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        if process.stderr is None:
            raise TypeError("the process was started without a pipe for its stderr")
        self._stdout, self._stderr = process.stdout, process.stderr
        self._tail: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
        self._drain = asyncio.create_task(self._drain_stderr())

    @property
    def stderr_tail(self) -> str:
        return "\n".join(self._tail)

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines of stdout."""
        async for line in self._piped_stdout:
            yield line.decode(errors="replace").rstrip()

    async def read_all(self, limit_bytes: int) -> bytes:
        """Read stdout to its end; what exceeds the limit is dropped."""
        kept = bytearray()
        while chunk := await self._piped_stdout.read(65536):
            kept += chunk[: max(0, limit_bytes - len(kept))]
        return bytes(kept)

    async def wait(self) -> int:
        """Return the exit code (negative: the signal that ended it), after all of stderr has been read."""
        code = await self._process.wait()
        await self._drain
        return code

    async def end(self) -> None:
        """Terminate, wait, kill the group and reap. Safe to repeat."""
        if self._process.returncode is None:
            self._signal_group(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await self._process.wait()
        self._signal_group(signal.SIGKILL)
        await self._process.wait()
        self._drain.cancel()
        await asyncio.gather(self._drain, return_exceptions=True)

    @property
    def _piped_stdout(self) -> asyncio.StreamReader:
        if self._stdout is None:
            raise TypeError("the process was started with its stdout discarded")
        return self._stdout

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self.pid, number)

    async def _drain_stderr(self) -> None:
        buffered = b""
        while chunk := await self._stderr.read(8192):
            *lines, buffered = (buffered + chunk).split(b"\n")
            buffered = buffered[-STDERR_LINE_BYTES:]
            self._tail.extend(line.decode(errors="replace")[:500] for line in lines if line.strip())
        if buffered.strip():
            self._tail.append(buffered.decode(errors="replace")[:500])


@asynccontextmanager
async def running(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    discard_stdout: bool = False,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> AsyncIterator[Running]:
    """Start a process; on leaving, however that happens, its group is gone and reaped.

    Stdout is to be read, or discarded: a process that fills the pipe waits for ever.
    """
    command = [str(word) for word in argv]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL if discard_stdout else asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=_minimal_environment() | (environment or {}),
        start_new_session=True,
        preexec_fn=_before_exec(os.getpid(), limits),
    )
    started = Running(process, Path(command[0]).name)
    try:
        yield started
    finally:
        await run_shielded(started.end())


async def run(
    argv: Sequence[str | Path],
    *,
    timeout_seconds: float,
    stdout_limit_bytes: int = 4 * 1024**2,
    limits: Limits = READING,
) -> Completed:
    """Run a process to its end. By default it may write no file.

    Raises:
        ProcessTimedOut: it was killed after `timeout_seconds`.
    """
    async with running(argv, limits=limits) as process:
        try:
            async with asyncio.timeout(timeout_seconds):
                stdout = await process.read_all(stdout_limit_bytes)
                exit_code = await process.wait()
        except TimeoutError:
            raise ProcessTimedOut(f"{process.name} took more than {timeout_seconds:g} s") from None
        return Completed(exit_code, stdout, process.stderr_tail)


def _minimal_environment() -> dict[str, str]:
    """Nothing of the worker's environment: it holds the credentials of the store."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent"}


def _before_exec(parent: int, limits: Limits) -> Callable[[], None]:
    """Return what runs in the child between fork and exec; it must not allocate much nor take locks."""
    bounds = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
    )

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # the worker died before the line above took effect
                os._exit(1)
            # a program that is taken over gains nothing from others that are setuid
            _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            _go_first()
        os.nice(NICENESS)
        for kind, wanted in bounds:
            if wanted is not None:
                hard = resource.getrlimit(kind)[1]
                bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
                resource.setrlimit(kind, (bound, bound))

    return prepare


def _go_first() -> None:
    with suppress(OSError):  # a container may hide it
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(file, str(FIRST_TO_GO).encode())
        os.close(file)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
