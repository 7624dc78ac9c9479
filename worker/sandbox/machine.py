"""What an attempt needs of this machine: a work directory, memory, descriptors.

A failure of the machine is a `MachineFault`. It is never blamed on the file.
"""

import errno
import mmap
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from backend.core.errors import JobFailure, MachineFault
from worker.sandbox.exit_codes import MACHINE
from worker.sandbox.workspace import workspace

MIN_FREE_BYTES = 64 * 1024**2
"""Some dozen MiB are what the images and captions of a job take."""
MIN_MEMORY_BYTES = 256 * 1024**2
MIN_DESCRIPTORS = 48
"""For the pipes, the loopback servers and the connections of one more job."""

_NOT_THE_MACHINE = (TimeoutError, ConnectionError)


def fault_in(error: Exception) -> MachineFault | None:
    """Return the fault of the machine that this error shows, or None."""
    if isinstance(error, MachineFault):
        return error
    no_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    if isinstance(error, MemoryError) or no_thread:
        return MachineFault(f"This machine is out of memory or of threads: {error!r}.")
    if isinstance(error, JobFailure) and error.failure_code == MACHINE:
        return MachineFault(f"This machine lacks disk space, memory or descriptors: {error.message}")
    if isinstance(error, OSError) and error.errno and not isinstance(error, _NOT_THE_MACHINE):
        return MachineFault(f"This machine fails: {error}.")
    return None


def check_work_dir(work_dir: Path) -> int:
    """Do what an attempt does in WORK_DIR and return how many bytes are free. Raises: MachineFault."""
    try:
        with workspace(work_dir) as directory:
            os.mkfifo(directory / "pipe", 0o600)
            (directory / "file").write_bytes(bytes(4096))
        free_bytes = shutil.disk_usage(work_dir).free
    except OSError as error:
        # a lack of descriptors is not the disk's fault
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise MachineFault(f"This machine fails: {error}.") from error
        raise MachineFault(f"WORK_DIR: cannot write to {work_dir}: {error.strerror}.") from error
    if free_bytes < MIN_FREE_BYTES:
        raise MachineFault(
            f"WORK_DIR: {work_dir} has only {free_bytes / 1024**2:.0f} MiB free; "
            f"{MIN_FREE_BYTES / 1024**2:.0f} MiB are needed."
        )
    return free_bytes


def check_resources() -> None:
    """Check that memory and descriptors for an attempt can be had. Raises: MachineFault."""
    try:
        mmap.mmap(-1, MIN_MEMORY_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as error:
        raise MachineFault(
            f"This machine has no {MIN_MEMORY_BYTES / 1024**2:.0f} MiB of memory left: {error.strerror}."
        ) from error
    with ExitStack() as opened:
        try:
            for _ in range(MIN_DESCRIPTORS):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            raise MachineFault(
                f"This process has no {MIN_DESCRIPTORS} descriptors left (`ulimit -n`): {error.strerror}."
            ) from error
