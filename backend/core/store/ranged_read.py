"""Reads a range of an object over as many connections as needed."""

import asyncio
from collections.abc import AsyncGenerator

import structlog

from backend.core.backoff import Backoff
from backend.core.errors import ObjectNotFound, SourceChanged, StoreDenied, StoreError, StoreUnavailable
from backend.core.store.interface import Store

BACKOFF = Backoff(first_seconds=0.1, longest_seconds=2)
PATIENCE_SECONDS = 75.0
CHUNK_TIMEOUT_SECONDS = 30.0
NOTABLE_BYTES = 64 * 1024
"""A store that needs longer than the patience for so little is away: its answers would never end."""

log = structlog.get_logger(__name__)


async def read_span(
    store: Store,
    key: str,
    start: int,
    end: int,
    *,
    etag: str | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes from `start` up to but not including `end`. A broken read resumes at the next byte.

    Raises:
        ObjectNotFound, StoreDenied
        SourceChanged: the object no longer has this `etag`.
        StoreUnavailable: no byte has arrived for `patience_seconds`, or hardly any.
    """
    clock = asyncio.get_running_loop().time
    position, fruitless, last_byte = start, 0, clock()
    notable, waited_seconds = start, 0.0
    max_wait_seconds = max(patience_seconds, CHUNK_TIMEOUT_SECONDS)
    while position < end:
        cause: Exception | None = None
        before = position
        stream = store.read(key, position, etag=etag)
        try:
            while position < end:
                asked_at = clock()
                try:
                    async with asyncio.timeout(CHUNK_TIMEOUT_SECONDS):
                        chunk = await anext(stream, b"")
                finally:
                    waited_seconds += clock() - asked_at
                if not chunk:
                    break
                chunk = chunk[: end - position]
                position += len(chunk)
                if position >= notable + NOTABLE_BYTES:
                    notable, waited_seconds = position, 0.0
                elif waited_seconds > max_wait_seconds and position < end:
                    break
                yield chunk
        except (ObjectNotFound, SourceChanged, StoreDenied):
            raise
        except (StoreError, TimeoutError) as error:
            cause = error
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        if position >= end:
            return
        if waited_seconds > max_wait_seconds and position > start:
            raise StoreUnavailable(f"reading {key}: the store delivers too slowly, byte {position} of {end}")
        now = clock()
        fruitless, last_byte = (0, now) if position > before else (fruitless + 1, last_byte)
        if now - last_byte >= patience_seconds:
            raise StoreUnavailable(
                f"reading {key}: the connection broke off at byte {position} of {end}"
            ) from cause
        log.info("reading_resumed", key=key, offset=position, error=str(cause) if cause else "ended early")
        await asyncio.sleep(BACKOFF.pause_seconds(fruitless + 1))
