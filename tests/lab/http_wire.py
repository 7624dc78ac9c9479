"""HTTP/1.1 on the wire (RFC 9112) for a proxy: heads kept byte for byte, bodies read by their framing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property

CHUNK_BYTES = 64 * 1024
HEAD_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True)
class Head:
    """The raw lines of a request or response, up to and including the empty one."""

    raw: bytes

    @cached_property
    def first_line(self) -> list[str]:
        return self.raw.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)

    @cached_property
    def headers(self) -> dict[str, str]:
        lines = self.raw.decode("latin-1").split("\r\n")[1:]
        return {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }

    @property
    def status(self) -> int:
        """The status code of a response."""
        return int(self.first_line[1])

    @property
    def content_length(self) -> int | None:
        length = self.headers.get("content-length")
        return None if length is None else int(length)

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"

    def without(self, *names: str) -> "Head":
        """Return the head without these headers, leaving the others untouched."""
        first, *lines = self.raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        dropped = {name.encode() for name in names}
        kept = [line for line in lines if line.partition(b":")[0].strip().lower() not in dropped]
        return Head(b"\r\n".join([first, *kept]) + b"\r\n\r\n")


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read up to the empty line.

    Raises: asyncio.IncompleteReadError: the connection ended.
    """
    return Head(await reader.readuntil(b"\r\n\r\n"))


async def framed_body(reader: asyncio.StreamReader, head: Head, *, until_close: bool) -> AsyncIterator[bytes]:
    """Yield the body's bytes with their framing. `until_close` is for responses without a length.

    Raises:
        asyncio.IncompleteReadError: the connection ended before the body did.
    """
    if head.is_chunked:
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
            if size == 0:
                return
    elif head.content_length is not None:
        left = head.content_length
        while left:
            chunk = await reader.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(chunk)
            yield chunk
    elif until_close:
        while chunk := await reader.read(CHUNK_BYTES):
            yield chunk
