"""The proxy through which this network lets programs out (FETCH_PROXY): one connection by CONNECT.

RFC 9110, section 9.3.6. It is told an address or a name, and what it answers besides yes and no is ignored.
"""

import asyncio
import base64
import re
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PIECE_BYTES = 64 * 1024
_PORT = 80
_CONNECTED = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}\b")


class Upstream:
    """`address` is `http://[user:password@]host[:port]`."""

    def __init__(self, address: SecretStr) -> None:
        parts = urlsplit(address.get_secret_value())
        self._host, self._port = parts.hostname or "", parts.port or _PORT
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        credential = base64.b64encode(user.encode()).decode()
        self._authorization = f"Proxy-Authorization: Basic {credential}\r\n" if parts.username else ""

    async def connect(self, host: str, port: int) -> Streams:
        """Raises: OSError: the proxy cannot be reached, or does not connect."""
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=PIECE_BYTES)
        try:
            head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{self._authorization}\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if not _CONNECTED.match(answer):
                raise ConnectionRefusedError(f"The proxy answered {answer[:15]!r}.")
        except BaseException as error:
            writer.close()
            if isinstance(error, asyncio.IncompleteReadError | asyncio.LimitOverrunError):
                raise ConnectionRefusedError("The proxy does not answer as one.") from None
            raise
        return reader, writer
