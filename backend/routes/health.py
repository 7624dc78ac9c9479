"""Liveness and readiness checks."""

from litestar import MediaType, Response, get

from backend.core.errors import StoreUnavailable
from backend.routes.services import FromServices
from backend.web.auth import PUBLIC


@get("/healthz", opt=PUBLIC, media_type=MediaType.TEXT, sync_to_thread=False, tags=["health"])
def healthz() -> str:
    """Check that the process is alive."""
    return "ok"


@get("/readyz", opt=PUBLIC, media_type=MediaType.TEXT, tags=["health"])
async def readyz(services: FromServices) -> Response[str]:
    """Check that both buckets can be read."""
    if not await services.readiness.check():
        raise StoreUnavailable
    return Response("ok", media_type=MediaType.TEXT)


HANDLERS = (healthz, readyz)
