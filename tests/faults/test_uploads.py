"""Clients that go away, lie or fall silent: only what was acknowledged is kept, and that is."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from litestar import Request
from litestar.datastructures import State
from litestar.types import HTTPReceiveMessage, HTTPScope, Receive

from backend.core.errors import IncompleteUpload
from backend.core.uploads.ingest import Description, ingest
from backend.web.bodies import stream_body
from tests.faults.lab import MIB, WireLab, film
from tests.faults.registry import row
from tests.lab.checker import assert_at_rest, has_open_upload
from tests.lab.product import ADMIN_TOKEN, Product

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

SECONDS = 20


@contextmanager
def _uploading(product: Product, *headers: str) -> Iterator[socket.socket]:
    """Open a connection and send the head of an upload."""
    with socket.create_connection(("127.0.0.1", product.port), timeout=SECONDS) as connection:
        lines = [
            "POST /api/videos?filename=film.mp4 HTTP/1.1",
            "Host: vod.example",
            f"Authorization: Bearer {ADMIN_TOKEN}",
            *headers,
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection


def _until_nothing_is_left(product: Product) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return assert_at_rest(product.environment, done=set())
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@row(
    "client-drops",
    fault="connection reset after 0, 1, 9, 20 and 39 of 40 MiB",
    expected="not acknowledged; clean",
)
def test_dropped_upload_leaves_nothing(product: Product) -> int:
    product.start_api()
    cuts = (0, 1, 9, 20, 39)
    for mebibytes in cuts:
        with _uploading(product, f"Content-Length: {40 * MIB}") as client:
            client.sendall(film(MIB) * mebibytes)
            if mebibytes > 8:
                deadline = time.monotonic() + SECONDS
                while not has_open_upload(product.environment):
                    assert time.monotonic() < deadline
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    _until_nothing_is_left(product)
    return len(cuts)


@row(
    "client-short",
    fault="body ends a byte before its Content-Length",
    expected="not acknowledged; clean",
)
def test_short_body_is_not_acknowledged(product: Product) -> int:
    product.start_api()
    for size in (100, 9 * MIB):
        with _uploading(product, f"Content-Length: {size}") as client:
            client.sendall(bytes(size - 1))
            client.shutdown(socket.SHUT_WR)
            assert b" 201 " not in client.recv(4096)
    _until_nothing_is_left(product)
    return 2


@row(
    "client-endless",
    fault="chunked body continues past MAX_UPLOAD_BYTES",
    expected="413 at the limit; clean",
)
def test_rejects_endless_body(product: Product) -> int:
    product.start_api(MAX_UPLOAD_BYTES=str(16 * MIB))
    with _uploading(product, "Transfer-Encoding: chunked") as client:
        for _ in range(17):
            client.sendall(f"{MIB:x}\r\n".encode() + bytes(MIB) + b"\r\n")
        assert b" 413 " in client.recv(4096)
    _until_nothing_is_left(product)
    return 1


@row(
    "client-slow",
    fault="body trickles in, 40 times a kilobyte",
    expected="acknowledged, intact",
)
async def test_accepts_slow_body(lab: WireLab) -> int:
    body = film(40_000)

    async def trickle() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            await asyncio.sleep(0.05)
            yield body[start : start + 1000]

    async with lab.api() as client:
        answer = await client.post("/api/videos", content=trickle())
    video = answer.json()["id"]
    await lab.assert_source_is(video, body)
    await lab.drain()
    await lab.assert_done((video, body), attempt=1)
    return 40


@row(
    "client-idle",
    fault="9 MiB, then silence on an open connection",
    expected="timed out; clean",
)
async def test_gives_up_on_silent_client(lab: WireLab) -> int:
    sent = iter([film(9 * MIB)])

    async def receive() -> HTTPReceiveMessage:
        for body in sent:
            return {"type": "http.request", "body": body, "more_body": True}
        return await asyncio.Future()

    scope = cast(HTTPScope, {"type": "http", "headers": []})
    request: Request[object, object, State] = Request(scope, receive=cast(Receive, receive))
    async with lab.buckets() as buckets:
        body = stream_body(request, idle_seconds=1)
        with pytest.raises(IncompleteUpload, match="No data"):
            await ingest(buckets, body, Description, declared_bytes=40 * MIB, max_bytes=40 * MIB)
    await lab.assert_nothing_is_left()
    return 1
