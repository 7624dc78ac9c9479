"""The application for any ASGI server: `uvicorn --factory backend.asgi:application`.

`--http backend.web.server.protocol:BoundedProtocol --ws backend.web.server.web_socket:BoundedWebSocket`
gives it the bounds of `python -m backend`, but for the number of connections. Composition root: reads the
environment, and opens the store at start.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar.types import ASGIApp

from backend.app import create_app
from backend.core.logs import configure_logs
from backend.core.settings import ApiSettings, load
from backend.core.store.interface import Buckets
from backend.core.store.probes import require_creates
from backend.core.store.s3 import configure_cors, ensure_buckets, open_buckets
from backend.web.access_log import AccessLog


def application() -> ASGIApp:
    """Raises: ConfigurationError: a setting is missing or wrong."""
    configure_logs()
    return AccessLog(create_app(load(ApiSettings), open_prepared_buckets))


@asynccontextmanager
async def open_prepared_buckets(settings: ApiSettings) -> AsyncIterator[Buckets]:
    """Open the buckets. Create them if they are missing, and allow players on any page (CORS).

    The signature in a URL is what protects a video. A list of origins would only lock out the site itself,
    whose origin the API cannot know.

    Raises:
        StoreError: the store cannot be reached or refuses the credentials.
        ConfigurationError: the store has no create-only writes, on which every upload would fail at its end.
    """
    async with open_buckets(settings) as buckets:
        await ensure_buckets(buckets)
        await require_creates(buckets)
        await configure_cors(buckets)
        yield buckets
