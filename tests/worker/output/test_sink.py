"""The sink: the order in which outputs reach the store, and how a failing store affects the attempt."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from backend.core.errors import AttemptFailed, StoreDenied
from backend.core.store.interface import PLAIN, Body, ObjectHeaders
from tests.lab.memory_store import MemoryStore
from worker.output.playlists import is_playlist, parse_playlist
from worker.output.sink import PackagerSink
from worker.sandbox.background_errors import BackgroundErrors

PREFIX = "videos/v/r/"
PLAYLIST = "hls/aac.m3u8"
INIT = "media/aac/init.mp4"


class WatchedStore(MemoryStore):
    """Runs `before_put` before each put, and records playlists stored before what they name."""

    def __init__(self) -> None:
        super().__init__()
        self.before_put: Callable[[str, int], object] = lambda path, nth: None
        self.puts: list[str] = []
        self.dangling: list[str] = []
        self.held, self.release, self.landed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        path = key.removeprefix(PREFIX)
        self.puts.append(path)
        hold = self.before_put(path, self.puts.count(path)) == "hold"
        if hold:
            self.held.set()
            await self.release.wait()
        if is_playlist(path):
            stored = {info.key.removeprefix(PREFIX) async for info in self.list_all(PREFIX)}
            assert isinstance(body, bytes)
            self.dangling += [name for name in parse_playlist(path, body).names if name not in stored]
        await super().put(key, body, headers)
        if hold:
            self.landed.set()


@dataclass
class Packager:
    """Writes like the packager."""

    sink: PackagerSink
    store: WatchedStore
    errors: BackgroundErrors
    base: str = ""
    client: aiohttp.ClientSession = field(init=False)

    async def writes(self, path: str, body: bytes) -> None:
        async with self.client.put(self.base + path, data=body) as answer:
            assert answer.status in {200, 500}

    async def stored(self, path: str) -> bytes:
        return (await self.store.get(PREFIX + path)).body


@asynccontextmanager
async def packager() -> AsyncIterator[Packager]:
    store, errors = WatchedStore(), BackgroundErrors()
    sink = PackagerSink(store, PREFIX, frozenset({PLAYLIST}), errors, lambda: None)
    packager = Packager(sink, store, errors)
    async with asyncio.timeout(10), sink.serving() as packager.base, aiohttp.ClientSession() as client:
        packager.client = client
        yield packager


def segment(number: int) -> str:
    return f"media/aac/{number:05}.m4s"


def playlist(segments: int, *, finished: bool = False) -> bytes:
    lines = ["#EXTM3U", f"#EXT-X-PLAYLIST-TYPE:{'VOD' if finished else 'EVENT'}"]
    lines.append(f'#EXT-X-MAP:URI="../{INIT}"')
    for number in range(1, segments + 1):
        lines += ["#EXTINF:4.0,", f"../{segment(number)}"]
    return "\n".join([*lines, "#EXT-X-ENDLIST" if finished else "", ""]).encode()


async def test_slow_growing_playlist_never_overwrites_the_final_one() -> None:
    async with packager() as it:
        it.store.before_put = lambda path, nth: "hold" if (path, nth) == (PLAYLIST, 1) else None
        for path in (INIT, segment(1), segment(2)):
            await it.writes(path, b"x")
        await it.writes(PLAYLIST, playlist(1))
        await it.store.held.wait()
        await it.writes(PLAYLIST, playlist(2, finished=True))

        finishing = asyncio.create_task(it.sink.finish())
        await asyncio.wait({finishing}, timeout=0.3)
        it.store.release.set()
        await it.store.landed.wait()
        await finishing

        assert await it.stored(PLAYLIST) == playlist(2, finished=True)


async def test_playlist_waits_for_its_segments_and_the_master_for_the_playlist() -> None:
    master = b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="aac.m3u8"\n'
    async with packager() as it:
        it.store.before_put = lambda path, nth: "hold" if path == segment(2) else None
        for path in (INIT, segment(1), segment(2)):
            await it.writes(path, b"x")
        await it.writes("hls/master.m3u8", master)
        await it.writes(PLAYLIST, playlist(2, finished=True))
        finishing = asyncio.create_task(it.sink.finish())
        await asyncio.wait({finishing}, timeout=0.5)
        assert PLAYLIST not in it.store.puts

        it.store.release.set()
        await finishing

        assert it.store.puts[-2:] == [PLAYLIST, "hls/master.m3u8"]
        assert it.store.dangling == []
        assert it.sink.playable


async def test_playlist_without_segments_is_not_published() -> None:
    other = "hls/aac-2.m3u8"
    async with packager() as it:
        it.store.before_put = lambda path, nth: "hold" if path == other else None
        for path in (INIT, segment(1)):
            await it.writes(path, b"x")
        await it.writes(PLAYLIST, playlist(0))
        await it.writes(other, playlist(1))
        await it.store.held.wait()  # both were tried
        it.store.release.set()
        await it.writes(PLAYLIST, playlist(1))
        await it.sink.finish()

        assert it.store.puts.count(PLAYLIST) == 1
        assert await it.stored(PLAYLIST) == playlist(1)


async def test_publishes_an_older_playlist_while_the_newest_waits() -> None:
    async with packager() as it:
        it.store.before_put = lambda path, nth: "hold" if path == segment(2) else None
        for path in (INIT, segment(1), segment(2)):
            await it.writes(path, b"x")
        await it.writes(PLAYLIST, playlist(1))
        await it.writes(PLAYLIST, playlist(2))
        while PLAYLIST not in it.sink.sizes:  # noqa: ASYNC110  # the ticker's time
            await asyncio.sleep(0.01)

        assert await it.stored(PLAYLIST) == playlist(1)
        it.store.release.set()


async def test_missing_segment_fails_the_attempt() -> None:
    async with packager() as it:
        await it.writes(INIT, b"x")
        await it.writes(PLAYLIST, playlist(1, finished=True))

        with pytest.raises(AttemptFailed) as failed:
            await it.sink.finish()

    assert failed.value.failure_code == "outputs_incomplete"


@pytest.mark.parametrize("path", [segment(1), PLAYLIST])
@pytest.mark.parametrize("error", [StoreDenied(), KeyError("of a library")], ids=["denied", "unforeseen"])
async def test_store_failure_fails_the_attempt(path: str, error: Exception) -> None:
    def fail(put: str, nth: int) -> None:
        if put == path:
            raise error

    async with packager() as it:
        it.store.before_put = fail
        await it.writes(INIT, b"x")
        await it.writes(segment(1), b"x")
        await it.writes(PLAYLIST, playlist(1))

        with pytest.raises((AttemptFailed, StoreDenied)):
            await it.errors.watch()
        with pytest.raises((AttemptFailed, StoreDenied)):
            await it.sink.finish()


async def test_forgets_finished_uploads() -> None:
    async with packager() as it:
        for number in range(50):
            await it.writes(segment(number), b"x")
        await it.writes(INIT, b"x")
        await it.writes(INIT, b"y")
        while len(it.sink.sizes) < 51 or it.sink._uploads:  # noqa: ASYNC110  # the store tells nobody
            await asyncio.sleep(0)

        assert await it.stored(INIT) == b"y"
