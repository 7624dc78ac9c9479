"""A private HTTP server on 127.0.0.1 for the processes of one attempt, under an unguessable path."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

HOST = "127.0.0.1"
SHUTDOWN_SECONDS = 1.0

Handler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]
"""Takes the request and its path below the secret."""


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    """Serve for the duration of the block; yields the base URL, which ends with a slash."""
    secret = secrets.token_urlsafe(24)

    async def guarded(request: web.BaseRequest) -> web.StreamResponse:
        _, given, *below = request.path.split("/", 2)
        if not secrets.compare_digest(given.encode(), secret.encode()) or not below:
            return web.Response(status=404)
        return await handler(request, below[0])

    runner = web.ServerRunner(web.Server(guarded), shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        port: int = runner.addresses[0][1]
        yield f"http://{HOST}:{port}/{secret}/"
    finally:
        await runner.cleanup()
