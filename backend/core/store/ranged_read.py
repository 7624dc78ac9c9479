"""Reading an object to its end, over as many connections as that takes."""

import asyncio
from collections.abc import AsyncGenerator

import structlog

from backend.core.errors import ObjectNotFound, SourceChanged, StoreDenied, StoreError, StoreUnavailable
from backend.core.store.interface import Store

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
"""Between attempts that brought no byte; any byte starts them anew."""
PATIENCE_SECONDS = 75.0
CHUNK_TIMEOUT_SECONDS = 30.0

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
    """Yield exactly the bytes from `start` to before `end`; what breaks off is resumed at the byte.

    Raises:
        ObjectNotFound, StoreDenied
        SourceChanged: it is another than that of `etag`.
        StoreUnavailable: the store has given no byte for `patience_seconds`.
    """
    clock = asyncio.get_running_loop().time
    position, fruitless, last_byte = start, 0, clock()
    while position < end:
        cause: Exception | None = None
        before = position
        stream = store.read(key, position, etag=etag)
        try:
            while position < end:
                async with asyncio.timeout(CHUNK_TIMEOUT_SECONDS):
                    chunk = await anext(stream, b"")
                if not chunk:
                    break
                chunk = chunk[: end - position]
                position += len(chunk)
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
        now = clock()
        fruitless, last_byte = (0, now) if position > before else (fruitless + 1, last_byte)
        if now - last_byte >= patience_seconds:
            raise StoreUnavailable(f"reading {key}: it broke off at byte {position} of {end}") from cause
        log.info("reading_resumed", key=key, offset=position, error=str(cause) if cause else "ended early")
        await asyncio.sleep(min(FIRST_PAUSE_SECONDS * 2**fruitless, LONGEST_PAUSE_SECONDS))
