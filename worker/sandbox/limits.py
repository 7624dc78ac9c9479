"""Limits on what a process may use of the machine, whatever file it works on.

These are backstops that the kernel enforces. What the file's metadata reveals is rejected earlier
(`worker.sandbox.guards`), and the watchdog kills a process that makes no progress.
"""

import os
from dataclasses import dataclass

from worker.sandbox.guards import MAX_DURATION_SECONDS

GIB = 1024**3
MAX_MEMORY_BYTES = 4 * GIB + (os.cpu_count() or 1) * GIB // 2
"""Encoders and decoders hold frames for each of their threads, of which a container's quota makes none fewer:
all cores count. On two, ffmpeg took 1.9 GiB for a 1080p60 source and 2.6 GiB for 10-bit 8K; the packager
allocates 2.1 GiB and uses little of it."""
BYTES_PER_PIXEL = 512
"""In addition, for each pixel of the largest rung above 1080p. The rungs 1440 and 2160 took 2.7 GiB more."""
PIXELS_1080P = 1920 * 1080
MAX_OPEN_FILES = 1024

MIN_CPU_SECONDS = 3600
CPU_SECONDS_PER_MEDIA_SECOND = 5000
"""Not measured: an estimate far above what the slowest presets should take."""
MAX_FILE_BYTES = 64 * 1024**2
"""Several times the size of a picture or caption file; nothing else is written to disk."""

FETCHED_BYTES_PER_CPU_SECOND = 10 * 1024**2
"""Far below what yt-dlp and aria2c manage."""

NICENESS = 10
"""Of encoders: a ninth of the weight of what somebody waits for: API, store, browser, looks."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Limits of one process. None: no limit."""

    memory_bytes: int = MAX_MEMORY_BYTES
    """Writable memory (RLIMIT_DATA); reserved addresses and mapped programs do not count. Linux only."""
    cpu_seconds: int | None = None
    file_bytes: int | None = None
    """Of each file that it writes; pipes do not count."""
    niceness: int = 0


READ_ONLY = ResourceLimits(file_bytes=0)
"""For processes that only read and write to pipes."""


def fetching_limits(file_bytes: int) -> ResourceLimits:
    """Return those of a program that downloads files of up to this size."""
    return ResourceLimits(
        cpu_seconds=MIN_CPU_SECONDS + file_bytes // FETCHED_BYTES_PER_CPU_SECOND, file_bytes=file_bytes
    )


def encoding_limits(
    duration_seconds: float | None, largest_pixels: int = 0, *, niceness: int = NICENESS
) -> ResourceLimits:
    """`largest_pixels` are those of a picture of the largest rung."""
    seconds = min(duration_seconds or MAX_DURATION_SECONDS, MAX_DURATION_SECONDS)
    return ResourceLimits(
        memory_bytes=MAX_MEMORY_BYTES + BYTES_PER_PIXEL * max(0, largest_pixels - PIXELS_1080P),
        cpu_seconds=MIN_CPU_SECONDS + int(seconds * CPU_SECONDS_PER_MEDIA_SECOND),
        file_bytes=MAX_FILE_BYTES,
        niceness=niceness,
    )
