"""Reads the source at several positions at a time, and each byte once.

If picture and sound are not interleaved, ffmpeg jumps between them many times per second of film. With a
connection per jump, most of what the store sends would be thrown away. So connections stay open where ffmpeg
left them, and the bytes before that point are kept: ffmpeg asks again for those it was sent but did not read.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

from backend.core.store.interface import ObjectInfo, Store
from backend.core.store.ranged_read import read_span
from worker.source.beginnings import OVERLAP_BYTES, Beginnings

HEAD_BYTES = 8 * 1024 * 1024
"""Kept in memory: ffprobe and ffmpeg read the beginning several times."""
WINDOW_BYTES = 8 * 1024 * 1024
"""What each position keeps of what it has read, and how far it moves ahead to skip what is not wanted."""
MAX_POSITIONS = 10
"""A picture, eight tracks of audio, and the index."""


class SourceReader:
    """Reads one version (ETag) of one object, in bounded memory. A context manager: it holds connections."""

    def __init__(self, store: Store, info: ObjectInfo, patience_seconds: float) -> None:
        self._store = store
        self._info = info
        self._patience_seconds = patience_seconds
        self._positions: deque[_Position] = deque()
        """The one used last is the last."""
        self._beginnings = Beginnings()
        self._spans: list[tuple[int, int]] = []
        """What closed positions have read: start and end."""
        self.head = bytearray()

    async def read(self, offset: int, limit: int) -> bytes:
        """Return at least one and at most `limit` bytes at `offset`, which must be inside the object.

        Raises:
            StoreError: they cannot be read.
        """
        if offset < len(self.head):
            return bytes(self.head[offset : offset + limit])
        chunk = b""
        while not chunk:
            position = self._nearest(offset)
            self._positions.append(position)
            try:
                chunk = await position.read(offset, limit)
            finally:
                if not chunk and position in self._positions:
                    self._positions.remove(position)
                    self._spans.append(position.span)
        while len(self._positions) > MAX_POSITIONS:
            closed = self._positions.popleft()
            await closed.close()
            self._spans.append(closed.span)
        if offset == len(self.head) < HEAD_BYTES:
            self.head += chunk[: HEAD_BYTES - offset]
        return chunk

    def _nearest(self, offset: int) -> "_Position":
        """Take the position that can reach `offset` soonest out of the list, or return a new one."""
        near = [position for position in self._positions if position.reaches(offset)]
        if not near:
            return _Position(self._store, self._info, offset, self._patience_seconds, self._beginnings)
        nearest = min(near, key=lambda position: abs(position.offset - offset))
        self._positions.remove(nearest)
        return nearest

    async def further_beginnings(self) -> set[int]:
        """Return where the file begins once more. Reads what has not been read yet.

        Raises:
            StoreError.
        """
        reached = 0
        for start, end in sorted([*self._spans, *(position.span for position in self._positions)]):
            if start > reached:
                await self._scan(reached, start)
            reached = max(reached, end)
        await self._scan(reached, self._info.size_bytes)
        return self._beginnings.found

    async def _scan(self, start: int, end: int) -> None:
        if start < end and self._beginnings.possible:
            begin = max(0, start - OVERLAP_BYTES)
            rest = _Position(self._store, self._info, begin, self._patience_seconds, self._beginnings)
            try:
                while rest.offset < end:
                    await rest.read(rest.offset, 1)
            finally:
                await rest.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for position in self._positions:
            await position.close()


class _Position:
    """One connection, from where it began to the end of the object, and the last bytes that it brought."""

    def __init__(
        self, store: Store, info: ObjectInfo, offset: int, patience_seconds: float, beginnings: Beginnings
    ) -> None:
        self._start = self.offset = offset
        """`offset` is that of the next byte that the connection brings."""
        self._beginnings = beginnings
        self._chunks: deque[bytes] = deque()
        self._kept_bytes = 0
        self._stream = read_span(
            store,
            info.key,
            offset,
            info.size_bytes,
            etag=info.etag or None,
            patience_seconds=patience_seconds,
        )
        self._turn = asyncio.Lock()

    @property
    def span(self) -> tuple[int, int]:
        """The start and end of what it has read."""
        return self._start, self.offset

    def reaches(self, offset: int) -> bool:
        return self.offset - self._kept_bytes <= offset <= self.offset + WINDOW_BYTES

    async def read(self, offset: int, limit: int) -> bytes:
        """Return bytes at `offset`; none if the connection broke or another request moved it on."""
        async with self._turn:
            while offset >= self.offset:
                chunk = await anext(self._stream, b"")
                if not chunk:
                    return b""
                self._keep(chunk)
            end = self.offset
            for chunk in reversed(self._chunks):
                start = end - len(chunk)
                if start <= offset:
                    return chunk[offset - start : offset - start + limit]
                end = start
            return b""

    def _keep(self, chunk: bytes) -> None:
        before = self._chunks[-1][-OVERLAP_BYTES:] if self._chunks else b""
        self._beginnings.scan(self.offset - len(before), before + chunk)
        self._chunks.append(chunk)
        self.offset += len(chunk)
        self._kept_bytes += len(chunk)
        while self._kept_bytes - len(self._chunks[0]) >= WINDOW_BYTES:
            self._kept_bytes -= len(self._chunks.popleft())

    async def close(self) -> None:
        async with self._turn:
            await self._stream.aclose()
