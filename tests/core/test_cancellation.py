"""Clean-up runs to its end under cancellation, and the cancellation is not forgotten."""

import asyncio

import pytest

from backend.core.cancellation import finish_even_if_cancelled


async def test_work_ends_before_the_cancellation_takes_effect() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    task = asyncio.create_task(finish_even_if_cancelled(work()))
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await finish_even_if_cancelled(work())
