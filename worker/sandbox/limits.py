"""How much a process may take of the machine, whatever the file is that it works on.

These are backstops that the kernel enforces. What its description gives away is refused before
(`worker.sandbox.guards`), and a process without progress is ended by the watchdog.
"""

import os
from dataclasses import dataclass

from worker.sandbox.guards import MAX_DURATION_SECONDS

GIB = 1024**3
MAX_MEMORY_BYTES = 4 * GIB + (os.cpu_count() or 1) * GIB // 2
"""Encoders and decoders hold frames for each of their threads. On two cores, ffmpeg took 1.9 GiB for a source
of 1080p60 and 2.6 GiB for one of 8K in 10 bits; the packager takes 2.1 GiB, and uses little of it."""
MAX_OPEN_FILES = 1024

MIN_CPU_SECONDS = 3600
CPU_SECONDS_PER_MEDIA_SECOND = 5000
"""A guess, far above what the slowest presets should take: not measured."""
MAX_FILE_BYTES = 64 * 1024**2
"""Several times what a picture or a file of captions may take: nothing else reaches a disk."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Of one process. None: no limit."""

    memory_bytes: int = MAX_MEMORY_BYTES
    """What it may write to (RLIMIT_DATA): reserved addresses and mapped programs do not count. Linux only."""
    cpu_seconds: int | None = None
    file_bytes: int | None = None
    """Of each file that it writes; pipes do not count."""


READ_ONLY = ResourceLimits(file_bytes=0)
"""For what only reads, and answers by its pipes."""


def encoding_limits(duration_seconds: float | None) -> ResourceLimits:
    seconds = min(duration_seconds or MAX_DURATION_SECONDS, MAX_DURATION_SECONDS)
    return ResourceLimits(
        cpu_seconds=MIN_CPU_SECONDS + int(seconds * CPU_SECONDS_PER_MEDIA_SECOND),
        file_bytes=MAX_FILE_BYTES,
    )
