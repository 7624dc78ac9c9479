"""A server of one file that can break each promise of HTTP, and a sink that keeps what it is given."""

import asyncio
import gzip
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from backend.core.errors import SourceRejected
from backend.core.records import FetchKind, FetchSpec
from tests.worker.fetch.listening import listening

MAX_BYTES = 64 * 1024**2


@dataclass
class FileServer:
    """What it serves, and how. Change it while it runs."""

    body: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    framing: str = "length"
    """Or "chunked", "close", "gzip"."""
    declared_bytes: int | None = None
    """In place of the true length."""
    dies_after: list[int] = field(default_factory=list)
    """How many bytes each of the first connections sends of its body before it is reset."""
    hangs_after: int | None = None
    status: int = 200
    headers: tuple[str, ...] = ("Content-Type: video/mp4",)
    ranges_asked: list[str | None] = field(default_factory=list)
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked = re.search(r"^range: bytes=(\d+)-", head, re.MULTILINE | re.IGNORECASE)
        condition = re.search(r"^if-range: (.*)\r$", head, re.MULTILINE | re.IGNORECASE)
        self.ranges_asked.append(asked and asked[1])
        start = int(asked[1]) if asked and self.ranges and condition and condition[1] == self.etag else 0
        status, headers, body = self.status, list(self.headers), self.body[start:]
        if start >= len(self.body) and start:
            status, body = 416, b""
            headers += [f"Content-Range: bytes */{len(self.body)}"]
        elif start:
            status = 206
            headers += [f"Content-Range: bytes {start}-{len(self.body) - 1}/{len(self.body)}"]
        if self.etag:
            headers.append(f"ETag: {self.etag}")
        if self.framing == "gzip":
            body = gzip.compress(body)
            headers.append("Content-Encoding: gzip")
        if self.framing == "chunked":
            headers.append("Transfer-Encoding: chunked")
        elif self.framing != "close":
            headers.append(f"Content-Length: {self.declared_bytes or len(body)}")
        writer.write("\r\n".join((f"HTTP/1.1 {status} X", *headers, "Connection: close", "", "")).encode())
        dies_after = self.dies_after.pop(0) if self.dies_after else None
        await self._send(body[:dies_after], writer)
        if dies_after is None and self.hangs_after is None:
            await self._send(b"", writer, last=True)
        elif self.hangs_after is not None:
            await reader.read()

    async def _send(self, body: bytes, writer: asyncio.StreamWriter, *, last: bool = False) -> None:
        body = body[: self.hangs_after]
        if self.framing == "chunked" and (body or last):
            body = b"%x\r\n%b\r\n" % (len(body), body)
        writer.write(body)
        await writer.drain()


@asynccontextmanager
async def serving(server: FileServer, *, context: ssl.SSLContext | None = None) -> AsyncIterator[FileServer]:
    async with listening(server.answer, host="127.0.0.1", port=0, ssl=context) as port:
        scheme = "https" if context else "http"
        server.url = f"{scheme}://127.0.0.1:{port}/films/a%20film.mp4?secret=x"
        yield server


@dataclass
class KeptSink:
    """As the real sink: starts after what an earlier attempt stored."""

    stored: bytearray = field(default_factory=bytearray)
    version: str | None = None
    total_bytes: int | None = None
    begun: int = 0
    progressed: list[tuple[int, int | None]] = field(default_factory=list)

    @property
    def position(self) -> int:
        return len(self.stored)

    async def begin(self, version: str | None, total_bytes: int | None) -> None:
        if total_bytes is not None and total_bytes > MAX_BYTES:
            raise SourceRejected("too large", code="fetch_too_large")
        self.stored.clear()
        self.version, self.total_bytes, self.begun = version, total_bytes, self.begun + 1

    async def write(self, chunk: bytes) -> None:
        self.stored += chunk

    async def copy(self, source: str, bucket: str | None) -> None:
        raise AssertionError

    def progress(self, received_bytes: int, total_bytes: int | None) -> None:
        self.progressed.append((received_bytes, total_bytes))


def spec(address: str, kind: FetchKind = FetchKind.HTTP) -> FetchSpec:
    return FetchSpec(kind=kind, address=address, max_bytes=MAX_BYTES)
