"""Files over FTP, from pyftpdlib and from a server that breaks its promises."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from backend.core.backoff import Backoff
from backend.core.errors import AttemptFailed, SourceRejected
from tests.worker.fetch.file_server import KeptSink, spec
from tests.worker.fetch.ftp_server import ftp_server
from tests.worker.fetch.listening import listening
from tests.worker.fetch.outside import guarded, outside
from worker.fetch.ftp_fetcher import FtpFetcher
from worker.fetch.guard import Guard
from worker.fetch.interface import Fetched

pytestmark = pytest.mark.filterwarnings("ignore:The asyn:DeprecationWarning")
"""Of pyftpdlib, on Python 3.11."""
FILM = random.Random(1).randbytes(300_000)


async def fetch(address: str, sink: KeptSink) -> Fetched:
    return await FtpFetcher(Guard(allow_private=True), pauses=Backoff(0, 0)).fetch(spec(address), sink)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """Serve a film to everyone."""
    (tmp_path / "a film.mp4").write_bytes(FILM)
    with ftp_server(tmp_path) as address:
        yield address


async def test_file_arrives_whole_and_is_resumed(base: str) -> None:
    sink = KeptSink(bytearray(b"of an earlier version"), "old")

    fetched = await fetch(f"{base}/a film.mp4", sink)
    whole = bytes(sink.stored)
    resumed = KeptSink(bytearray(FILM[:100_000]), sink.version)
    await fetch(f"{base}/a film.mp4", resumed)

    assert whole == resumed.stored == FILM
    assert (sink.begun, resumed.begun) == (1, 0)
    assert (sink.total_bytes, fetched.filename) == (len(FILM), "a film.mp4")


async def test_missing_file_is_refused(base: str) -> None:
    with pytest.raises(SourceRejected) as failed:
        await fetch(f"{base}/other.mp4", KeptSink())

    assert failed.value.failure_code == "fetch_not_found"


class Scripted:
    """An FTP server on loopback. `answers` replace the usual ones."""

    def __init__(self, answers: dict[str, str], *, sent: list[bytes]) -> None:
        self.answers = {
            "USER": "331 Password",
            "PASS": "230 Welcome",
            "TYPE": "200 OK",
            "SIZE": f"213 {len(FILM)}",
            "MDTM": "213 20260101000000",
            "REST": "350 OK",
            "RETR": "150 Here it comes",
            **answers,
        }
        self.sent = sent
        """The data of each transfer."""
        self.commands: list[str] = []
        self.data_port = 0

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220-Welcome\r\n221 is not the end\r\n220 Ready\r\n")
        while line := (await reader.readline()).decode().strip():
            self.commands.append(line)
            verb = line.split()[0]
            answer = self.answers.get(verb, "502 What?").replace("PORT", str(self.data_port))
            writer.write(f"{answer}\r\n".encode())
            if verb == "RETR" and answer.startswith("150"):
                writer.write(b"226 Done\r\n")

    async def data(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.sent.pop(0))

    async def serve(self, stack: AsyncExitStack) -> str:
        port = await stack.enter_async_context(listening(self.control, host="127.0.0.1", port=0))
        self.data_port = await stack.enter_async_context(listening(self.data, host="127.0.0.1", port=0))
        return f"ftp://127.0.0.1:{port}/films/a.mp4"


async def scripted(answers: dict[str, str], sent: list[bytes], sink: KeptSink) -> list[str]:
    server = Scripted(answers, sent=sent)
    async with AsyncExitStack() as stack:
        await fetch(await server.serve(stack), sink)
    return server.commands


EPSV = {"EPSV": "229 Extended (|||PORT|)"}


async def test_transfer_that_ends_early_is_resumed_whatever_the_server_says() -> None:
    sink = KeptSink()

    commands = await scripted(EPSV, [FILM[:100_000], FILM[100_000:]], sink)

    assert sink.stored == FILM
    assert [line for line in commands if line.startswith("REST")] == ["REST 100000"]
    assert "RETR films/a.mp4" in commands


@pytest.mark.parametrize("answers", [{"REST": "502 No"}, {"MDTM": "502 No"}, {"MDTM": f"213 {'9' * 5000}"}])
async def test_transfer_starts_over_where_it_cannot_be_resumed(answers: dict[str, str]) -> None:
    sink = KeptSink()

    await scripted(EPSV | answers, [FILM[:100_000], FILM], sink)

    assert sink.stored == FILM
    assert sink.begun == 2


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"USER": "530 No"}, "fetch_denied"),
        ({"RETR": "550 No"}, "fetch_not_found"),
        ({"RETR": "504 No"}, "fetch_refused"),
        ({"RETR": "450 Busy"}, "fetch_failed"),
        ({"TYPE": "HTTP/1.1 400"}, "fetch_failed"),
        ({"EPSV": "229 (|||25|)"}, "address_refused"),
        ({"EPSV": "502 No", "PASV": "227 (10,0,0,1,0,25)"}, "address_refused"),
        ({"SIZE": "213 0"}, "empty_upload"),
        ({"SIZE": f"213 {'9' * 5000}", "RETR": "550 No"}, "fetch_not_found"),
        ({"SIZE": f"213 {len(FILM) + 1}"}, "fetch_broken"),
        ({"SIZE": f"213 {len(FILM) - 1}"}, "fetch_broken"),
    ],
)
async def test_other_replies_are_clear_failures(answers: dict[str, str], code: str) -> None:
    with pytest.raises((SourceRejected, AttemptFailed)) as failed:
        await scripted(EPSV | answers, [FILM, *[b""] * 9], KeptSink())

    assert failed.value.failure_code == code


async def test_commands_are_not_hidden_in_an_address() -> None:
    with pytest.raises(SourceRejected) as failed:
        await fetch("ftp://127.0.0.1/a%0d%0aDELE%20b", KeptSink())

    assert failed.value.failure_code == "invalid_address"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "private.example", "mixed.example"])
async def test_private_servers_are_not_reached(host: str) -> None:
    async with outside() as net:
        with pytest.raises(SourceRejected) as failed:
            await FtpFetcher(guarded()).fetch(spec(f"ftp://{host}:{net.port}/a.mp4"), KeptSink())

    assert failed.value.failure_code == "address_refused"
    assert net.at_canary == net.at_public == []
