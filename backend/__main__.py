"""`python -m backend`: serve the API on HOST:PORT until a signal, with uvicorn on uvloop and httptools."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvicorn

from backend.app import create_app
from backend.asgi import open_prepared_buckets
from backend.core.errors import ConfigurationError, VodbucketError
from backend.core.logs import configure_logs
from backend.core.printable import printable
from backend.core.settings import ApiSettings, load
from backend.core.store.interface import Buckets
from backend.web.access_log import AccessLog
from backend.web.server.protocol import BoundedProtocol
from backend.web.server.serving import BoundedServer, connection_limit
from backend.web.server.web_socket import MAX_MESSAGE_BYTES, BoundedWebSocket

GRACE_SECONDS = 3
"""Open requests may run this long after a signal; then they are cancelled."""
CLEAN_UP_SECONDS = 3.0
"""Cancelled uploads get this long to remove what they have stored."""
BACKLOG = 2048

log = structlog.get_logger(__name__)


def main() -> int:
    configure_logs()
    try:
        settings = load(ApiSettings)
        with (
            _listen(*settings.listens_at) as listener,
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(_serve(settings, listener))
    except VodbucketError as error:
        print(f"vodbucket: {printable(error.message)}", file=sys.stderr)  # noqa: T201  # the log may not be read yet
        return error.exit_code
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Bind the address before anything else starts. Raises: ConfigurationError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        dual_stack = host == "::" and socket.has_dualstack_ipv6()  # "::" means every address, IPv4 too
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=dual_stack)
    except OSError as error:
        # Its own text repeats the address.
        code = error.errno or 0
        reason = os.strerror(code) if code > 0 else error.strerror or str(error)
        raise ConfigurationError(f"cannot listen on {host}:{port} (HOST, PORT): {reason}") from error


async def _serve(settings: ApiSettings, listener: socket.socket) -> None:
    async with open_prepared_buckets(settings) as buckets:

        @asynccontextmanager
        async def already_open(_: ApiSettings) -> AsyncIterator[Buckets]:
            yield buckets

        app = create_app(settings, already_open)
        server = BoundedServer(
            uvicorn.Config(
                AccessLog(app),
                http=BoundedProtocol,
                ws=BoundedWebSocket,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            ),
            connection_limit(),
            on_stop=lambda: app.state.services.end_waiting(),
        )
        host, port = listener.getsockname()[:2]
        log.info("listening", host=host, port=port)
        await server.serve(sockets=[listener])
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=CLEAN_UP_SECONDS)
    log.info("stopped")


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.Loop


if __name__ == "__main__":
    sys.exit(main())
