"""The rest of a file as a request body, read in chunks while it is sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from vodbucket.client.errors import FileRejected

READ_BYTES = 1024 * 1024
CHUNK_BYTES = READ_BYTES // 8
"""Small enough that even a slow connection sends it within `vodbucket.client.api.STALLED_SECONDS`."""


class FileBody:
    """`size_bytes` of a file from `start`. Calls `sent` with the size of each chunk that was sent."""

    def __init__(self, path: Path, start: int, size_bytes: int, sent: Callable[[int], None]) -> None:
        self._path = path
        self._start = start
        self.size_bytes = size_bytes
        self._sent = sent
        self.failure: FileRejected | None = None
        """Why the file could not be read: the HTTP client replaces it with its own error."""

    async def chunks(self, on_sent: Callable[[], None]) -> AsyncIterator[bytes]:
        """Yield the bytes. Calls `on_sent` after each chunk that was sent."""
        try:
            position, end = self._start, self._start + self.size_bytes
            while position < end:
                read = await asyncio.to_thread(self._read, position, min(READ_BYTES, end - position))
                if not read:
                    raise FileRejected("The file became shorter during the upload.")
                position += len(read)
                for start in range(0, len(read), CHUNK_BYTES):
                    chunk = read[start : start + CHUNK_BYTES]
                    yield chunk
                    on_sent()
                    self._sent(len(chunk))
        except OSError as error:
            self.failure = FileRejected(f"Cannot read the file: {error.strerror}.")
            raise self.failure from error
        except FileRejected as error:
            self.failure = error
            raise

    def _read(self, position: int, size_bytes: int) -> bytes:
        """Open the file for each read: nothing would close it if the HTTP client drops this body."""
        with self._path.open("rb", buffering=0) as file:
            file.seek(position)
            return file.read(size_bytes)
