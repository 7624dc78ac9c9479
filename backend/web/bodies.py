"""Request bodies as streams, for raw uploads and forms.

Litestar's own `request.stream()` reports a client that disconnects as a server error, and waits forever.
"""

import asyncio
from collections.abc import AsyncIterator

from litestar import Request
from litestar.datastructures import State

from backend.core.errors import BadRequest, IncompleteUpload

AnyRequest = Request[object, object, State]

IDLE_SECONDS = 60.0
"""A client that sends nothing for this long is considered gone, even if its connection is open."""


async def stream_body(request: AnyRequest, idle_seconds: float = IDLE_SECONDS) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises: IncompleteUpload: the client disconnected or stalled."""
    more = True
    while more:
        try:
            async with asyncio.timeout(idle_seconds):
                message = await request.receive()
        except TimeoutError:
            raise IncompleteUpload(f"No data arrived for {idle_seconds:g} seconds.") from None
        if message["type"] != "http.request":
            raise IncompleteUpload
        if body := message.get("body"):
            yield body
        more = message.get("more_body", False)


def content_length(request: AnyRequest) -> int | None:
    """Return Content-Length, or None for a chunked body. Raises: BadRequest: not a number."""
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdecimal()):
        raise BadRequest("Content-Length is not a number.")
    return int(declared)
