"""Feeds the source from the raw bucket to ffmpeg and ffprobe over loopback HTTP, with range requests.

After a lost connection or a short outage it resumes at the exact byte. If it cannot, it breaks the
connection and reports the error: ffmpeg exits with 0 on a source that ends early, so its exit code alone
would turn a lost connection into a short video.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress

import structlog
from aiohttp import web

from backend.core.store.interface import ObjectInfo, Store
from backend.core.store.ranged_read import PATIENCE_SECONDS, read_span
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.loopback import serve

log = structlog.get_logger(__name__)

HEAD_BYTES = 8 * 1024 * 1024
"""Kept in memory: ffprobe and ffmpeg read the beginning several times."""
NOTABLE_BYTES = 1024 * 1024
"""A source that trickles is not progress."""


class SourceFeeder:
    """Serves one version (ETag) of one object.

    A store that delivers no byte for `patience_seconds` is an error. `on_new_bytes` is called when the reader
    gets notably further than before.
    """

    def __init__(
        self,
        store: Store,
        info: ObjectInfo,
        errors: BackgroundErrors,
        patience_seconds: float = PATIENCE_SECONDS,
        on_new_bytes: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._info = info
        self._errors = errors
        self._patience_seconds = patience_seconds
        self._on_new_bytes = on_new_bytes
        self._furthest = 0
        self._head = bytearray()
        self.fed_bytes = 0
        self._position = 0

    @property
    def share_fed(self) -> float:
        """How far the reader has got in the source, from 0 to 1."""
        return self._position / max(1, self._info.size_bytes)

    @property
    def head(self) -> bytes:
        """The beginning of the source, as far as it was read and kept."""
        return bytes(self._head)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yield the source's URL."""
        async with serve(self._handle) as base:
            yield f"{base}source"

    async def _handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path != "source" or request.method not in {"GET", "HEAD"}:
            return web.Response(status=404)
        size = self._info.size_bytes
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
        if request.method == "HEAD":
            return answer
        try:
            position = start
            async with aclosing(self._bytes(start, end)) as chunks:
                async for chunk in chunks:
                    try:
                        await answer.write(chunk)
                    except ConnectionError:
                        return answer  # the reader hung up: it seeks, or is done
                    self.fed_bytes += len(chunk)
                    position += len(chunk)
                    self._position = position
                    if position >= self._furthest + NOTABLE_BYTES:
                        self._furthest = position
                        self._on_new_bytes()
            with suppress(ConnectionError):
                await answer.write_eof()
        except Exception as error:  # noqa: BLE001  # aiohttp would only log it, and ffmpeg would see the end of the file
            log.warning("source_failed", error=repr(error), fed_bytes=self.fed_bytes)
            self._errors.report(error, meaning="The source could not be read", code="source_failed")
            if request.transport is not None:
                request.transport.abort()
        return answer

    async def _bytes(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield exactly the bytes from `start` up to `end` (exclusive), over as many connections as needed.

        Raises:
            StoreError: they cannot be read.
        """
        position = start
        if position < len(self._head):
            kept = bytes(self._head[position:end])
            position += len(kept)
            yield kept
        etag, patience = self._info.etag or None, self._patience_seconds
        stream = read_span(self._store, self._info.key, position, end, etag=etag, patience_seconds=patience)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                if position == len(self._head) < HEAD_BYTES:
                    self._head += chunk[: HEAD_BYTES - position]
                position += len(chunk)
                yield chunk


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


_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
