"""The memory that uploads share: bounded, first come first served, and never stuck with a slow client."""

import asyncio

import pytest

from backend.core.uploads import buffers as module
from backend.core.uploads.buffers import PartBuffers


@pytest.fixture
def buffers() -> PartBuffers:
    return PartBuffers(100)


async def _waits(buffers: PartBuffers, size: int) -> asyncio.Task[module.Buffer]:
    waiting = asyncio.create_task(buffers.acquire(size))
    await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_a_buffer_is_filled_up_to_its_size(buffers: PartBuffers) -> None:
    buffer = await buffers.acquire(10)
    assert buffer.fill(memoryview(b"123456")) == 6
    assert buffer.fill(memoryview(b"789012")) == 4
    assert buffer.full
    assert bytes(buffer.content) == b"1234567890"


async def test_whoever_finds_no_memory_waits_for_its_turn(buffers: PartBuffers) -> None:
    first, second = await buffers.acquire(60), await buffers.acquire(40)
    large, small = await _waits(buffers, 80), await _waits(buffers, 10)
    second.release()
    await asyncio.sleep(0)
    assert not small.done(), "it would be served before one that waits for longer"
    first.release()
    assert (await large).size_bytes == 0
    assert (await small).size_bytes == 0


async def test_whoever_was_slow_lets_others_go_first(
    buffers: PartBuffers, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await buffers.acquire(100)
    slow = asyncio.create_task(buffers.acquire(60, slow=True))
    await asyncio.sleep(0)
    quick = await _waits(buffers, 60)
    held.release()
    (await quick).release()
    (await slow).release()
    monkeypatch.setattr(module, "SLOW_TURN_SECONDS", 0.0)
    held = await buffers.acquire(100)
    slow = asyncio.create_task(buffers.acquire(60, slow=True))
    await asyncio.sleep(0.01)
    late = await _waits(buffers, 60)
    held.release()
    (await slow).release()
    (await late).release()


async def test_memory_that_was_used_comes_back_empty(buffers: PartBuffers) -> None:
    used = await buffers.acquire(100)
    used.fill(memoryview(b"x" * 100))
    used.release()
    again = await buffers.acquire(100)
    assert (again.size_bytes, again.memory) == (0, used.memory)


async def test_one_that_is_larger_than_the_pool_is_lent_alone(buffers: PartBuffers) -> None:
    small = await buffers.acquire(1)
    huge = await _waits(buffers, 1000)
    small.release()
    lent = await huge
    other = await _waits(buffers, 1)
    lent.release()
    assert (await other).size_bytes == 0


async def test_whoever_stops_waiting_leaves_its_place_to_others(buffers: PartBuffers) -> None:
    held = await buffers.acquire(50)
    large, small = await _waits(buffers, 80), await _waits(buffers, 50)
    large.cancel()
    assert (await small).size_bytes == 0
    held.release()
    assert (await buffers.acquire(50)).size_bytes == 0


async def test_one_that_stops_waiting_as_its_turn_comes_takes_nothing_along(buffers: PartBuffers) -> None:
    held = await buffers.acquire(100)
    late = await _waits(buffers, 100)
    held.release()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (await asyncio.wait_for(buffers.acquire(100), 1)).size_bytes == 0


async def test_a_slow_one_is_asked_back_only_when_others_wait(
    buffers: PartBuffers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.05)
    slow, quick = await buffers.acquire(50), await buffers.acquire(50)
    asked: list[str] = []
    buffers.allow_reclaim(slow, lambda: (asked.append("slow"), slow.release()))
    buffers.allow_reclaim(quick, lambda: asked.append("quick"))
    buffers.pin(quick)
    await asyncio.sleep(0.1)
    assert asked == []
    assert (await asyncio.wait_for(buffers.acquire(50), 5)).size_bytes == 0
    assert asked == ["slow"]


async def test_spare_memory_of_another_size_makes_room(buffers: PartBuffers) -> None:
    for size in (10, 20, 30, 40, 50, 60, 70, 80, 90, 100):
        (await buffers.acquire(size)).release()
        assert sum(map(len, buffers._spare)) <= 100
