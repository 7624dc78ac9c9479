"""With FETCH_PROXY, everything goes through that proxy, and the guard checks as it does without one."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr

from backend.core.backoff import Backoff
from backend.core.errors import AttemptFailed, JobFailure, SourceRejected
from tests.worker.fetch.file_server import FileServer, KeptSink, spec
from tests.worker.fetch.ftp_server import ftp_server
from tests.worker.fetch.listening import listening
from tests.worker.fetch.outside import PUBLIC, guarded, outside
from worker.fetch.ftp_fetcher import FtpFetcher
from worker.fetch.guard import Guard
from worker.fetch.http_fetcher import HttpFetcher
from worker.fetch.upstream import Upstream

FILM = random.Random(1).randbytes(300_000)
AT_ONCE = Backoff(0, 0)


@dataclass
class Proxy:
    """A proxy on loopback. It answers `answer` and, if that is a yes, connects to the host asked for."""

    answer: str = "200 OK"
    asked: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    """Of names that only it knows."""
    unreachable: frozenset[str] = frozenset()
    speaks_first: bool = False
    """Whether the first server does."""
    upstream: Upstream = field(init=False)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split()[1]
        self.asked.append(target)
        self.authorizations += [line for line in head.split("\r\n") if "Authorization" in line]
        host, _, port = target.rpartition(":")
        if host in self.unreachable or not self.answer.startswith("200"):
            writer.write(f"HTTP/1.1 {self.answer.replace('200', '502')}\r\n\r\n".encode())
            return
        out_reader, out = await asyncio.open_connection(self.hosts.get(host, host), int(port))
        with closing(out):
            await self._relay(reader, writer, out_reader, out)

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        out_reader: asyncio.StreamReader,
        out: asyncio.StreamWriter,
    ) -> None:
        greeting = await out_reader.read(1000) if self.speaks_first and len(self.asked) == 1 else b""
        # in one piece with what the server says first
        writer.write(f"HTTP/1.1 {self.answer}\r\nVia: x\r\n\r\n".encode() + greeting)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                target.write(piece)
                await target.drain()
            with suppress(OSError):
                target.write_eof()

        await asyncio.gather(copy(reader, out), copy(out_reader, writer))


@asynccontextmanager
async def proxying(proxy: Proxy) -> AsyncIterator[Proxy]:
    async with listening(proxy.serve, host="127.0.0.1", port=0) as port:
        proxy.upstream = Upstream(SecretStr(f"http://us%40er:pass%3Aword@127.0.0.1:{port}"))
        yield proxy


async def test_file_arrives_through_the_proxy_which_is_told_the_checked_address() -> None:
    sink, file = KeptSink(), FileServer(FILM, dies_after=[100_000])

    async with proxying(Proxy()) as proxy, listening(file.answer, host=PUBLIC, port=0) as port:
        fetcher = HttpFetcher(guarded(proxy.upstream), pauses=AT_ONCE)
        fetched = await fetcher.fetch(spec(f"http://public.example:{port}/a.mp4"), sink)

    assert sink.stored == FILM
    assert fetched.filename == "a.mp4"
    assert proxy.asked == [f"{PUBLIC}:{port}"] * 2
    credential = base64.b64encode(b"us@er:pass:word").decode()
    assert set(proxy.authorizations) == {f"Proxy-Authorization: Basic {credential}"}


async def test_next_address_of_a_name_is_tried() -> None:
    async def lookup(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.9", PUBLIC)]

    file, sink = FileServer(FILM), KeptSink()
    async with (
        proxying(Proxy(unreachable=frozenset({"127.0.0.9"}))) as proxy,
        listening(file.answer, host=PUBLIC, port=0) as port,
    ):
        guard = Guard(allow_private=False, lookup=lookup, is_public=lambda _: True, upstream=proxy.upstream)
        await HttpFetcher(guard).fetch(spec(f"http://two.example:{port}/a.mp4"), sink)

    assert sink.stored == FILM
    assert proxy.asked == [f"127.0.0.9:{port}", f"{PUBLIC}:{port}"]


@pytest.mark.parametrize("scheme", ["http", "https", "ftp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "private.example", "mixed.example"])
async def test_proxy_is_not_asked_for_private_addresses(host: str, scheme: str) -> None:
    async with outside() as net, proxying(Proxy()) as proxy:
        guard = guarded(proxy.upstream)
        fetcher = FtpFetcher(guard) if scheme == "ftp" else HttpFetcher(guard)
        with pytest.raises(SourceRejected) as failed:
            await fetcher.fetch(spec(f"{scheme}://{host}:{net.port}/a.mp4"), KeptSink())

    assert failed.value.failure_code == "address_refused"
    assert proxy.asked == net.at_canary == []


async def test_with_private_urls_allowed_the_proxy_looks_names_up() -> None:
    sink, file = KeptSink(), FileServer(FILM)

    async with (
        proxying(Proxy(hosts={"inside.example": "127.0.0.1"})) as proxy,
        listening(file.answer, host="127.0.0.1", port=0) as port,
    ):
        guard = Guard(allow_private=True, upstream=proxy.upstream)
        await HttpFetcher(guard).fetch(spec(f"http://inside.example:{port}/a.mp4"), sink)

    assert sink.stored == FILM
    assert proxy.asked == [f"inside.example:{port}"]


@pytest.mark.filterwarnings("ignore:The asyn:DeprecationWarning")  # pyftpdlib, on Python 3.11
async def test_ftp_goes_through_the_proxy(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(FILM)
    sink = KeptSink()

    with ftp_server(tmp_path) as address:
        async with proxying(Proxy(speaks_first=True)) as proxy:
            guard = Guard(allow_private=True, upstream=proxy.upstream)
            await FtpFetcher(guard).fetch(spec(f"{address}/a.mp4"), sink)

    assert sink.stored == FILM
    assert len(proxy.asked) == 2


@pytest.mark.parametrize("answer", ["403 Forbidden", "407 Who are you?", "hello", "2000 What?"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_refuses_fails_the_attempt(answer: str, scheme: str) -> None:
    async with proxying(Proxy(answer)) as proxy:
        with pytest.raises(JobFailure) as failed:
            await HttpFetcher(guarded(proxy.upstream), pauses=AT_ONCE).fetch(
                spec(f"{scheme}://public.example/a.mp4"), KeptSink()
            )

    assert isinstance(failed.value, AttemptFailed)
    assert failed.value.failure_code in {"fetch_failed", "fetch_unreachable"}
    assert set(proxy.asked) == {f"{PUBLIC}:{443 if scheme == 'https' else 80}"}
