"""A stream cut into parts: which bytes count as stored, tails, and slow clients among fast ones."""

import asyncio
from typing import Any

import pytest

from backend.core.errors import StoreUnavailable, UploadVanished
from backend.core.store.interface import PLAIN, Body, ObjectHeaders, UploadedPart
from backend.core.uploads import buffers as buffers_module
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.part_writer import PartWriter, UploadPlan
from backend.core.uploads.records import Tail
from tests.lab.memory_store import MemoryStore

PLAN = UploadPlan(part_size_bytes=10, parts_in_flight=2)


def writer(store: MemoryStore, buffers: PartBuffers | None = None, **begin: Any) -> PartWriter:
    names = (f"tail.{number}" for number in range(1000))
    return PartWriter(
        store,
        "k",
        PLAN,
        buffers or PartBuffers(40),
        tail_key=lambda: next(names),
        **begin,
    )


class Held(MemoryStore):
    """Stores a part once its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[int, asyncio.Event] = {}

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        await self.gates.setdefault(number, asyncio.Event()).wait()
        return await super().put_part(key, upload_id, number, body)


async def test_only_parts_without_a_gap_before_them_count_as_stored() -> None:
    store = Held()
    upload = writer(store)
    await upload.write(bytes(25))
    assert (upload.received_bytes, upload.stored_bytes) == (25, 0)
    store.gates.setdefault(2, asyncio.Event()).set()
    await asyncio.sleep(0.01)
    assert upload.stored_bytes == 0
    store.gates[1].set()
    await upload.drain()
    assert upload.stored_bytes == 20
    await upload.store_tail()
    assert (upload.stored_bytes, upload.tail) == (25, Tail(key="tail.0", size_bytes=5))


async def test_a_writer_continues_after_stored_parts_and_tail() -> None:
    store, data = MemoryStore(), bytes(range(47))
    first = writer(store)
    await first.write(data[:34])
    await first.store_tail()
    await first.drain()
    second = writer(store, upload_id=first.upload_id, stored_parts=first.stored_parts, tail=first.tail)
    assert second.received_bytes == second.stored_bytes == 34
    await second.write(data[34:])
    await second.flush()
    assert first.upload_id is not None
    await store.complete_upload("k", first.upload_id, await store.list_parts("k", first.upload_id))
    assert (await store.get("k")).body == data


async def test_a_writer_does_not_continue_without_its_tail() -> None:
    upload = writer(MemoryStore(), tail=Tail(key="tail.x", size_bytes=4))
    with pytest.raises(UploadVanished):
        await upload.write(b"5")


async def test_an_object_with_a_missing_part_is_not_completed() -> None:
    store = MemoryStore()
    upload = writer(store, upload_id=await store.open_upload("k"), stored_parts=2)
    await upload.write(b"x")
    with pytest.raises(UploadVanished):
        await upload.complete()


async def test_a_failed_part_is_raised_by_the_next_call_and_frees_all_memory() -> None:
    class Failing(MemoryStore):
        async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
            raise StoreUnavailable

    buffers = PartBuffers(40)
    upload = writer(Failing(), buffers)
    await upload.write(bytes(30))
    with pytest.raises(StoreUnavailable):
        await upload.drain()
    with pytest.raises(StoreUnavailable):
        await upload.write(b"more")
    await upload.stop()
    assert (await asyncio.wait_for(buffers.acquire(40), 1)).size_bytes == 0


async def test_a_slow_client_makes_room_for_others_and_continues_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buffers_module, "SLOW_SECONDS", 0.02)
    store, buffers = MemoryStore(), PartBuffers(10)
    slow, data = writer(store, buffers), bytes(range(30))
    await slow.write(data[:4])

    other = PartWriter(store, "other", PLAN, buffers)
    await asyncio.wait_for(other.write(b"x" * 10), 5)
    await other.complete()

    assert (await store.get("tail.0")).body == data[:4]
    await slow.write(data[4:])
    assert await slow.complete() == 30
    assert (await store.get("k")).body == data


async def test_the_memory_of_a_small_file_is_not_reused_while_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buffers_module, "SLOW_SECONDS", 0.02)

    class Slow(MemoryStore):
        """Is slow to store the object, as if the SDK or `RetryingStore` had to try twice."""

        async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
            if key == "k":
                await asyncio.sleep(0.2)
            await super().put(key, body, headers)

    store, buffers = Slow(), PartBuffers(10)
    small = writer(store, buffers)
    await small.write(b"mine")
    other = PartWriter(store, "other", PLAN, buffers)

    async def fill() -> int:
        await other.write(b"XXXXXXXX")
        return await other.complete()

    async with asyncio.timeout(5):
        sizes = await asyncio.gather(small.complete(), small.store_tail(), fill())

    assert (sizes[0], sizes[2]) == (4, 8)
    assert (await store.get("k")).body == b"mine"
    assert (await store.get("other")).body == b"XXXXXXXX"
