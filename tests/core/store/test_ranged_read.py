"""Broken reads resume until the store has been silent for too long."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from backend.core.errors import ObjectNotFound, SourceChanged, StoreUnavailable
from backend.core.store.ranged_read import read_span
from tests.core.virtual_time import in_virtual_time
from tests.lab.memory_store import MemoryStore

DATA = bytes(range(200))


class _Breaking(MemoryStore):
    """Breaks each connection after `gives` bytes."""

    def __init__(self, gives: int) -> None:
        super().__init__()
        self.gives = gives
        self.reads = 0

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        self.reads += 1
        async for chunk in super().read(key, offset, etag=etag):
            if self.gives:
                yield chunk[: self.gives]
            raise StoreUnavailable


async def _read(store: MemoryStore, start: int, end: int, etag: str | None = None) -> bytes:
    return b"".join([chunk async for chunk in read_span(store, "k", start, end, etag=etag)])


@in_virtual_time
async def test_a_broken_read_resumes_at_the_next_byte() -> None:
    store = _Breaking(gives=30)
    await store.put("k", DATA)
    assert await _read(store, 10, 170) == DATA[10:170]
    assert store.reads == 6


@in_virtual_time
async def test_gives_up_on_a_store_that_sends_nothing() -> None:
    store = _Breaking(gives=0)
    await store.put("k", DATA)
    with pytest.raises(StoreUnavailable, match="broke off at byte 3 of 9"):
        await _read(store, 3, 9)
    assert store.reads > 30


@in_virtual_time
async def test_a_replaced_or_deleted_object_is_not_read() -> None:
    store = MemoryStore()
    await store.put("k", DATA)
    assert await _read(store, 0, 200) == DATA
    with pytest.raises(SourceChanged):
        await _read(store, 0, 5, etag="another")
    await store.delete("k")
    with pytest.raises(ObjectNotFound):
        await _read(store, 0, 5)


class _Slow(MemoryStore):
    """Takes `seconds` for each connection, and then gives a byte."""

    seconds = 1.0

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        async for chunk in super().read(key, offset, etag=etag):
            await asyncio.sleep(self.seconds)
            yield chunk[:1]
            await asyncio.sleep(1000)


@in_virtual_time
async def test_slow_answer_is_read_without_any_patience() -> None:
    store = _Slow()
    await store.put("k", DATA)
    assert b"".join([chunk async for chunk in read_span(store, "k", 0, 1, patience_seconds=0)]) == DATA[:1]


@in_virtual_time
async def test_gives_up_on_a_store_that_hangs_after_each_byte() -> None:
    store = _Slow()
    await store.put("k", DATA)
    with pytest.raises(StoreUnavailable, match="too slowly, byte 3 of 200"):
        await _read(store, 0, 200)
