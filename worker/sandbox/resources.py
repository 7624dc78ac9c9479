"""How much of this machine the worker may use."""

import math
import os
from pathlib import Path

from worker.sandbox.limits import GIB

CORES_PER_ENCODE = 4
"""An estimate. On two cores, two at once were 3 % faster than one after the other."""
MEMORY_PER_ENCODE_BYTES = 4 * GIB
"""The largest measured job took 2.6 GiB up to 1080p."""
_CGROUP = Path("/sys/fs/cgroup")


def cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores its affinity and a container's quota (cgroup v2) leave to the worker."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _read(cgroup / "cpu.max", "max 1")
    return allowed if quota == "max" else max(1, min(allowed, math.ceil(int(quota) / int(period))))


def memory_bytes(cgroup: Path = _CGROUP) -> int:
    """Return the memory of the machine or, if that is less, of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (limit,) = _read(cgroup / "memory.max", "max")
    return total if limit == "max" else min(total, int(limit))


def encodes_at_a_time(cores: int, memory_bytes: int) -> int:
    """Return how many chunks or undivided videos this machine should encode at a time."""
    return max(1, min(cores // CORES_PER_ENCODE, memory_bytes // MEMORY_PER_ENCODE_BYTES))


def _read(path: Path, default: str) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # no cgroup v2, or the root of all
        return default.split()
