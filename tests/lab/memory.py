"""How much memory a process takes for a piece of work, by the kernel's own account (Linux)."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.processes import descendants

LOOK_EVERY_SECONDS = 0.02


def measure(pid: int, run: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds that `run` took and the growth of the process's peak memory in MiB."""
    before = _resident_mib(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the kernel's own high-water mark
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
    """The most that a process's children took at a time, in MiB."""

    mib: float = 0.0


@contextmanager
def peak_of_children(pid: int) -> Iterator[Peak]:
    """Look at all children of the process and theirs that run another program until the block is left."""
    peak, ended = Peak(), threading.Event()
    own_program = _program(pid)

    def look() -> None:
        while not ended.wait(LOOK_EVERY_SECONDS):
            # until a child has become another program, its memory is its parent's
            children = [child for child in descendants(pid) if _program(child) not in {own_program, None}]
            peak.mib = max(peak.mib, sum(map(_resident_or_gone, children)))

    thread = threading.Thread(target=look)
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
