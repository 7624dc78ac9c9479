"""The server: accepts connections up to the process's descriptor limit, and stops on a signal."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import structlog
import uvicorn

from backend.web.server.protocol import BoundedProtocol
from backend.web.server.refusals import TooManyConnections, response_to

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 5000
RESERVED_DESCRIPTORS = 150
"""For connections to the store, of which there are at most two pools, and for files."""
ACCEPT_PAUSE_SECONDS = 0.1
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class BoundedServer(uvicorn.Server):
    """Never holds more than `max_connections`: for a new one, it drops the one that has idled longest.

    It accepts connections itself, one at a time: the event loop would accept all that wait before the first
    could be counted. It shuts down on a signal: uvicorn's own server raises the signal again while we are
    still closing.
    """

    def __init__(
        self, config: uvicorn.Config, max_connections: int, on_stop: Callable[[], None] = lambda: None
    ) -> None:
        """`on_stop` is called before open requests get their time to end."""
        super().__init__(config)
        self._max_connections = max_connections
        self._on_stop = on_stop
        self._accepting: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        for listener in sockets or []:
            listener.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(listener)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self._on_stop()
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left, or the client has gone
                log.warning("not_accepted", error=str(error))
                self._drop_idle()
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self.server_state.connections) >= self._max_connections and not self._drop_idle():
                with suppress(OSError), accepted:  # all are at work
                    accepted.send(response_to(TooManyConnections()))
                await asyncio.sleep(0)
                continue
            with suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, accepted)

    def _protocol(self) -> asyncio.Protocol:
        protocol = cast("type[BoundedProtocol]", self.config.http_protocol_class)
        return protocol(self.config, self.server_state, self.lifespan.state)

    def _drop_idle(self) -> bool:
        """Drop the connection that has idled longest. Return whether there was one."""
        connections = cast("set[BoundedProtocol]", self.server_state.connections)
        ranked = [(rank, one) for one in connections if (rank := one.idle_since()) is not None]
        if not ranked:
            return False
        _, idle = min(ranked, key=lambda item: item[0])
        self.server_state.connections.discard(idle)
        idle.drop()
        return True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number in previous:
                signal.signal(number, signal.SIG_IGN)


def connection_limit() -> int:
    """Raise the limit of open descriptors as far as allowed, and return how many connections fit in it."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft - RESERVED_DESCRIPTORS, soft // 4))
