"""Torrents through the real aria2c, from a seeder of this machine."""

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.core.errors import AttemptFailed, MachineFault, SourceRejected
from backend.core.records import FetchKind, FetchSpec
from tests.worker.fetch.attempts import attempts
from tests.worker.fetch.file_server import MAX_BYTES, FileServer, KeptSink, serving
from tests.worker.fetch.listening import listening
from tests.worker.fetch.outside import PUBLIC, guarded, outside
from tests.worker.fetch.torrents import bencode, make_torrent, seeding, tracking
from worker.fetch.aria2 import Aria2Refused, running_aria2
from worker.fetch.aria2_fetcher import Aria2Fetcher, find_aria2c
from worker.fetch.guard import Guard
from worker.fetch.interface import Fetched
from worker.fetch.proxy import GuardedProxy

FILM = random.Random(1).randbytes(700_000)
FILES = {"a.nfo": b"words" * 300_000, "b.mkv": FILM, "sample.mkv": FILM[:1000]}
TORRENT_TYPE = ("Content-Type: application/x-bittorrent",)


async def fetch(
    address: str, sink: KeptSink, work_dir: Path, *, max_bytes: int = MAX_BYTES, stall_seconds: float = 60
) -> Fetched:
    guard = Guard(allow_private=True)
    fetcher = Aria2Fetcher(guard, work_dir, stall_seconds=stall_seconds, poll_seconds=0.05)
    return await fetcher.fetch(FetchSpec(kind=FetchKind.ARIA2, address=address, max_bytes=max_bytes), sink)


async def test_worker_without_aria2c_leaves_it_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MachineFault, match="aria2c"):
        await fetch(make_torrent("film", FILES, "").magnet, KeptSink(), tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("free_bytes", "max_bytes", "error"),
    [(10**6, MAX_BYTES, MachineFault), (10**12, 1000, SourceRejected)],
    ids=["no space", "too large"],
)
async def test_film_that_has_no_room_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, max_bytes: int, error: type[Exception]
) -> None:
    usage = SimpleNamespace(free=free_bytes)
    monkeypatch.setattr("worker.fetch.aria2_fetcher.shutil.disk_usage", lambda _: usage)
    torrent = make_torrent("film", FILES, "http://127.0.0.1:1/announce")

    async with serving(FileServer(torrent.content, headers=TORRENT_TYPE)) as server:
        with pytest.raises(error):
            await fetch(server.url, KeptSink(), tmp_path, max_bytes=max_bytes)


@pytest.mark.heavy
async def test_largest_video_of_a_torrent_arrives(tmp_path: Path) -> None:
    async with tracking() as announce:
        torrent = make_torrent("film", FILES, announce)
        by_file, by_link = KeptSink(), KeptSink()
        server = FileServer(torrent.content, headers=TORRENT_TYPE)
        async with seeding(torrent, "film", FILES, tmp_path), serving(server):
            fetched = await fetch(server.url, by_file, tmp_path)
            await fetch(torrent.magnet, by_link, tmp_path)

    assert by_file.stored == by_link.stored == FILM
    assert fetched.filename == "b.mkv"
    assert all(total == len(FILM) for _, total in by_file.progressed)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (make_torrent("text", {"a.nfo": b"words"}, "http://127.0.0.1:1/").content, "torrent_no_video"),
        (b"no torrent", "fetch_refused"),
    ],
)
async def test_torrent_without_a_video_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    async with serving(FileServer(content, headers=TORRENT_TYPE)) as server:
        with pytest.raises(SourceRejected) as failed:
            await fetch(server.url, KeptSink(), tmp_path)

    assert failed.value.failure_code == code


@pytest.mark.heavy
async def test_torrent_without_peers_is_given_up_and_leaves_nothing(tmp_path: Path) -> None:
    torrent = make_torrent("film", FILES, "http://127.0.0.1:1/announce")
    async with serving(FileServer(torrent.content, headers=TORRENT_TYPE)) as server:
        with pytest.raises(AttemptFailed) as failed:
            await fetch(server.url, KeptSink(), tmp_path, stall_seconds=0.5)
        running = asyncio.create_task(fetch(server.url, KeptSink(), tmp_path))
        while not list(tmp_path.glob("*/aria2.conf")):  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert failed.value.failure_code == "fetch_timeout"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
async def test_refused_tracker_does_not_make_a_stall_permanent(tmp_path: Path) -> None:
    torrent = make_torrent("film", FILES, "http://private.example:6969/passkey/announce")
    file = FileServer(torrent.content, headers=TORRENT_TYPE)
    async with listening(file.answer, host=PUBLIC, port=0) as port:
        fetcher = Aria2Fetcher(guarded(), tmp_path, stall_seconds=1, poll_seconds=0.05)
        with pytest.raises(AttemptFailed) as failed:
            await fetcher.fetch(
                FetchSpec(
                    kind=FetchKind.ARIA2, address=f"http://public.example:{port}/a", max_bytes=MAX_BYTES
                ),
                KeptSink(),
            )

    assert failed.value.failure_code == "fetch_timeout"


@pytest.mark.heavy
async def test_aria2c_reaches_nothing_private(tmp_path: Path) -> None:
    program = find_aria2c()
    assert program is not None
    async with outside() as net, GuardedProxy(guarded()).listening() as proxy:
        async with running_aria2(program, tmp_path, proxy, MAX_BYTES) as aria2:
            added = []
            for address in attempts(net.port):
                for form in (address, net.redirecting(address)):
                    try:
                        added.append(await aria2.add(form))
                    except Aria2Refused:
                        continue
            for download in added:
                while (await aria2.status(download)).status not in {"error", "complete"}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert len(added) >= 40
        assert net.at_public
        assert net.at_canary == []


@pytest.mark.heavy
async def test_peers_are_reached_directly_but_sent_nothing_that_looks_like_a_request(tmp_path: Path) -> None:
    """The limit that docs/ingest.md states."""
    received: list[bytes] = []
    heard = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        received.append(await reader.readexactly(96))
        heard.set()

    async def track(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        peers = bencode({"interval": 60, "peers": bytes((127, 0, 0, 1)) + peer_port.to_bytes(2)})
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(peers), peers)
        )

    async with (
        listening(listen, host="127.0.0.1", port=0) as peer_port,
        listening(track, host="127.0.0.1", port=0) as tracker_port,
    ):
        torrent = make_torrent("film", FILES, f"http://127.0.0.1:{tracker_port}/announce")
        async with serving(FileServer(torrent.content, headers=TORRENT_TYPE)) as server:
            running = asyncio.create_task(fetch(server.url, KeptSink(), tmp_path))
            await heard.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    assert b"BitTorrent" not in received[0]
    assert bytes.fromhex(torrent.magnet[20:60]) not in received[0]
