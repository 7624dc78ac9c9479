"""Liveness and readiness checks."""

from litestar import MediaType, Response, get

from backend.core.errors import StoreUnavailable
from backend.core.store.interface import CLOCK_TOLERANCE_SECONDS
from backend.routes.services import FromServices
from backend.web.auth import PUBLIC


@get(["/healthz", "/health"], opt=PUBLIC, media_type=MediaType.TEXT, sync_to_thread=False, tags=["health"])
def healthz() -> str:
    """Check that the process is alive."""
    return "ok"


@get("/readyz", opt=PUBLIC, media_type=MediaType.TEXT, tags=["health"])
async def readyz(services: FromServices) -> Response[str]:
    """Check that both buckets can be read."""
    ahead = await services.readiness.check()
    if ahead is None:
        raise StoreUnavailable
    return Response(f"ok{_clock_note(ahead)}", media_type=MediaType.TEXT)


def _clock_note(ahead: float) -> str:
    """Say if the store's clock is this many seconds ahead. Requests are signed by the store's then."""
    if abs(ahead) <= CLOCK_TOLERANCE_SECONDS:
        return ""
    return (
        f"\nThis machine's clock is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the store's."
    )


HANDLERS = (healthz, readyz)
