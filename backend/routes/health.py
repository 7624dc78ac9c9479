"""Liveness and readiness."""

from litestar import MediaType, Response, get

from backend.auth import PUBLIC
from backend.core import keys
from backend.services import FromServices


@get("/healthz", opt=PUBLIC, media_type=MediaType.TEXT, sync_to_thread=False, tags=["health"])
def healthz() -> str:
    """Say that the process answers."""
    return "ok"


@get("/readyz", opt=PUBLIC, media_type=MediaType.TEXT, tags=["health"])
async def readyz(services: FromServices) -> Response[str]:
    """Say that both buckets can be read."""
    await services.buckets.raw.list_page(keys.QUEUE, limit=1)
    await services.buckets.video.list_page(keys.CATALOG, limit=1)
    return Response("ok", media_type=MediaType.TEXT)


HANDLERS = (healthz, readyz)
