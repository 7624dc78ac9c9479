"""Liveness and readiness checks."""

import asyncio
from datetime import UTC, datetime

import structlog
from litestar import MediaType, Response, get

from backend.core import keys
from backend.core.errors import StoreError, StoreUnavailable
from backend.core.store.interface import CLOCK_TOLERANCE_SECONDS
from backend.routes.services import FromServices
from backend.web.auth import PUBLIC

log = structlog.get_logger(__name__)

READY_SECONDS = 5.0
"""Health checks repeat often, so a quick no is better than a long wait."""


@get("/healthz", opt=PUBLIC, media_type=MediaType.TEXT, sync_to_thread=False, tags=["health"])
def healthz() -> str:
    """Check that the process is alive."""
    return "ok"


@get("/readyz", opt=PUBLIC, media_type=MediaType.TEXT, tags=["health"])
async def readyz(services: FromServices) -> Response[str]:
    """Check that both buckets can be read."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            page = await services.buckets.raw.list_page(keys.QUEUE, limit=1)
            await services.buckets.video.list_page(keys.CATALOG, limit=1)
    except (StoreError, TimeoutError) as error:
        log.warning("not_ready", error=str(error))
        raise StoreUnavailable from error
    return Response(f"ok{_clock_note(page.store_now)}", media_type=MediaType.TEXT)


def _clock_note(store_now: datetime) -> str:
    """Say if this machine's clock differs from the store's. Requests are signed by the store's then."""
    ahead = (store_now - datetime.now(UTC)).total_seconds()
    if abs(ahead) <= CLOCK_TOLERANCE_SECONDS:
        return ""
    return (
        f"\nThis machine's clock is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the store's."
    )


HANDLERS = (healthz, readyz)
