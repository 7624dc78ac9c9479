"""Liveness and readiness."""

import asyncio

import structlog
from litestar import MediaType, Response, get

from backend.core import keys
from backend.core.errors import StoreError, StoreUnavailable
from backend.routes.services import FromServices
from backend.web.auth import PUBLIC

log = structlog.get_logger(__name__)

READY_SECONDS = 5.0
"""Whoever asks for readiness asks again soon: better a clear no than a long wait."""


@get("/healthz", opt=PUBLIC, media_type=MediaType.TEXT, sync_to_thread=False, tags=["health"])
def healthz() -> str:
    """Say that the process answers."""
    return "ok"


@get("/readyz", opt=PUBLIC, media_type=MediaType.TEXT, tags=["health"])
async def readyz(services: FromServices) -> Response[str]:
    """Say that both buckets can be read."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await services.buckets.raw.list_page(keys.QUEUE, limit=1)
            await services.buckets.video.list_page(keys.CATALOG, limit=1)
    except (StoreError, TimeoutError) as error:
        log.warning("not_ready", error=str(error))
        raise StoreUnavailable from error
    return Response("ok", media_type=MediaType.TEXT)


HANDLERS = (healthz, readyz)
