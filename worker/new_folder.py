"""A folder that appears with all of its content, or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backend.core.errors import VodbucketError


class FolderRejected(VodbucketError):
    """The folder cannot be written."""

    code = "folder_rejected"


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yield an empty workplace beside `folder`, on the same disk. It is deleted at the end of the block.

    What a killed process left in it is deleted first. `show` makes something of it the folder.

    Raises:
        FolderRejected: `folder` exists and is not empty, or another process is making it.
    """
    with _explained(folder):
        _check_free(folder)
        workplace = folder.parent / f".{folder.name}.encoding"
        lock = _locked(folder, workplace)
    try:
        with _explained(workplace):
            _empty(workplace)
        yield workplace
    finally:
        with suppress(OSError):
            shutil.rmtree(workplace)
        os.close(lock)


def show(made: Path, folder: Path) -> None:
    """Rename `made` to `folder`. Raises: FolderRejected: it is not free any more."""
    with _explained(folder):
        made.rename(folder)


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise FolderRejected(f"{folder} exists and is not an empty folder.")
    if folder.exists() and (folder.is_mount() or folder.samefile(Path.cwd())):
        raise FolderRejected(f"{folder} is in use. Name a folder that does not exist yet.")


def _locked(folder: Path, workplace: Path) -> int:
    """Return a descriptor that keeps other processes away from the workplace."""
    while True:
        workplace.mkdir(exist_ok=True)
        lock = os.open(workplace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), workplace.stat()):
                    return lock
        except BlockingIOError:
            os.close(lock)
            raise FolderRejected(f"Another process is writing {folder}.") from None
        os.close(lock)  # its owner has deleted it meanwhile


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderRejected(f"{folder} cannot be written: {error.strerror}.") from error
