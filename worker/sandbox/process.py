"""The only module that starts processes: argv lists, no shell, no stdin, no inherited secrets, no leftovers.

Each process leads its own session, so that its whole group can be killed. `worker.sandbox.tether` lets the
kernel limit its resources and, on Linux, kill it when the worker is killed with -9. Elsewhere such a process
ends when its pipes close.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import cast

from backend.core.concurrency import run_shielded
from backend.core.errors import MachineFault, VodbucketError
from worker.sandbox.exit_codes import KILLED_EXTERNALLY
from worker.sandbox.limits import MAX_OPEN_FILES, READ_ONLY, ResourceLimits
from worker.sandbox.tether import PREPARED

STDERR_TAIL_LINES = 40
STDERR_LINE_BYTES = 64 * 1024
GRACE_SECONDS = 1.0
"""Between SIGTERM and SIGKILL; ffmpeg ignores SIGTERM while it waits for input."""
EXIT_POLL_SECONDS = 0.05
"""Where the kernel cannot tell of an exit without reaping: on macOS and old Linux."""

OOM_SCORE_ADJUSTMENT = 800
"""Of 1000: when memory runs out, the kernel kills the encoder rather than the worker (proc(5))."""

_TETHER = Path(__file__).with_name("tether.py")


class ProcessTimedOut(VodbucketError):
    """The process took too long and was killed."""

    code = "process_timed_out"


@dataclass(frozen=True, slots=True)
class CompletedProcess:
    exit_code: int
    stdout: bytes
    stderr: str


class RunningProcess:
    """A process started by `running`. Its stderr is drained from the start."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        name: str,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader,
        on_stderr: Callable[[str], None],
    ) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._stdout, self._stderr = stdout, stderr
        self._tail: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
        self._on_stderr = on_stderr
        self._drain = asyncio.create_task(self._drain_stderr())
        self._reaped = asyncio.create_task(self._reap())
        self._ended = False

    @property
    def stderr_tail(self) -> str:
        return "\n".join(self._tail)

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines of stdout."""
        async for line in self._piped_stdout:
            yield line.decode(errors="replace").rstrip()

    async def read_all(self, limit_bytes: int) -> bytes:
        """Read stdout to its end and drop what exceeds the limit."""
        kept = bytearray()
        while chunk := await self._piped_stdout.read(65536):
            kept += chunk[: max(0, limit_bytes - len(kept))]
        return bytes(kept)

    async def wait(self) -> int:
        """Return the exit code (negative: a signal) once all of stderr has been read.

        Raises:
            MachineFault: it was killed from outside, which neither the file nor the program causes.
        """
        code = await asyncio.shield(self._reaped)
        await asyncio.shield(self._drain)
        if code in KILLED_EXTERNALLY and not self._ended:
            raise MachineFault(f"{self.name} was killed by signal {-code}. Is this machine out of memory?")
        return code

    async def end(self) -> None:
        """Terminate the process, wait, kill its group and reap it. Safe to repeat."""
        self._ended = True
        self._signal_group(signal.SIGTERM)
        await asyncio.wait({self._reaped}, timeout=GRACE_SECONDS)
        self._signal_group(signal.SIGKILL)
        await asyncio.wait({self._reaped})
        if self._reaped.cancelled():  # a closing event loop cancels all tasks
            self._process.wait()
        self._drain.cancel()
        await asyncio.gather(self._drain, return_exceptions=True)

    @property
    def _piped_stdout(self) -> asyncio.StreamReader:
        if self._stdout is None:
            raise TypeError("the process was started with its stdout discarded")
        return self._stdout

    async def _reap(self) -> int:
        """Return the exit code. What is left of the group is killed while nobody else can get its id."""
        await _until_exit(self._process)
        self._signal_group(signal.SIGKILL)
        return self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
                os.killpg(self.pid, number)

    async def _drain_stderr(self) -> None:
        buffered = b""
        while chunk := await self._stderr.read(8192):
            *lines, buffered = (buffered + chunk).split(b"\n")
            buffered = buffered[-STDERR_LINE_BYTES:]
            for line in lines:
                self._take(line)
        self._take(buffered)

    def _take(self, line: bytes) -> None:
        if line.strip():
            text = line.decode(errors="replace")[:500]
            self._tail.append(text)
            self._on_stderr(text)


@asynccontextmanager
async def running(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    discard_stdout: bool = False,
    on_stderr: Callable[[str], None] = lambda line: None,
    limits: ResourceLimits = ResourceLimits(),  # noqa: B008  # frozen
) -> AsyncIterator[RunningProcess]:
    """Start a process. When it exits, or at the end of the block, its whole group is killed and reaped.

    Read stdout or discard it: a process that fills the pipe waits forever. `on_stderr` gets every line.

    Raises:
        OSError: the program cannot be executed.
        MachineFault: it was killed before it was.
    """
    command = [str(word) for word in argv]
    reading, writing = os.pipe()
    async with AsyncExitStack() as stack:
        report = stack.enter_context(os.fdopen(reading, "rb", buffering=0))
        with os.fdopen(writing, "wb"):
            process = subprocess.Popen(  # noqa: ASYNC220  # asyncio's reaps at once, and frees the pid
                [
                    *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid())),
                    *(f"report={writing}", *_settings(limits), "--", *command),
                ],
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if discard_stdout else subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=_minimal_environment() | (environment or {}),
                start_new_session=True,
                pass_fds=(writing,),
            )
        try:
            stderr = await stack.enter_async_context(read_pipe(cast(FileIO, process.stderr)))
            stdout = None
            if process.stdout is not None:
                stdout = await stack.enter_async_context(read_pipe(cast(FileIO, process.stdout)))
            started = RunningProcess(process, Path(command[0]).name, stdout, stderr, on_stderr)
        except BaseException:  # including cancellation: nothing else would end the process
            process.kill()
            process.wait()
            raise
        try:
            await _check_executed(started, report, command[0])
            yield started
        finally:
            await run_shielded(started.end())


@asynccontextmanager
async def read_pipe(pipe: FileIO, limit_bytes: int = 65536) -> AsyncIterator[asyncio.StreamReader]:
    """Read a pipe without blocking the event loop; it is closed at the end of the block."""
    reader = asyncio.StreamReader(limit_bytes)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        yield reader
    finally:
        transport.close()


async def run(
    argv: Sequence[str | Path],
    *,
    timeout_seconds: float | None = None,
    stdout_limit_bytes: int = 4 * 1024**2,
    limits: ResourceLimits = READ_ONLY,
) -> CompletedProcess:
    """Run a process to its end. By default it cannot write files.

    Raises:
        ProcessTimedOut: it was killed after `timeout_seconds`.
        OSError: the program cannot be executed.
        MachineFault: it was killed from outside.
    """
    try:
        async with asyncio.timeout(timeout_seconds), running(argv, limits=limits) as process:
            stdout = await process.read_all(stdout_limit_bytes)
            exit_code = await process.wait()
            return CompletedProcess(exit_code, stdout, process.stderr_tail)
    except TimeoutError:
        raise ProcessTimedOut(f"{Path(argv[0]).name} took more than {timeout_seconds:g} s") from None


async def _until_exit(process: "subprocess.Popen[bytes]") -> None:
    """Return once the process has ended, if possible without reaping it: only then its id becomes free."""
    try:
        exit_descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while process.poll() is None:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(EXIT_POLL_SECONDS)
        return
    loop, exited = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(exit_descriptor, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(exit_descriptor)
        os.close(exit_descriptor)


def _minimal_environment() -> dict[str, str]:
    """Return nothing from the worker's environment, which holds the store's credentials."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent"}


def _settings(limits: ResourceLimits) -> Iterator[str]:
    """Return what `worker.sandbox.tether` applies before it becomes the program."""
    wanted = {
        "core": 0,
        "nofile": MAX_OPEN_FILES,
        "data": limits.memory_bytes,
        "cpu": limits.cpu_seconds,
        "fsize": limits.file_bytes,
        "nice": limits.niceness,
        "oom_score_adj": OOM_SCORE_ADJUSTMENT,
        # a hijacked program gains nothing from setuid programs
        "no_new_privs": 1,
    }
    return (f"{name}={value}" for name, value in wanted.items() if value is not None)


async def _check_executed(process: RunningProcess, report: FileIO, program: str) -> None:
    """Wait until the tether has become the program.

    Raises:
        OSError: the program cannot be executed, or the tether failed before that. Its exit code must not be
            taken for the program's, which would be blamed on the file.
    """
    async with read_pipe(report) as pipe:
        said = await pipe.read()
    if not said.startswith(PREPARED):
        exit_code = await process.wait()
        raise ChildProcessError(f"{program} was not started ({exit_code}): {process.stderr_tail}")
    if code_text := said.removeprefix(PREPARED):
        raise OSError(int(code_text), os.strerror(int(code_text)), program)
