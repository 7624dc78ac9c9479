"""Opens connections to the public internet only: the one way out of every fetcher.

A host is refused if any of its addresses is not public, and the connection goes to one of the addresses that
were checked: an answer that the name server changes between check and connection is never used.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from aiohappyeyeballs import start_connection
from aiohttp.abc import AbstractResolver, ResolveResult

from backend.core.addresses import IpAddress, is_public
from backend.core.errors import AddressRefused
from worker.fetch.upstream import PIECE_BYTES, Streams, Upstream

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` returns them."""
Lookup = Callable[[str, int], Awaitable[list[AddressInfo]]]
"""Raises: OSError."""
SECOND_ADDRESS_AFTER_SECONDS = 0.25
"""RFC 8305, section 8."""


async def look_up(host: str, port: int) -> list[AddressInfo]:
    """Ask the system's resolver."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]  # typed more loosely


class Guard(AbstractResolver):
    """Resolves, checks and connects. It is also aiohttp's resolver and, with `socket`, its socket factory."""

    def __init__(
        self,
        *,
        allow_private: bool,
        lookup: Lookup = look_up,
        is_public: Callable[[IpAddress], bool] = is_public,
        upstream: Upstream | None = None,
    ) -> None:
        """With `upstream`, all connections go through it, and must be made by `connect`."""
        self.allow_private, self.upstream = allow_private, upstream
        self._lookup, self._is_public = lookup, is_public

    async def connect(self, host: str, port: int) -> Streams:
        """Raises: AddressRefused; OSError: there is no such host, or no connection to it."""
        if self.upstream is not None and self.allow_private:
            return await self.upstream.connect(host, port)  # its network may have no other name server
        found = await self._addresses(host, port)
        if self.upstream is not None:
            return await self._through(self.upstream, found, port)
        connection = await start_connection(
            found, happy_eyeballs_delay=SECOND_ADDRESS_AFTER_SECONDS, socket_factory=self.socket
        )
        return await asyncio.open_connection(sock=connection, limit=PIECE_BYTES)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises: AddressRefused; OSError: there is no such host."""
        return [
            {
                "hostname": host,
                "host": where[0],
                "port": where[1],
                "family": kind,
                "proto": protocol,
                "flags": 0,
            }
            for kind, _, protocol, _, where in await self._addresses(host, port)
        ]

    def socket(self, info: AddressInfo) -> socket.socket:
        """Return a socket for a connection to this address. Raises: AddressRefused."""
        self._check(info)
        return socket.socket(*info[:3])

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _through(self, upstream: Upstream, found: list[AddressInfo], port: int) -> Streams:
        """Connect to the first of these addresses that the proxy can reach."""
        *others, last = dict.fromkeys(info[4][0] for info in found)
        for address in others:
            with suppress(OSError):
                return await upstream.connect(address, port)
        return await upstream.connect(last, port)

    async def _addresses(self, host: str, port: int) -> list[AddressInfo]:
        found = await self._lookup(host, port)
        for info in found:
            self._check(info)
        return found

    def _check(self, info: AddressInfo) -> None:
        if not self.allow_private and not self._is_public(ip_address(info[4][0].partition("%")[0])):
            raise AddressRefused
