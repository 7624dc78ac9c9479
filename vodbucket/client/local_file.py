"""A file to upload: checks it, and computes the fingerprint that identifies it on any machine."""

import hashlib
import mimetypes
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG

from vodbucket.client.errors import FileRejected

FINGERPRINT_VERSION = "vodbucket-1"
SAMPLE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: Path
    size_bytes: int
    fingerprint: str
    keep_original: bool = False
    """Ask the server to keep the file after transcoding."""

    @property
    def name(self) -> str:
        return as_text(self.path.name)

    def metadata(self, title: str | None) -> dict[str, str]:
        """Return the Upload-Metadata of this file."""
        kind, _ = mimetypes.guess_type(self.name)
        keep = "true" if self.keep_original else None
        values = {"filename": self.name, "filetype": kind, "title": title, "keep_original": keep}
        return {name: value for name, value in values.items() if value}


def keeping_original(file: LocalFile) -> LocalFile:
    """Return the file with the wish that the server keeps it after transcoding.

    It has a fingerprint of its own: an unfinished upload without the wish must not be resumed.
    """
    return replace(file, keep_original=True, fingerprint=titled_key(file.fingerprint, "\nkeep_original"))


def titled_key(fingerprint: str, title: str) -> str:
    """Return the key of a resumption record for a file that is uploaded with a title (docs/uploads.md)."""
    return hashlib.sha256(f"{fingerprint}\n{title}".encode()).hexdigest()


def as_text(name: str) -> str:
    """Replace bytes that are not UTF-8. File names and arguments may contain some."""
    return name.encode(errors="replace").decode()


def inspect_file(path: Path) -> LocalFile:
    """Raises: FileRejected: the file is missing, empty or unreadable."""
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise FileRejected("Not a regular file.")
        if stat.st_size == 0:
            raise FileRejected("The file is empty.")
        return LocalFile(path, stat.st_size, fingerprint(path, stat.st_size))
    except FileNotFoundError:
        raise FileRejected("No such file.") from None
    except OSError as error:
        raise FileRejected(f"Cannot read the file: {error.strerror}.") from error


def fingerprint(path: Path, size_bytes: int) -> str:
    """Return the file's fingerprint: the same in every browser and on every machine (docs/uploads.md)."""
    digest = hashlib.sha256(f"{FINGERPRINT_VERSION}\n{size_bytes}\n".encode())
    with path.open("rb") as file:
        if size_bytes <= 2 * SAMPLE_BYTES:
            digest.update(file.read())
        else:
            digest.update(file.read(SAMPLE_BYTES))
            file.seek(size_bytes - SAMPLE_BYTES)
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
