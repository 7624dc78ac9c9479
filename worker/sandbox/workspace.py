"""The directory of one attempt, and the removal of directories that killed workers left.

Workers may share WORK_DIR, so a worker holds a lock (flock) on its directory while it is alive. A shared
lock on WORK_DIR keeps sweepers away from a directory that was created but is not locked yet.
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
    """Create a directory for one attempt and delete it at the end of the block."""
    with ExitStack() as stack:
        with _locked(work_dir, fcntl.LOCK_SH):
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, dir=work_dir))
            stack.enter_context(_locked(Path(name), fcntl.LOCK_EX))
        yield Path(name)


def sweep_workspaces(work_dir: Path) -> int:
    """Delete the directories of dead workers; return how many."""
    swept = 0
    with _locked(work_dir, fcntl.LOCK_EX):
        for directory in work_dir.glob(f"{PREFIX}*"):
            with suppress(OSError), _locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB):  # in use, or not ours
                shutil.rmtree(directory)
                swept += 1
    return swept


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    """Hold a lock. Raises: OSError: the directory cannot be opened or, with LOCK_NB, is locked."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, how)
        yield
    finally:
        os.close(file)
