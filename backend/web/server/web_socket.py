"""WebSockets with bounds: uvicorn waits for a vanished client for as long as the system does."""

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_MESSAGE_BYTES = 1024
"""Nothing that clients send means anything."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One connection. A client that answers no ping, or does not take part in the closing, is dropped."""

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.drop()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.drop)

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def idle_since(self) -> None:
        """It never makes room for another connection; `FollowerPlaces` bounds how many there are."""
