"""Request bodies as bounded streams: what a raw upload and a form have in common.

Litestar's own `request.stream()` reports a client that went away as a server error, and waits for ever.
"""

import asyncio
from collections.abc import AsyncIterator

from litestar import Request
from litestar.datastructures import State

from backend.core.errors import BadRequest, IncompleteUpload

IDLE_SECONDS = 60.0
"""A client that sends nothing for so long is gone, whatever its connection says."""


async def received(
    request: Request[object, object, State], idle_seconds: float = IDLE_SECONDS
) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises: IncompleteUpload: the client went away or fell silent."""
    more = True
    while more:
        try:
            async with asyncio.timeout(idle_seconds):
                message = await request.receive()
        except TimeoutError:
            raise IncompleteUpload(f"No data came for {idle_seconds:g} seconds.") from None
        if message["type"] != "http.request":
            raise IncompleteUpload
        if body := message["body"]:
            yield body
        more = message["more_body"]


def declared_bytes(request: Request[object, object, State]) -> int | None:
    """Return Content-Length, None for a chunked body. Raises: BadRequest: it is no number."""
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdecimal()):
        raise BadRequest("The Content-Length is not a number.")
    return int(declared)
