"""A network for guards: names that resolve to loopback, a host that counts as public, and a canary."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import chain, repeat
from urllib.parse import quote, unquote

from backend.core.addresses import IpAddress, is_public
from tests.worker.fetch.listening import listening
from worker.fetch.guard import AddressInfo, Guard, look_up
from worker.fetch.upstream import Upstream

PUBLIC, PRIVATE = "127.0.0.3", "127.0.0.1"
"""Linux has all of 127.0.0.0/8. The guards of these tests count the first as public."""


def guarded(upstream: Upstream | None = None) -> Guard:
    answers: dict[str, Iterator[list[str]]] = {
        "public.example": repeat([PUBLIC]),
        "private.example": repeat([PRIVATE]),
        "mixed.example": repeat([PUBLIC, PRIVATE]),
        "rebinding.example": chain([[PUBLIC]], repeat([PRIVATE])),
    }

    async def lookup(host: str, port: int) -> list[AddressInfo]:
        if host not in answers:
            return await look_up(host, port)
        found = next(answers[host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in found]

    def counts_as_public(address: IpAddress) -> bool:
        return address == ip_address(PUBLIC) or is_public(address)

    return Guard(allow_private=False, lookup=lookup, is_public=counts_as_public, upstream=upstream)


@dataclass
class Outside:
    """`port` is the canary's on loopback, and of a public host whose `/?to=<address>` redirects."""

    port: int = 0
    at_canary: list[bytes] = field(default_factory=list)
    at_public: list[bytes] = field(default_factory=list)

    def redirecting(self, address: str) -> str:
        return f"http://public.example:{self.port}/?to={quote(address, safe='')}"


@asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    net = Outside()

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        net.at_public.append(head)
        path, _, target = head.split()[1].decode().partition("?to=")
        status = "404 Not Found" if path.strip("/") else "200 OK\r\nContent-Type: video/mp4"
        status = f"302 Found\r\nLocation: {unquote(target)}" if target else status
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())

    async def sing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        net.at_canary.append(b"connected")

    async with AsyncExitStack() as stack:
        public, *private = _sockets_on_one_port(PUBLIC, PRIVATE, "127.0.0.2", "::1")
        net.port = public.getsockname()[1]
        await stack.enter_async_context(listening(redirect, sock=public))
        for one in private:
            await stack.enter_async_context(listening(sing, sock=one))
        yield net


def _sockets_on_one_port(*hosts: str) -> list[socket.socket]:
    """Listen on a port that is free at all of these addresses."""
    while True:
        with ExitStack() as stack:
            port, opened = 0, []
            try:
                for host in hosts:
                    family = socket.AF_INET6 if ":" in host else socket.AF_INET
                    opened.append(stack.enter_context(socket.create_server((host, port), family=family)))
                    port = opened[0].getsockname()[1]
            except OSError:
                continue
            stack.pop_all()
            return opened
