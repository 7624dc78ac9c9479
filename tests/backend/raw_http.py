"""The application under uvicorn, and raw HTTP/1.1 clients that can break the protocol."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import uvicorn
from litestar.types import ASGIApp

from backend.web.server.protocol import BoundedProtocol, Limits
from backend.web.server.serving import BoundedServer
from backend.web.server.web_socket import MAX_MESSAGE_BYTES, BoundedWebSocket
from tests.backend.conftest import TOKEN

SECONDS = 20.0
DEFAULT = Limits()
AUTHORIZATION = f"Authorization: Bearer {TOKEN}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Connection:
    """A plain HTTP/1.1 conversation."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send_head(self, request_line: str, *headers: str) -> None:
        lines = [f"{request_line} HTTP/1.1", "Host: vod.example", *headers, "", ""]
        await self.send("\r\n".join(lines).encode("latin-1"))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), SECONDS)

    async def whole_answer(self, *, has_body: bool = True) -> Answer:
        """Return a response that has a Content-Length, or no body (HEAD)."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), SECONDS)
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0)) if has_body else 0
        body = await asyncio.wait_for(self.reader.readexactly(length), SECONDS)
        return Answer(int(first.split()[1]), headers, body)

    async def answer(self) -> tuple[int, bytes]:
        """Return status and body."""
        answer = await self.whole_answer()
        return answer.status, answer.body

    def disconnect(self) -> None:
        cast(asyncio.Transport, self.writer.transport).abort()


@dataclass
class Server:
    port: int
    stop: Callable[[], None]
    """As on a signal."""
    connections: list[Connection] = field(default_factory=list)

    async def connect(self) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        self.connections.append(connection)
        return connection


@asynccontextmanager
async def serving(
    app: ASGIApp,
    limits: Limits = DEFAULT,
    max_connections: int = 1000,
    on_stop: Callable[[], None] = lambda: None,
) -> AsyncIterator[Server]:
    """Serve the application on a free port. The caller runs its lifespan."""
    protocol = type("Protocol", (BoundedProtocol,), {"limits": limits})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            http=protocol,
            ws=BoundedWebSocket,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
        )
        running = BoundedServer(config, max_connections, on_stop)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        task = asyncio.create_task(running.serve([listener]))

        def stop() -> None:
            running.should_exit = True

        server = Server(listener.getsockname()[1], stop)
        try:
            yield server
        finally:
            for connection in server.connections:
                connection.disconnect()
            stop()
            await asyncio.wait_for(task, SECONDS)
            for number, handler in handlers.items():  # the server leaves them ignored, for its process to end
                signal.signal(number, handler)
