"""A forward proxy on loopback, through which other programs fetch: each connection is opened by `Guard`.

It takes CONNECT (RFC 9110, section 9.3.6) and http requests in absolute form (RFC 9112, section 3.2.2), one a
connection. What a program asks for is refused unless its spelling, port and addresses are allowed.
"""

import asyncio
import base64
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from urllib.parse import SplitResult, urlsplit

import structlog

from backend.core.addresses import parse_address
from backend.core.concurrency import gather_pair
from backend.core.errors import AttemptFailed, BadRequest, SourceRejected
from worker.fetch.guard import Guard
from worker.fetch.upstream import PIECE_BYTES
from worker.sandbox.loopback import HOST

log = structlog.get_logger(__name__)

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
CONNECT_SECONDS = 30.0
_PORTS = {"http": 80, "https": 443}
_REQUEST = re.compile(r"([A-Z]+) (\S+) HTTP/1\.[01]")
_OF_ONE_CONNECTION = {
    *("host", "connection", "keep-alive", "te", "trailer", "upgrade"),
    *("proxy-authorization", "proxy-connection"),
}


class _Refusal(Exception):
    """What the program asked for is answered with this status and reason."""

    def __init__(self, status: int, reason: str, *fields: str) -> None:
        super().__init__(reason)
        lines = (f"HTTP/1.1 {status} {reason}", *fields, "Content-Length: 0", "Connection: close", "", "")
        self.answer = "\r\n".join(lines).encode()


class GuardedProxy:
    """Listens while `listening`. `refused` is the first address that it refused."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.refused: BadRequest | None = None
        self.user, self.password = "worker", secrets.token_urlsafe(24)
        """Not for command lines, which every user of the machine can read."""
        self.port = 0
        credential = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        self._authorization = f"basic {credential}"

    @property
    def address(self) -> str:
        """With the password."""
        return f"http://{self.user}:{self.password}@{HOST}:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["GuardedProxy"]:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, HOST, 0, limit=HEAD_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Raise why the program failed, if it asked for a refused address: SourceRejected."""
        try:
            yield
        except (AttemptFailed, SourceRejected):
            if self.refused is None:
                raise
            raise SourceRejected(self.refused.message, code=self.refused.code) from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request. Nobody is there to hear of a connection that broke."""
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
            try:
                async with asyncio.timeout(HEAD_SECONDS):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                await self._forward(head.split("\r\n")[:-2], reader, writer)
            except asyncio.LimitOverrunError:
                writer.write(_Refusal(431, "Too Large").answer)
            except _Refusal as refusal:
                writer.write(refusal.answer)
            await writer.drain()

    async def _forward(
        self, head: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request, *lines = head
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        given = dict(fields).get("proxy-authorization", "").replace("Basic", "basic", 1)
        if not secrets.compare_digest(given.encode(), self._authorization.encode()):
            raise _Refusal(407, "Credential Required", 'Proxy-Authenticate: Basic realm="worker"')
        parsed = _REQUEST.fullmatch(request)
        if parsed is None:
            raise _Refusal(400, "Bad Request")
        method, target = parsed.groups()
        if method == "CONNECT":
            _, upstream_reader, upstream = await self._open(f"https://{target}")
            with closing(upstream):
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                await gather_pair(_copy(reader, upstream), _copy(upstream_reader, writer))
            return
        if not target.lower().startswith("http://") or any(name == "transfer-encoding" for name, _ in fields):
            raise _Refusal(501, "Not Implemented")
        length = dict(fields).get("content-length", "0")
        if not length.isdecimal():
            raise _Refusal(400, "Bad Request")
        address, upstream_reader, upstream = await self._open(target)
        with closing(upstream):
            upstream.write(_in_origin_form(method, address, fields))
            # only this request's body: the next request on this connection may be for another host
            await gather_pair(_copy(reader, upstream, int(length)), _copy(upstream_reader, writer))

    async def _open(self, text: str) -> tuple[SplitResult, asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the address as parsed, and a connection to it."""
        try:
            address = urlsplit(parse_address(text, allow_private=self._guard.allow_private))
            port = address.port or _PORTS[address.scheme]
            async with asyncio.timeout(CONNECT_SECONDS):
                return address, *await self._guard.connect(address.hostname or "", port)
        except BadRequest as error:
            shown = re.sub(r"(?<=//)[^/]*@|\?.*", "", text)  # without credentials
            log.warning("address_refused", address=shown, reason=error.message)
            self.refused = self.refused or error
            raise _Refusal(403, "Address Refused") from None
        except TimeoutError:
            raise _Refusal(504, "Gateway Timeout") from None
        except OSError:
            raise _Refusal(502, "Bad Gateway") from None


def _in_origin_form(method: str, address: SplitResult, fields: list[tuple[str, str]]) -> bytes:
    target = address.path + (f"?{address.query}" if address.query else "")
    kept = [f"{name}: {value}" for name, value in fields if name not in _OF_ONE_CONNECTION]
    lines = (f"{method} {target} HTTP/1.1", f"host: {address.netloc}", "connection: close", *kept, "", "")
    return "\r\n".join(lines).encode("latin-1")


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, limit_bytes: int | None = None
) -> None:
    """Copy to the end, which is passed on, or `limit_bytes`."""
    left = limit_bytes
    while left != 0 and (piece := await source.read(min(PIECE_BYTES, left or PIECE_BYTES))):
        if target.is_closing():
            return  # uvloop would raise RuntimeError
        target.write(piece)
        await target.drain()
        left = None if left is None else left - len(piece)
    if limit_bytes is None and not target.is_closing():
        target.write_eof()
