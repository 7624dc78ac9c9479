"""A file and a URL that must never be opened, and that record it if they are (Linux)."""

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_IN_ALL_EVENTS = 0xFFF
_EVENT = struct.Struct("iIII")
_LIBC = ctypes.CDLL(None, use_errno=True)


class Canary:
    """A watched file and URL. `opened` reports the accesses since the last call."""

    def __init__(self, url: str, file: Path, watch: int, requests: list[bytes]) -> None:
        self.url = url
        self.file = file
        self._watch = watch
        self._requests = requests

    def opened(self) -> list[bytes]:
        """Return an entry for each connection to the URL and the event mask of each access to the file."""
        try:
            events = os.read(self._watch, 65536)
        except BlockingIOError:
            events = b""
        accesses = [b"%#x" % mask for _, mask, _, _ in _EVENT.iter_unpack(events)]
        found = [*self._requests, *accesses]
        self._requests.clear()
        return found


@asynccontextmanager
async def canary(file: Path) -> AsyncIterator[Canary]:
    """Write and watch the file, and listen on a free port."""
    file.write_bytes(b"secret" * 100)
    watch = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0 or _LIBC.inotify_add_watch(watch, bytes(file), _IN_ALL_EVENTS) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(b"connected")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with server:
            yield Canary(f"http://127.0.0.1:{port}/", file, watch, requests)
    finally:
        os.close(watch)
