"""The rest of a file as the body of a request: read as it is sent, in pieces."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from vodbucket.errors import FileRejected

READ_BYTES = 1024 * 1024
CHUNK_BYTES = READ_BYTES // 8
"""Even a slow connection takes so much within `vodbucket.api.SILENT_SECONDS`."""


class FileBody:
    """`size_bytes` of a file from `start` on. `sent` is told how many bytes have left, piece by piece."""

    def __init__(self, path: Path, start: int, size_bytes: int, sent: Callable[[int], None]) -> None:
        self._path = path
        self._start = start
        self.size_bytes = size_bytes
        self._sent = sent
        self.failure: FileRejected | None = None
        """Why the file could not be read: the HTTP client hides it among its own errors."""

    async def chunks(self, moved: Callable[[], None]) -> AsyncIterator[bytes]:
        """Yield the bytes; call `moved` whenever the connection has taken some."""
        try:
            position, end = self._start, self._start + self.size_bytes
            while position < end:
                read = await asyncio.to_thread(self._read, position, min(READ_BYTES, end - position))
                if not read:
                    raise FileRejected("This file has become shorter.")
                position += len(read)
                for at in range(0, len(read), CHUNK_BYTES):
                    chunk = read[at : at + CHUNK_BYTES]
                    yield chunk
                    moved()
                    self._sent(len(chunk))
        except OSError as error:
            self.failure = FileRejected(f"This file cannot be read: {error.strerror}.")
            raise self.failure from error
        except FileRejected as error:
            self.failure = error
            raise

    def _read(self, position: int, size_bytes: int) -> bytes:
        """The file is not held open: nobody closes a body that the HTTP client has dropped."""
        with self._path.open("rb", buffering=0) as file:
            file.seek(position)
            return file.read(size_bytes)
