"""Only what is public is reached, however an address is spelt: see the table in docs/ingest.md."""

import asyncio
import base64
import re

import pytest
import uvloop
from structlog.testing import capture_logs

from backend.core.backoff import Backoff
from backend.core.errors import AttemptFailed, SourceRejected
from tests.worker.fetch.attempts import attempts
from tests.worker.fetch.file_server import KeptSink, spec
from tests.worker.fetch.listening import listening
from tests.worker.fetch.outside import PUBLIC, guarded, outside
from worker.fetch.guard import Guard
from worker.fetch.http_fetcher import HttpFetcher
from worker.fetch.proxy import GuardedProxy, _copy

CODES = {"address_refused", "invalid_address"}
REFUSED = {"403", "400", "501"}


async def through(proxy: GuardedProxy, request: str, body: str = "", *, password: str | None = None) -> bytes:
    """Send a request to the proxy and return all that comes back."""
    credential = base64.b64encode(f"{proxy.user}:{password or proxy.password}".encode()).decode()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(f"{request}\r\nProxy-Authorization: Basic {credential}\r\n\r\n{body}".encode())
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


def test_there_are_many_attempts() -> None:
    assert len(set(attempts())) >= 40


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
async def test_proxy_refuses_every_attempt(method: str) -> None:
    async with outside() as net, GuardedProxy(guarded()).listening() as proxy:
        for address in attempts(net.port):
            target = address.partition("//")[2].rstrip("/") if method == "CONNECT" else address
            answer = await through(proxy, f"{method} {target} HTTP/1.1\r\nHost: x")
            assert answer.split()[1].decode() in REFUSED, (address, answer)
        assert net.at_canary == net.at_public == []
        assert proxy.refused is not None


@pytest.mark.parametrize("redirected", [False, True])
async def test_http_fetcher_refuses_every_attempt(redirected: bool) -> None:
    async with outside() as net:
        for address in attempts(net.port):
            sink = KeptSink()
            with pytest.raises(SourceRejected) as failed:
                await HttpFetcher(guarded()).fetch(
                    spec(net.redirecting(address) if redirected else address), sink
                )
            # as a redirect, it is a path of the same server
            relative = redirected and re.match(r"http:(?!//[^/])", address)
            assert failed.value.failure_code in ({"fetch_not_found"} if relative else CODES), address
            assert sink.begun == 0
        assert net.at_canary == []
        assert bool(net.at_public) == redirected


async def test_canary_would_sing() -> None:
    """Without the guard, attempts do get through: these tests can fail."""
    async with outside() as net, GuardedProxy(Guard(allow_private=True)).listening() as proxy:
        await through(proxy, f"GET http://127.0.0.1:{net.port}/ HTTP/1.1")
        await through(proxy, f"CONNECT [::1]:{net.port} HTTP/1.1")
        address = spec(f"http://localhost:{net.port}/")
        with pytest.raises(AttemptFailed):
            await HttpFetcher(Guard(allow_private=True), pauses=Backoff(0, 0)).fetch(address, KeptSink())

        assert len(net.at_canary) >= 3


async def test_name_server_that_changes_its_answer_gains_nothing() -> None:
    async with outside() as net, GuardedProxy(guarded()).listening() as proxy:
        address = f"http://rebinding.example:{net.port}/"
        answers = [await through(proxy, f"GET {address} HTTP/1.1") for _ in range(2)]

        assert [answer.split()[1] for answer in answers] == [b"200", b"403"]
        assert (len(net.at_public), net.at_canary) == (1, [])


async def test_proxy_forwards_one_request_and_keeps_its_credential() -> None:
    async with outside() as net, GuardedProxy(guarded()).listening() as proxy:
        request = f"GET http://public.example:{net.port}/?x=1 HTTP/1.1\r\nHost: elsewhere\r\nX-Mine: yes"
        answer = await through(proxy, f"{request}\r\nContent-Length: 0")

        assert answer.endswith(b"ok")
        (head,) = net.at_public
        assert head.splitlines()[:2] == [
            b"GET /?x=1 HTTP/1.1",
            f"host: public.example:{net.port}".encode(),
        ]
        assert b"x-mine: yes" in head
        assert b"roxy" not in head


async def test_proxy_sends_a_body_and_nothing_after_it() -> None:
    received = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received.set_result(await reader.readexactly(5))

    async with listening(answer, host=PUBLIC, port=0) as port, GuardedProxy(guarded()).listening() as proxy:
        address = f"http://public.example:{port}/"
        body = "hello\r\nGET http://127.0.0.1/ HTTP/1.1\r\n\r\n"
        assert await through(proxy, f"POST {address} HTTP/1.1\r\nContent-Length: 5", body) == b""
        assert await received == b"hello"


async def test_proxy_tunnels_both_ways_to_the_end() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())

    async with listening(echo, host=PUBLIC, port=0) as port, GuardedProxy(guarded()).listening() as proxy:
        answer = await through(proxy, f"CONNECT public.example:{port} HTTP/1.1", "hello" * 100_000)

    assert answer.partition(b"\r\n\r\n")[2] == b"hello" * 100_000


async def test_refusals_are_logged_without_secrets() -> None:
    async with GuardedProxy(guarded()).listening() as proxy:
        with capture_logs() as logs:
            for address in ("http://127.0.0.1/a?key=secret", "http://me:secret@public.example/a"):
                await through(proxy, f"GET {address} HTTP/1.1")

    assert [log["address"] for log in logs] == ["http://127.0.0.1/a", "http://public.example/a"]


@pytest.mark.parametrize("password", ["wrong", "é"])
async def test_proxy_serves_only_who_knows_its_password(password: str) -> None:
    async with outside() as net, GuardedProxy(guarded()).listening() as proxy:
        answer = await through(proxy, f"GET http://public.example:{net.port}/ HTTP/1.1", password=password)

        assert answer.split()[1] == b"407"
        assert net.at_public == []


@pytest.mark.parametrize(
    "request_line", ["GET", "GET / HTTP/1.1", "get http://public.example/ HTTP/1.1", "x" * 99_999]
)
async def test_proxy_answers_nonsense_with_an_error(request_line: str) -> None:
    async with GuardedProxy(guarded()).listening() as proxy:
        assert (await through(proxy, request_line)).split()[1][:1] in {b"4", b"5"}


@pytest.mark.parametrize("fields", ["Content-Length: -1", "Content-Length: x", "Transfer-Encoding: chunked"])
async def test_proxy_refuses_bodies_without_a_plain_length(fields: str) -> None:
    async with outside() as net, GuardedProxy(guarded()).listening() as proxy:
        answer = await through(proxy, f"POST http://public.example:{net.port}/ HTTP/1.1\r\n{fields}")

        assert answer.split()[1][:1] in {b"4", b"5"}
        assert net.at_public == []


async def test_server_that_is_not_there_is_a_bad_gateway() -> None:
    async with outside() as net:
        pass
    async with GuardedProxy(guarded()).listening() as proxy:
        answer = await through(proxy, f"CONNECT public.example:{net.port} HTTP/1.1")

    assert answer.split()[1] == b"502"
    assert proxy.refused is None


def test_connection_that_closes_meanwhile_ends_a_copy_quietly() -> None:
    """On uvloop, as in the worker: it raises RuntimeError for writes to a closed connection."""

    async def copy() -> None:
        async with listening(lambda reader, _: reader.read(), host="127.0.0.1", port=0) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            source = asyncio.StreamReader()
            copying = asyncio.create_task(_copy(source, writer))
            await asyncio.sleep(0)
            writer.transport.abort()
            source.feed_data(b"late")
            source.feed_eof()
            await copying

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(copy())
