"""Feeds the source from the raw bucket to ffmpeg and ffprobe over loopback HTTP, with range requests.

After a lost connection or a short outage it resumes at the exact byte. If it cannot, it breaks the
connection and reports the error: ffmpeg exits with 0 on a source that ends early, so its exit code alone
would turn a lost connection into a short video.
"""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from aiohttp import web

from backend.core.store.interface import ObjectInfo, Store
from backend.core.store.ranged_read import PATIENCE_SECONDS
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.loopback import serve
from worker.source.positions import SourceReader

log = structlog.get_logger(__name__)

NOTABLE_BYTES = 1024 * 1024
"""A source that trickles is not progress."""
MAX_RESTARTS = 100
"""Each program that reads the source begins at its start and makes progress from there. The limit is for
files that make one program jump back there for ever."""
SEND_BYTES = 64 * 1024
"""How much is on its way to a reader at a time: what it does not want when it jumps is sent in vain."""


class SourceFeeder:
    """Serves one version (ETag) of one object.

    A store that delivers no byte for `patience_seconds` is an error.
    """

    def __init__(
        self,
        store: Store,
        info: ObjectInfo,
        errors: BackgroundErrors,
        patience_seconds: float = PATIENCE_SECONDS,
        activity: ActivityClock | None = None,
    ) -> None:
        """`activity` stands still while the store is awaited, and is touched when the reader gets further."""
        self._info = info
        self._errors = errors
        self._reader = SourceReader(store, info, patience_seconds)
        self._activity = activity or ActivityClock()
        self.fed_bytes = 0
        self._position = self._furthest = self._restarts = 0

    @property
    def share_fed(self) -> float:
        """How far the reader has got in the source, from 0 to 1."""
        return self._position / max(1, self._info.size_bytes)

    @property
    def head(self) -> bytes:
        """The beginning of the source, as far as it was read and kept."""
        return bytes(self._reader.head)

    async def read(self, offset: int, size: int) -> bytes:
        """Return these bytes, or fewer at the end. Call it while serving. Raises: StoreError."""
        body = bytearray()
        end = min(offset + size, self._info.size_bytes)
        with self._activity.waiting():
            while offset + len(body) < end:
                position = offset + len(body)
                body += await self._reader.read(position, min(end - position, SEND_BYTES))
        return bytes(body)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yield the source's URL. Followed by `-` and a number, it is the source without that many bytes."""
        async with self._reader, serve(self._handle) as base:
            yield f"{base}source"

    async def further_beginnings(self) -> set[int]:
        """Return where the file begins once more (`worker.source.beginnings`). Reads what was not fed."""
        with self._activity.waiting():
            return await self._reader.further_beginnings()

    async def _handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        skipped = _SOURCE_PATH.fullmatch(path)
        first = int(skipped[1] or 0) if skipped else self._info.size_bytes
        size = self._info.size_bytes - first
        if size < 0 or skipped is None or request.method not in {"GET", "HEAD"}:
            return web.Response(status=404)
        span = _parse_range(request.headers.get("Range"), size)
        if span is None:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        start, end = span
        answer = web.StreamResponse(
            status=206 if "Range" in request.headers else 200,
            headers={"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"},
        )
        if answer.status == 206:
            answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        answer.content_length = end - start
        await answer.prepare(request)
        if request.transport is not None:
            connection = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if request.method == "HEAD":
            return answer
        try:
            position, end = first + start, first + end
            if position == 0 and self._restarts < MAX_RESTARTS:
                self._furthest, self._restarts = 0, self._restarts + 1
            while position < end:
                with self._activity.waiting():
                    chunk = await self._reader.read(position, min(end - position, SEND_BYTES))
                try:
                    await answer.write(chunk)
                except ConnectionError:
                    return answer  # the reader hung up: it seeks, or is done
                self.fed_bytes += len(chunk)
                position += len(chunk)
                self._position = position
                if position >= self._furthest + NOTABLE_BYTES:
                    self._furthest = position
                    self._activity.touch()
            with suppress(ConnectionError):
                await answer.write_eof()
        except Exception as error:  # noqa: BLE001  # aiohttp would only log it, and ffmpeg would see the end of the file
            log.warning("source_failed", error=repr(error), fed_bytes=self.fed_bytes)
            self._errors.report(error, meaning="The source could not be read", code="source_failed")
            if request.transport is not None:
                request.transport.abort()
        return answer


def _parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return start and end (exclusive) of a single range (RFC 9110, section 14). None: not satisfiable."""
    if header is None:
        return 0, size
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    start = int(match[1])
    end = min(size, int(match[2]) + 1) if match[2] else size
    return (start, end) if start < end else None


_SOURCE_PATH = re.compile(r"source(?:-(\d{1,18}))?")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
