"""The API in this process, called without a socket."""

import httpx
from litestar import Litestar


def client_of(
    app: Litestar, base_url: str, headers: dict[str, str] | None = None, *, address: str = "127.0.0.1"
) -> httpx.AsyncClient:
    """Return a client of the application. Unhandled exceptions become 500 responses, as on a server."""
    transport = httpx.ASGITransport(
        app,
        raise_app_exceptions=False,
        client=(address, 123),
    )
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers)
