"""Generates load from one core: each of a number of connections sends its next request at once."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop


@dataclass(slots=True)
class _Tally:
    answers: int = 0
    wrong: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], status: bytes, tally: _Tally) -> None:
        self._requests = requests
        self._status = status
        self._tally = tally
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no common class
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head_bytes = received.find(b"\r\n\r\n") + 4
        if head_bytes < 4 or len(received) < head_bytes + _body_bytes(received, head_bytes):
            self._received = received
            return
        self._received = b""
        self._tally.answers += 1
        self._tally.wrong += not received.startswith(self._status, 9)
        assert self._transport is not None
        self._transport.write(next(self._requests))


def _body_bytes(received: bytes, head_bytes: int) -> int:
    start = received.find(b"content-length: ", 0, head_bytes)
    return int(received[start + 16 : received.find(b"\r", start)]) if start >= 0 else 0


def count_answers(url: str, paths: Sequence[str], *, seconds: float, connections: int, status: int) -> int:
    """GET the paths in turn for so long and return how many answers arrived.

    Raises: AssertionError: an answer had another status.
    """
    parts = urlsplit(url)
    requests = itertools.cycle(
        [f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode() for path in paths]
    )
    tally = _Tally()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(
                lambda: _Connection(requests, str(status).encode(), tally), parts.hostname, parts.port
            )
            for _ in range(connections)
        ]
        await asyncio.sleep(seconds)
        for transport, _ in opened:
            transport.abort()

    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        runner.run(run())
    assert not tally.wrong, f"{tally.wrong} of {tally.answers} answers were not {status}"
    return tally.answers
