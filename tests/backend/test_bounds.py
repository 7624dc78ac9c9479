"""What a client may send before anything else is known of it: sizes, durations and numbers are bounded."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from litestar.types import Receive, Scope, Send

from backend.web.server.protocol import Limits
from tests.backend.raw_http import SECONDS, Connection, Server, serving

KIB = 1024
SHORT = Limits(
    head_seconds=0.2,
    keep_alive_seconds=0.2,
    small_body_seconds=0.2,
    body_seconds=0.2,
    linger_seconds=0.2,
    flush_seconds=0.2,
    refusal_seconds=0.2,
    silent_seconds=0.0,
)
LARGE_ANSWER = 32 * 1024 * KIB


@dataclass
class Application:
    """Reads the body and answers with its size; other paths answer early, or with very many bytes."""

    requests: list[Scope] = field(default_factory=list)
    received_bytes: int = 0
    ends: list[str] = field(default_factory=list)
    """How each body ended, by the type of the last message."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.requests.append(scope)
        received, more = 0, scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ends.append("disconnect")
                return
            received, more = received + len(message["body"]), message["more_body"]
            self.received_bytes += len(message["body"])
        if scope["path"] == "/watch":
            self.ends.append((await receive())["type"])
            return
        self.ends.append("complete")
        body = bytes(LARGE_ANSWER) if scope["path"] == "/large" else str(received).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body, "more_body": False})


@asynccontextmanager
async def _serving(limits: Limits, max_connections: int = 1000) -> AsyncIterator[tuple[Server, Application]]:
    application = Application()
    async with serving(application, limits, max_connections) as server:
        yield server, application


async def _rest(client: Connection) -> bytes:
    """Return all that the server still sends until it closes."""
    return await asyncio.wait_for(client.reader.read(), SECONDS)


async def _refusal(client: Connection) -> tuple[int, str]:
    """Return status and code of an error response, and expect the connection to end after it."""
    answer = await client.whole_answer()
    assert answer.headers["connection"] == "close"
    assert await _rest(client) == b""
    body = json.loads(answer.body)
    assert body.keys() == {"error", "code"}
    return answer.status, body["code"]


TOO_LARGE = (431, "headers_too_large")


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
INVALID = (400, "bad_request")
REFUSED = {
    b"GET / HTTP/1.1\r\nX: " + b"x" * 140 * KIB: TOO_LARGE,
    b"GET / HTTP/1.1\r\n" + b"x" * 140 * KIB: TOO_LARGE,
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 130: TOO_LARGE,
    b"GET / HTTP/1.1\r\n" + (b"X: " + b"y" * KIB + b"\r\n") * 65: TOO_LARGE,
    b"\r\n" * 70 * KIB: TOO_LARGE,
    b"GET /" + b"x" * 140 * KIB: (414, "address_too_long"),
    b"GET /?" + b"x" * 17 * KIB + b" HTTP/1.1\r\n": (414, "address_too_long"),
    CHUNKED + b"0\r\nT: " + b"x" * 140 * KIB: TOO_LARGE,
    CHUNKED + b"0\r\n" + b"T: x\r\n" * 130: TOO_LARGE,
    CHUNKED + b"1;" + b"x" * 140 * KIB: TOO_LARGE,
    CHUNKED + b"0" * 140 * KIB: TOO_LARGE,
    CHUNKED + b"x\r\n": INVALID,
    b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n": INVALID,
    b"GET / HTTP/1.1\r\nA : b\r\n\r\n": INVALID,
    b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n": INVALID,
    b"NONSENSE / HTTP/1.1\r\n\r\n": INVALID,
    b"GET /\xff HTTP/1.1\r\n\r\n": INVALID,
    b"GET http://a HTTP/1.1\r\n\r\n": INVALID,
    b"CONNECT a:443 HTTP/1.1\r\n\r\n": INVALID,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": INVALID,
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": INVALID,
    b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n": INVALID,
    b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n": INVALID,
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": INVALID,
    b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx": INVALID,
}


async def test_refuses_what_is_over_a_limit_or_is_not_http() -> None:
    async with _serving(Limits()) as (server, application):

        async def send(request: bytes) -> tuple[int, str]:
            client = await server.connect()
            await client.send(request)
            return await _refusal(client)

        refusals = await asyncio.gather(*map(send, REFUSED))
        assert dict(zip(REFUSED, refusals, strict=True)) == REFUSED
        assert "complete" not in application.ends


async def test_a_flood_of_headers_is_discarded_after_its_answer() -> None:
    async with _serving(Limits(refusal_seconds=SECONDS)) as (server, application):
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(64):
            await client.send(b"X: " + b"x" * 1024 * KIB)
        client.writer.write_eof()
        assert await _refusal(client) == TOO_LARGE
        assert application.requests == []


async def test_headers_and_trailers_within_their_limits_are_taken() -> None:
    async with _serving(Limits()) as (server, application):
        client = await server.connect()
        await client.send(b"POST / HTTP/1.1\r\n" + b"X: " + b"y" * 60 * KIB + b"\r\n")
        await client.send(
            b"Transfer-Encoding: chunked\r\n\r\n3;note=x\r\nabc\r\n0\r\nAuthorization: y\r\n\r\n"
        )
        assert await client.answer() == (200, b"3")
        assert [name for name, _ in application.requests[0]["headers"]] == [b"x", b"transfer-encoding"]


async def test_an_upgrade_that_is_not_offered_is_ignored() -> None:
    async with _serving(Limits()) as (server, _):
        client = await server.connect()
        await client.send(
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        )
        assert await client.answer() == (200, b"0")
        assert await client.answer() == (200, b"0")
        client.disconnect()


async def test_a_large_body_in_tiny_chunks_arrives() -> None:
    async with _serving(Limits()) as (server, _):
        client = await server.connect()
        await client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"1\r\nx\r\n" * 100 * KIB + b"0\r\n\r\n")
        assert await client.answer() == (200, b"102400")
        client.disconnect()


async def test_pipelined_requests_are_answered_in_order_up_to_a_limit() -> None:
    async with _serving(Limits()) as (server, application):
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n\r\n" * 5)
        for _ in range(5):
            assert await client.answer() == (200, b"0")
        await client.send(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        assert (await _rest(client)).count(b"200 OK") == 17
        assert len(application.requests) == 22


async def test_every_pipelined_request_hears_of_a_disconnect() -> None:
    async with _serving(Limits()) as (server, application):
        client = await server.connect()
        await client.send(b"GET /watch HTTP/1.1\r\n\r\n" * 3)
        await _until(lambda: bool(application.requests))
        client.disconnect()
        await _until(lambda: application.ends == ["http.disconnect"])


UNFINISHED = {
    b"": b"",
    b"GET / HT": b"HTTP/1.1 408 ",
    b"GET / HTTP/1.1\r\nHost: x\r\n": b"HTTP/1.1 408 ",
    b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n{": b"HTTP/1.1 408 ",
    b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{": b"",
    b"PATCH / HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nContent-Length: 10\r\n\r\n{": b"",
    CHUNKED + b"1\r\n{": b"",
    CHUNKED + b"0\r\nA: b\r\n": b"",
}


async def test_a_request_that_stops_midway_is_ended() -> None:
    async with _serving(SHORT) as (server, application):

        async def send(request: bytes) -> bytes:
            client = await server.connect()
            await client.send(request)
            return (await _rest(client))[: len(b"HTTP/1.1 408 ")]

        answers = await asyncio.gather(*map(send, UNFINISHED))
        assert dict(zip(UNFINISHED, answers, strict=True)) == UNFINISHED
        assert application.ends == ["disconnect"] * 5


async def test_headers_that_drip_are_ended_though_each_byte_arrives_soon() -> None:
    async with _serving(SHORT) as (server, _):
        client = await server.connect()

        async def drip() -> None:
            while True:
                await client.send(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        await client.send(b"GET / HTTP/1.1\r\nX: ")
        assert (await _rest(client)).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_a_body_that_drips_is_ended_and_one_that_progresses_is_not() -> None:
    limits = Limits(body_seconds=0.2, body_bytes=100)
    async with _serving(limits) as (server, application):
        slow, steady = await server.connect(), await server.connect()
        for client in (slow, steady):
            await client.send(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")

        async def send_until_ended(client: Connection, piece: bytes, most: int) -> int:
            for count in range(most):
                if client.reader.at_eof():
                    return count
                try:
                    await client.send(piece)
                except ConnectionResetError:  # the server closed it before it had read all that was sent
                    return count
                await asyncio.sleep(0.02)
            return most

        ended = await asyncio.gather(
            send_until_ended(slow, b"x", 500), send_until_ended(steady, b"x" * 50, 50)
        )
        assert ended[0] < 500
        assert ended[1] == 50
        assert application.ends == ["disconnect"]
        steady.disconnect()


async def test_a_connection_that_idles_between_requests_is_closed() -> None:
    async with _serving(SHORT) as (server, _):
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.answer() == (200, b"0")
        assert await _rest(client) == b""


async def test_the_rest_of_a_refused_body_is_discarded_only_for_a_while() -> None:
    async with _serving(SHORT) as (server, _):
        client = await server.connect()
        await client.send(b"POST /early HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert await client.answer() == (200, b"0")
        assert await _rest(client) == b""


async def test_a_client_that_sends_the_rest_of_a_refused_body_can_continue() -> None:
    async with _serving(Limits()) as (server, _):
        client = await server.connect()
        await client.send(b"POST /early HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert await client.answer() == (200, b"0")
        await client.send(bytes(1_000_000) + b"GET / HTTP/1.1\r\n\r\n")
        assert await client.answer() == (200, b"0")
        client.disconnect()


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_a_response_that_is_not_read_is_dropped(connection: str) -> None:
    async with _serving(SHORT) as (server, _):
        client = await server.connect()
        await client.send(f"GET /large HTTP/1.1\r\nConnection: {connection}\r\n\r\n".encode())
        transport = client.writer.transport
        transport.pause_reading()
        await asyncio.sleep(0.5)  # longer than any limit
        transport.resume_reading()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.whole_answer()


async def test_a_new_connection_replaces_the_one_that_has_idled_longest() -> None:
    async with _serving(Limits(), max_connections=3) as (server, _):
        served, silent, half = [await server.connect() for _ in range(3)]
        await served.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await served.answer() == (200, b"0")
        await half.send(b"GET / HTT")
        for _ in range(2):
            client = await server.connect()
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await client.answer() == (200, b"0")
        assert await _rest(silent) == b""
        assert await _rest(half) == b""
        await served.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await served.answer() == (200, b"0")


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not happened():  # noqa: ASYNC110  # the server runs in this loop
            await asyncio.sleep(0)


async def _until_read(application: Application, size_bytes: int) -> None:
    await _until(lambda: application.received_bytes >= size_bytes)


async def test_connections_at_work_are_kept_and_a_further_one_is_told_to_come_back() -> None:
    async with _serving(Limits(), max_connections=2) as (server, application):
        busy = [await server.connect() for _ in range(2)]
        for client in busy:
            await client.send(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(99_999))
        await _until_read(application, 2 * 99_999)
        further = await server.connect()
        assert await _refusal(further) == (503, "too_many_connections")
        for client in busy:
            await client.send(b"y")
            assert await client.answer() == (200, b"100000")


@pytest.mark.parametrize(("sent", "silent_seconds"), [(1, 5.0), (99_999, 0.0)])
async def test_half_sent_bodies_make_room(sent: int, silent_seconds: float) -> None:
    """Small ones at once, and large ones after a silence."""
    limits = Limits(silent_seconds=silent_seconds)
    async with _serving(limits, max_connections=2) as (server, application):
        half_sent = [await server.connect() for _ in range(2)]
        for client in half_sent:
            await client.send(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(sent))
            await _until_read(application, sent * (half_sent.index(client) + 1))
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await client.answer() == (200, b"0")
        assert await _rest(half_sent[0]) == b""
