"""Generates load from one core: each of a number of connections sends its next request at once."""

import asyncio
import itertools
import time
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


def answers_per_second(
    url: str, paths: Sequence[str], *, seconds: float, connections: int, status: int
) -> float:
    """GET the paths in turn and return how many answers arrived per second.

    Raises: AssertionError: an answer had another status.
    """
    parts = urlsplit(url)
    requests = itertools.cycle(
        [f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode() for path in paths]
    )
    tally = _Tally()

    async def run() -> float:
        loop = asyncio.get_running_loop()
        transports = [
            (
                await loop.create_connection(
                    lambda: _Connection(requests, str(status).encode(), tally), parts.hostname, parts.port
                )
            )[0]
            for _ in range(connections)
        ]
        before, began = tally.answers, time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (tally.answers - before) / (time.perf_counter() - began)
        for transport in transports:
            transport.abort()
        return rate

    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        rate = runner.run(run())
    assert not tally.wrong, f"{tally.wrong} of {tally.answers} answers were not {status}"
    return rate
