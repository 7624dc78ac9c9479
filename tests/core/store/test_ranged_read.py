"""Reading on where a connection broke, for as long as there is hope."""

from collections.abc import AsyncIterator

import pytest

from backend.core.errors import ObjectNotFound, SourceChanged, StoreUnavailable
from backend.core.store.ranged_read import read_span
from tests.core.virtual_time import in_virtual_time
from tests.lab.memory_store import MemoryStore

DATA = bytes(range(200))


class _Breaking(MemoryStore):
    """Gives `gives` bytes a connection, then breaks it."""

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
async def test_what_breaks_off_is_resumed_at_the_byte() -> None:
    store = _Breaking(gives=30)
    await store.put("k", DATA)
    assert await _read(store, 10, 170) == DATA[10:170]
    assert store.reads == 6


@in_virtual_time
async def test_a_store_that_gives_no_byte_is_given_up() -> None:
    store = _Breaking(gives=0)
    await store.put("k", DATA)
    with pytest.raises(StoreUnavailable, match="broke off at byte 3 of 9"):
        await _read(store, 3, 9)
    assert store.reads > 30


@in_virtual_time
async def test_an_object_that_is_another_or_gone_is_not_read_on() -> None:
    store = MemoryStore()
    await store.put("k", DATA)
    assert await _read(store, 0, 200) == DATA
    with pytest.raises(SourceChanged):
        await _read(store, 0, 5, etag="another")
    await store.delete("k")
    with pytest.raises(ObjectNotFound):
        await _read(store, 0, 5)
