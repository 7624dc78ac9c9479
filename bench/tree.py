"""Runs a command and measures its whole process tree (Linux)."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.processes import descendants
from worker.sandbox.limits import NICENESS

SAMPLE_SECONDS = 0.5
"""Scanning /proc takes milliseconds of CPU time away from the measured processes."""
MIB = 1024 * 1024
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """`peak_mib` is the peak of the summed resident sets of all processes."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


class CommandFailed(Exception):
    """The command exited with a status other than 0."""


def run_tree(
    argv: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    nice: bool = True,
    observe: Callable[[int], None] = lambda pid: None,
) -> Cost:
    """Run the command with its output in `log`, regularly calling `observe` for each pid of its tree.

    With `nice` it runs at the priority of our worker's encoders, so that a busy machine treats them equally.

    Raises: CommandFailed: it exited with a status other than 0.
    """
    command = [*(("nice", "-n", str(NICENESS)) if nice else ()), *(str(word) for word in argv)]
    peak_bytes = 0
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        try:
            while True:
                done, status, usage = os.wait4(process.pid, os.WNOHANG)
                if done:
                    break
                tree = (process.pid, *descendants(process.pid))
                peak_bytes = max(peak_bytes, sum(_resident_bytes(pid) for pid in tree))
                for pid in tree:
                    observe(pid)
                time.sleep(SAMPLE_SECONDS if time.perf_counter() - began > SAMPLE_SECONDS else 0.05)
            wall = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise CommandFailed(f"{argv[0]} exited with {process.returncode}:\n{log.read_text()[-2000:]}")
    # the usage of a reaped process includes that of the children it reaped itself
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak_bytes / MIB)


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """Return the CPU time that a running process has taken so far, with that of its reaped `children`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if children else 13])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0
