"""In virtual time: beside any number of slow clients, a fast one gets memory at once."""

import asyncio
from itertools import count

from backend.core.store.interface import PLAIN, Body, ObjectHeaders, UploadedPart
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.part_writer import PartWriter, UploadPlan
from tests.core.virtual_time import in_virtual_time
from tests.lab.memory_store import MemoryStore

PART = 8000
POOL = 9 * PART
SLOW_CLIENTS = 120
FAST_BYTES = 8 * PART
PUT_SECONDS = 0.05


class Distant(MemoryStore):
    """Takes a while to store anything."""

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await asyncio.sleep(PUT_SECONDS)
        await super().put(key, body, headers)

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        await asyncio.sleep(PUT_SECONDS)
        return await super().put_part(key, upload_id, number, body)


def _writer(store: MemoryStore, buffers: PartBuffers, key: str) -> PartWriter:
    numbers = count()
    return PartWriter(
        store, key, UploadPlan(PART, 4), buffers, tail_key=lambda: f"{key}.tail.{next(numbers)}"
    )


async def _drip(upload: PartWriter) -> None:
    while True:
        await upload.write(bytes(PART // 80))
        await asyncio.sleep(1)


async def _seconds_of_a_fast_upload(
    store: MemoryStore, buffers: PartBuffers, pause_seconds: float = 0
) -> float:
    """Return how long it takes, without the pause in its second part."""
    loop = asyncio.get_running_loop()
    began = loop.time() + pause_seconds
    fast = _writer(store, buffers, "fast")
    for number in range(FAST_BYTES // 1000):
        if number == 12:
            await asyncio.sleep(pause_seconds)
        await fast.write(bytes(1000))
    assert await fast.complete() == FAST_BYTES
    return loop.time() - began


@in_virtual_time
async def test_a_fast_upload_does_not_wait_for_slow_ones_and_recovers_from_a_pause() -> None:
    store, buffers = Distant(), PartBuffers(POOL)
    alone = await _seconds_of_a_fast_upload(store, buffers)
    slow = [_writer(store, buffers, f"slow-{number}") for number in range(SLOW_CLIENTS)]
    drips = [asyncio.create_task(_drip(one)) for one in slow]
    await asyncio.sleep(30)

    beside_slow_ones = await _seconds_of_a_fast_upload(store, buffers)

    assert beside_slow_ones < 2 * alone + 0.1
    assert await _seconds_of_a_fast_upload(store, buffers, pause_seconds=3) < 10
    await asyncio.sleep(60)
    assert min(one.received_bytes for one in slow) > PART // 80, "a slow client got no second turn"
    assert buffers._total >= sum(len(one._buffer.memory) for one in slow if one._buffer)
    for drip in drips:
        drip.cancel()


@in_virtual_time
async def test_a_fast_upload_soon_passes_slow_ones_that_came_just_before_it() -> None:
    store, buffers = Distant(), PartBuffers(POOL)
    drips = [
        asyncio.create_task(_drip(_writer(store, buffers, f"slow-{number}")))
        for number in range(SLOW_CLIENTS)
    ]
    await asyncio.sleep(0)

    assert await _seconds_of_a_fast_upload(store, buffers) < 10

    for drip in drips:
        drip.cancel()
