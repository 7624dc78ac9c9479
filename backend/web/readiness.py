"""Whether the store can be read: asked by anybody, looked up rarely."""

import asyncio
from datetime import UTC, datetime

import structlog

from backend.core import keys
from backend.core.errors import StoreError
from backend.core.store.interface import Buckets

log = structlog.get_logger(__name__)

READY_SECONDS = 5.0
"""Health checks repeat often, so a quick no is better than a long wait."""
FRESH_SECONDS = 2.0
"""For how long an answer is repeated: anybody may ask, and each look costs two LISTs."""


class Readiness:
    """Whether both buckets can be read, as one look every `FRESH_SECONDS` at most finds it."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._look: asyncio.Task[float | None] | None = None
        self._began = 0.0

    async def check(self) -> float | None:
        """Return how many seconds the store's clock is ahead of ours, or None if a bucket cannot be read."""
        now = asyncio.get_running_loop().time()
        if self._look is None or (self._look.done() and now - self._began >= FRESH_SECONDS):
            self._look, self._began = asyncio.create_task(self._look_once()), now
        return await asyncio.shield(self._look)

    async def _look_once(self) -> float | None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                page = await self._buckets.raw.list_page(keys.QUEUE, limit=1)
                await self._buckets.video.list_page(keys.CATALOG, limit=1)
        except (StoreError, TimeoutError) as error:
            log.warning("not_ready", error=str(error))
            return None
        return (page.store_now - datetime.now(UTC)).total_seconds()
