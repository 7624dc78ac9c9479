"""Measures how much memory a process needs for a piece of work, as the kernel counts it (Linux)."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.processes import descendants

MEMORY_SAMPLE_SECONDS = 0.02


def measure(pid: int, run: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds that `run` took and the growth of the process's peak memory in MiB."""
    before = _resident_mib(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the kernel's high-water mark
    started = time.monotonic()
    run()
    return time.monotonic() - started, _resident_mib(pid, peak=True) - before


def _resident_mib(pid: int, *, peak: bool = False) -> float:
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


@dataclass
class Peak:
    """The peak memory of a process's children together, in MiB."""

    mib: float = 0.0


@contextmanager
def peak_of_children(pid: int) -> Iterator[Peak]:
    """While the block lasts, sample all descendants of the process that run a different program."""
    peak, ended = Peak(), threading.Event()
    own_program = _program(pid)

    def sample() -> None:
        while not ended.wait(MEMORY_SAMPLE_SECONDS):
            # before exec, a child shares its parent's memory
            children = [child for child in descendants(pid) if _program(child) not in {own_program, None}]
            peak.mib = max(peak.mib, sum(map(_resident_or_gone, children)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _program(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/exe").readlink()
    except OSError:  # it ended meanwhile
        return None


def _resident_or_gone(pid: int) -> float:
    try:
        return _resident_mib(pid, peak=True)
    except (OSError, LookupError):  # it ended meanwhile
        return 0.0
