"""How bodies are sent: from where they lie, without copying them and without holding the event loop."""

from collections.abc import AsyncIterator
from typing import cast

from botocore.awsrequest import AWSPreparedRequest

from backend.core.store import Body

SEND_CHUNK_BYTES = 256 * 1024


def as_sent(body: Body) -> bytes:
    """The SDK's types know fewer bytes-like things than the SDK takes."""
    return cast(bytes, body)


class _Pieces:
    """A large body as aiohttp sends it without copying it and without holding the event loop."""

    def __init__(self, body: Body) -> None:
        self._view = memoryview(body)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._view), SEND_CHUNK_BYTES):
            yield self._view[start : start + SEND_CHUNK_BYTES]

    def seek(self, _offset: int) -> None:
        """The SDK rewinds before it sends again; each iteration begins at the start."""


def send_in_pieces(request: AWSPreparedRequest, **_: object) -> None:
    if isinstance(request.body, bytes | bytearray | memoryview) and len(request.body) > SEND_CHUNK_BYTES:
        request.body = cast(bytes, _Pieces(request.body))
