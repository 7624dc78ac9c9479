"""A network between a client and the API that can be slow or broken. It does not inspect the traffic."""

import asyncio
import socket
import threading
from concurrent.futures import Future

PIECE_BYTES = 64 * 1024
START_SECONDS = 10.0


class Relay:
    """Relays connections to a port on loopback, in its own thread, while the `with` block lasts."""

    def __init__(self, to_port: int, bytes_per_second: float | None = None) -> None:
        """`bytes_per_second` limits what each client sends; None means no limit."""
        self._to_port = to_port
        self.bytes_per_second = bytes_per_second
        self.passed_bytes = 0
        """The total sent by clients."""
        self.broken = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        # Keeps little in flight, so that what the client has sent is roughly what has arrived.
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE_BYTES)
        self.port: int = self._listening.getsockname()[1]
        self._connections: set[asyncio.StreamWriter] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay", daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        self._loop = self._ready.result(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(START_SECONDS)

    def cut(self) -> None:
        """Break the existing connections."""
        self._loop.call_soon_threadsafe(self._cut)

    def break_down(self) -> None:
        """Break existing connections, and new ones as soon as they open, until `mend`."""
        self.broken = True
        self.cut()

    def mend(self) -> None:
        self.broken = False

    def _cut(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._listening, limit=PIECE_BYTES)
        self._ready.set_result(asyncio.get_running_loop())
        await self._ended.wait()
        server.close()
        self.broken = True
        self._cut()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(from_client, to_client))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            from_api, to_api = await asyncio.open_connection("127.0.0.1", self._to_port, limit=PIECE_BYTES)
        except OSError:
            to_client.transport.abort()
            return
        ends = {to_client, to_api}
        if self.broken:
            for end in ends:
                end.transport.abort()
            return
        self._connections |= ends
        ways = [
            asyncio.create_task(self._pass_up(from_client, to_api)),
            asyncio.create_task(_pass_down(from_api, to_client)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._connections -= ends
        for end in ends:
            end.close()

    async def _pass_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
            self.passed_bytes += len(piece)
            if self.bytes_per_second is not None:
                await asyncio.sleep(len(piece) / self.bytes_per_second)


async def _pass_down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
