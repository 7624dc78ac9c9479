"""What an attempt wrote is read back unless a LIST shows that the store holds just that."""

from dataclasses import replace

import pytest

from backend.core.store.interface import LIST_PAGE, Listing, StoredObject
from tests.lab.memory_store import MemoryStore
from worker.sandbox.activity import ActivityClock
from worker.transcode import recalling_store
from worker.transcode.recalling_store import RecallingStore


class CountingStore(MemoryStore):
    """Counts the objects that are read."""

    gets = 0

    async def get(self, key: str) -> StoredObject:
        self.gets += 1
        return await super().get(key)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def recalling(store: CountingStore) -> RecallingStore:
    return RecallingStore(store, ActivityClock())


async def _list(recalling: RecallingStore) -> list[str]:
    return [info.key async for info in recalling.list_all("")]


async def test_what_the_store_is_shown_to_hold_is_not_read(
    store: CountingStore, recalling: RecallingStore
) -> None:
    await recalling.put("k", bytearray(b"old"))
    await recalling.put("k", bytearray(b"body"))
    assert await _list(recalling) == ["k"]

    found = await recalling.get("k")

    assert (found.body, found.info) == (b"body", await store.head("k"))
    assert store.gets == 0


async def test_what_was_not_listed_is_read(store: CountingStore, recalling: RecallingStore) -> None:
    await recalling.put("k", b"body")

    assert (await recalling.get("k")).body == b"body"
    assert store.gets == 1


async def test_what_somebody_else_wrote_is_read(store: CountingStore, recalling: RecallingStore) -> None:
    await recalling.put("k", b"body")
    await store.put("k", b"torn")
    await store.put("other", b"body")
    await _list(recalling)

    assert [(await recalling.get(key)).body for key in ("k", "other")] == [b"torn", b"body"]


async def test_what_was_written_after_the_list_is_read(
    store: CountingStore, recalling: RecallingStore
) -> None:
    await recalling.put("k", b"body")
    await _list(recalling)
    await recalling.put("k", b"more")

    assert (await recalling.get("k")).body == b"more"
    assert store.gets == 1


async def test_an_etag_that_is_no_md5_proves_nothing() -> None:
    class EncryptingStore(CountingStore):
        async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
            page = await super().list_page(prefix, start_after=start_after, limit=limit)
            return replace(page, objects=tuple(replace(info, etag="e-1") for info in page.objects))

    store = EncryptingStore()
    recalling = RecallingStore(store, ActivityClock())
    await recalling.put("k", b"body")
    await _list(recalling)

    assert (await recalling.get("k")).body == b"body"
    assert store.gets == 1


async def test_only_so_much_is_kept(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalling_store, "RECALLED_BYTES", 10)
    recalling = RecallingStore(store, ActivityClock())
    for key in ("a", "b", "a"):
        await recalling.put(key, bytes(6))
    await _list(recalling)

    for key in ("a", "b"):
        await recalling.get(key)

    assert store.gets == 1
