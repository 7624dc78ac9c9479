"""How much memory a process takes for a piece of work, by the kernel's own account (Linux)."""

import time
from collections.abc import Callable
from pathlib import Path


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
