"""The feeder: which failures of the store or the reader fail an attempt."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from backend.core.errors import AttemptFailed
from backend.core.uploads.buffers import MIB
from tests.lab.memory_store import READ_CHUNK_BYTES, MemoryStore
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.source import positions
from worker.source.feeder import MAX_RESTARTS, SourceFeeder
from worker.source.positions import MAX_POSITIONS, SourceReader


class BrokenStore(MemoryStore):
    """Delivers one byte, then fails in a way that is not in the store's contract."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        yield b"x"
        raise self.error


@pytest.mark.parametrize("error", [ConnectionResetError("by the store"), KeyError("of a library")])
async def test_reports_unexpected_store_errors(error: Exception) -> None:
    store, errors = BrokenStore(error), BackgroundErrors()
    await store.put("source", b"xyz")
    feeder = SourceFeeder(store, await store.head("source"), errors)

    async with asyncio.timeout(5), feeder.serving() as url, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.get(url) as answer:
                await answer.read()
        with pytest.raises(AttemptFailed) as failed:
            await errors.watch()

    assert failed.value.failure_code == "source_failed"


async def test_tracks_the_position_of_its_reader() -> None:
    store = MemoryStore()
    await store.put("source", bytes(1000))
    feeder = SourceFeeder(store, await store.head("source"), BackgroundErrors())

    async with asyncio.timeout(5), feeder.serving() as url, aiohttp.ClientSession() as client:
        assert feeder.share_fed == 0
        for asked, share in {"bytes=0-499": 0.5, "bytes=900-999": 1.0, "bytes=500-749": 0.75}.items():
            async with client.get(url, headers={"Range": asked}) as answer:
                await answer.read()
            assert feeder.share_fed == share


class CountingClock(ActivityClock):
    touches = 0

    def touch(self) -> None:
        super().touch()
        self.touches += 1


async def test_each_program_that_reads_the_source_makes_progress_but_not_for_ever() -> None:
    """A file is probed several times, up to its end if a stream that it announces does not come."""
    store, clock = MemoryStore(), CountingClock()
    await store.put("source", bytes(2 * MIB))
    feeder = SourceFeeder(store, await store.head("source"), BackgroundErrors(), activity=clock)

    async with asyncio.timeout(20), feeder.serving() as url, aiohttp.ClientSession() as client:
        for _ in range(MAX_RESTARTS + 5):
            async with client.get(url) as answer:
                await answer.read()

    assert clock.touches == 2 * MAX_RESTARTS


async def test_reader_that_hangs_up_early_is_not_an_error() -> None:
    store, errors = MemoryStore(), BackgroundErrors()
    await store.put("source", bytes(32 * 1024 * 1024))
    feeder = SourceFeeder(store, await store.head("source"), errors)

    async with asyncio.timeout(5), feeder.serving() as url:
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            await answer.content.readexactly(1)
            answer.close()
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            assert len(await answer.read()) == 32 * 1024 * 1024

    assert not errors.any


class CountingStore(MemoryStore):
    """Counts the reads and their bytes."""

    reads = 0
    bytes_read = 0

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        self.reads += 1
        async for chunk in super().read(key, offset, etag=etag):
            self.bytes_read += len(chunk)
            yield chunk


async def test_reads_each_byte_once_when_the_reader_jumps_between_two_places() -> None:
    """As ffmpeg does with the picture and sound of an MP4 that are not interleaved."""
    store, size, step = CountingStore(), 24 * MIB, MIB
    body = b"".join(number.to_bytes(4) for number in range(size // 4))
    await store.put("source", body)
    feeder = SourceFeeder(store, await store.head("source"), BackgroundErrors())

    async with asyncio.timeout(20), feeder.serving() as url:
        for offset in range(0, size // 2, step):
            for place in (offset, size // 2 + offset):
                async with (
                    aiohttp.ClientSession() as client,
                    client.get(url, headers={"Range": f"bytes={place}-"}) as answer,
                ):
                    assert await answer.content.readexactly(step) == body[place : place + step]
                    answer.close()

    assert store.reads == 2
    assert store.bytes_read < size * 1.1


async def test_holds_few_connections_and_replaces_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "WINDOW_BYTES", 1)
    store, size = CountingStore(), 40 * READ_CHUNK_BYTES
    await store.put("source", bytes(size))

    async with SourceReader(store, await store.head("source"), patience_seconds=1) as reader:
        for place in [*range(0, size, 3 * READ_CHUNK_BYTES), size - 1]:
            assert await reader.read(place, 10) == bytes(min(10, size - place))
        assert len(reader._positions) == MAX_POSITIONS
        await reader._positions[0].close()
        assert await reader.read(reader._positions[0].offset, 10) == bytes(10)
