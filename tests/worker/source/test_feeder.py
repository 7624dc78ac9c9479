"""The feeder: which failures of the store or the reader fail an attempt."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from backend.core.errors import AttemptFailed
from tests.lab.memory_store import MemoryStore
from worker.sandbox.background_errors import BackgroundErrors
from worker.source.feeder import SourceFeeder


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
