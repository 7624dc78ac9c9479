"""An S3 server that misbehaves on purpose: a function supplied by the test answers each request."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate

from tests.lab.server import StoreServer

ARRIVAL_SECONDS = 0.05
"""Lets the client read the head before the body follows."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """`cut_to` truncates the body to that many bytes; the headers still announce the full length.

    With `broken_chunks` the body follows shortly after the head, in chunks with a non-numeric length.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_to: int | None = None
    broken_chunks: bool = False


HANG_UP = Answer(status=0)
"""Close the connection without an answer."""


def error(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())


Behaviour = Callable[[Request], Answer]


@dataclass(slots=True)
class FaultyServer:
    server: StoreServer
    behaviour: Behaviour = field(default=lambda request: error(404, "NoSuchKey"))
    requests: list[Request] = field(default_factory=list)

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read(reader)
            self.requests.append(request)
            answer = self.behaviour(request)
            if answer.status:
                writer.write(_rendered(request, answer))
                await writer.drain()
            if answer.broken_chunks:
                await asyncio.sleep(ARRIVAL_SECONDS)
                writer.write(b"3%8\r\n" + answer.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # clients may disconnect
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    method, target, _ = head[0].split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body)


def _rendered(request: Request, answer: Answer) -> bytes:
    framing = {"Content-Length": str(len(answer.body))}
    if answer.broken_chunks:
        framing = {"Transfer-Encoding": "chunked"}
    now = formatdate(usegmt=True)
    headers = {"Date": now, "Last-Modified": now, "Connection": "close", **framing, **answer.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    at_once = b"" if request.method == "HEAD" or answer.broken_chunks else answer.body[: answer.cut_to]
    return f"HTTP/1.1 {answer.status} Whatever\r\n{lines}\r\n".encode() + at_once


@asynccontextmanager
async def faulty() -> AsyncIterator[FaultyServer]:
    faulty_server: FaultyServer

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await faulty_server.answer(reader, writer)

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    faulty_server = FaultyServer(StoreServer("faulty", f"http://127.0.0.1:{port}", "test", "test"))
    async with listening:
        yield faulty_server
