"""A file that is to be uploaded: whether it can be, and how it is recognized elsewhere."""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from vodbucket.errors import FileRejected

FINGERPRINT_VERSION = "vodbucket-1"
SAMPLE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path
    size_bytes: int
    fingerprint: str

    @property
    def name(self) -> str:
        return as_text(self.path.name)

    def metadata(self, title: str | None) -> dict[str, str]:
        """Return what the server is told of it."""
        kind, _ = mimetypes.guess_type(self.name)
        said = {"filename": self.name, "filetype": kind, "title": title}
        return {name: value for name, value in said.items() if value}


def as_text(name: str) -> str:
    """Return what can be written and sent: names of files and arguments may hold bytes that are no UTF-8."""
    return name.encode(errors="replace").decode()


def examine_file(path: Path) -> LocalFile:
    """Raises: FileRejected: it is missing, empty, or cannot be read."""
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):
            raise FileRejected("This is not a file.")
        if found.st_size == 0:
            raise FileRejected("This file is empty.")
        return LocalFile(path, found.st_size, fingerprint(path, found.st_size))
    except FileNotFoundError:
        raise FileRejected("There is no such file.") from None
    except OSError as error:
        raise FileRejected(f"This file cannot be read: {error.strerror}.") from error


def fingerprint(path: Path, size_bytes: int) -> str:
    """Return what is the same for this file in any browser and on any machine (docs/uploads.md)."""
    digest = hashlib.sha256(f"{FINGERPRINT_VERSION}\n{size_bytes}\n".encode())
    with path.open("rb") as file:
        if size_bytes <= 2 * SAMPLE_BYTES:
            digest.update(file.read())
        else:
            digest.update(file.read(SAMPLE_BYTES))
            file.seek(size_bytes - SAMPLE_BYTES)
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
