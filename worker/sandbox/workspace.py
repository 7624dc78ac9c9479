"""The directory of one attempt, and the sweeping of those that a killed worker left behind.

A lock of the kernel's (flock) on the directory says that its worker lives: workers may share WORK_DIR. One on
WORK_DIR itself keeps sweepers off while a directory is made and not yet locked.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PREFIX = "vodbucket-"


@contextmanager
def workspace(work_dir: Path) -> Iterator[Path]:
    """Make a directory for one attempt; it is gone when the block is left."""
    with ExitStack() as stack:
        with _locked(work_dir, fcntl.LOCK_SH):
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, dir=work_dir))
            stack.enter_context(_locked(Path(name), fcntl.LOCK_EX))
        yield Path(name)


def sweep_workspaces(work_dir: Path) -> int:
    """Delete the directories of workers that are dead, and say how many."""
    swept = 0
    with _locked(work_dir, fcntl.LOCK_EX):
        for left in work_dir.glob(f"{PREFIX}*"):
            with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):  # else: alive, or not ours
                shutil.rmtree(left)
                swept += 1
    return swept


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    """Raises: OSError: it cannot be opened, or (with LOCK_NB) is locked."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, how)
        yield
    finally:
        os.close(file)
