"""The memory that uploads share: bounded, first come first served, and never held up by a slow client."""

import asyncio

import pytest

from backend.core.uploads import buffers as module
from backend.core.uploads.buffers import Pace, PartBuffers
from tests.core.virtual_time import in_virtual_time


@pytest.fixture
def buffers() -> PartBuffers:
    return PartBuffers(100)


async def _waits(buffers: PartBuffers, size: int) -> asyncio.Task[module.Buffer]:
    waiting = asyncio.create_task(buffers.acquire(size))
    await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_a_buffer_takes_no_more_than_its_size(buffers: PartBuffers) -> None:
    buffer = await buffers.acquire(10)
    assert buffer.fill(memoryview(b"123456")) == 6
    assert buffer.fill(memoryview(b"789012")) == 4
    assert buffer.full
    assert bytes(buffer.content) == b"1234567890"


async def test_uploads_wait_their_turn_when_memory_is_short(buffers: PartBuffers) -> None:
    first, second = await buffers.acquire(60), await buffers.acquire(40)
    large, small = await _waits(buffers, 80), await _waits(buffers, 10)
    second.release()
    await asyncio.sleep(0)
    assert not small.done(), "it overtook one that has waited longer"
    first.release()
    assert (await large).size_bytes == 0
    assert (await small).size_bytes == 0


async def test_slow_clients_let_others_go_first(buffers: PartBuffers) -> None:
    held = await buffers.acquire(100)
    slow = asyncio.create_task(buffers.acquire(60, Pace.SLOW))
    await asyncio.sleep(0)
    quick = await _waits(buffers, 60)
    held.release()
    (await quick).release()
    (await slow).release()


@in_virtual_time
async def test_slow_clients_wait_only_for_a_while() -> None:
    buffers = PartBuffers(100)
    held = await buffers.acquire(100)
    slow = asyncio.create_task(buffers.acquire(60, Pace.SLOW))
    await asyncio.sleep(Pace.SLOW.value + 1)
    late = await _waits(buffers, 60)
    held.release()
    (await slow).release()
    (await late).release()


async def test_reused_memory_starts_empty(buffers: PartBuffers) -> None:
    used = await buffers.acquire(100)
    used.fill(memoryview(b"x" * 100))
    used.release()
    again = await buffers.acquire(100)
    assert (again.size_bytes, again.memory) == (0, used.memory)


async def test_a_buffer_larger_than_the_pool_is_handed_out_alone(buffers: PartBuffers) -> None:
    small = await buffers.acquire(1)
    huge = await _waits(buffers, 1000)
    small.release()
    acquired = await huge
    other = await _waits(buffers, 1)
    acquired.release()
    assert (await other).size_bytes == 0


async def test_a_cancelled_waiter_makes_room_for_the_next(buffers: PartBuffers) -> None:
    held = await buffers.acquire(50)
    large, small = await _waits(buffers, 80), await _waits(buffers, 50)
    large.cancel()
    assert (await small).size_bytes == 0
    held.release()
    assert (await buffers.acquire(50)).size_bytes == 0


async def test_cancelling_a_waiter_whose_turn_has_come_leaks_no_memory(buffers: PartBuffers) -> None:
    held = await buffers.acquire(100)
    late = await _waits(buffers, 100)
    held.release()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (await asyncio.wait_for(buffers.acquire(100), 1)).size_bytes == 0


async def test_a_slow_buffer_is_reclaimed_only_when_others_wait(
    buffers: PartBuffers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.05)
    slow, quick = await buffers.acquire(50), await buffers.acquire(50)
    reclaimed: list[str] = []
    buffers.allow_reclaim(slow, lambda _: (reclaimed.append("slow"), slow.release()))
    buffers.allow_reclaim(quick, lambda _: reclaimed.append("quick"))
    buffers.pin(quick)
    await asyncio.sleep(0.1)
    assert reclaimed == []
    assert (await asyncio.wait_for(buffers.acquire(50), 5)).size_bytes == 0
    assert reclaimed == ["slow"]


async def test_spare_memory_of_other_sizes_is_freed(buffers: PartBuffers) -> None:
    for size in (10, 20, 30, 40, 50, 60, 70, 80, 90, 100):
        (await buffers.acquire(size)).release()
        assert sum(map(len, buffers._spare)) <= 100
