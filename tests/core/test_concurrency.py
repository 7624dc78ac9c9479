"""Gathered tasks end together, and shielded work survives cancellation."""

import asyncio

import pytest

from backend.core.concurrency import (
    gather_or_cancel,
    gather_pair,
    run_guarded,
    run_shielded,
    run_unless_set,
)


async def value(of: object) -> object:
    return of


async def failure() -> None:
    raise ValueError("first")


class Endless:
    """Ends only when it is cancelled, and not at once."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


async def test_results_come_in_order() -> None:
    assert await gather_or_cancel(value(number) for number in range(5)) == [0, 1, 2, 3, 4]
    assert await gather_pair(value("a"), value(1)) == ("a", 1)
    assert await gather_or_cancel([]) == []


async def test_if_one_fails_the_others_are_cancelled() -> None:
    endless = Endless()
    with pytest.raises(ValueError, match="first"):
        await gather_pair(failure(), endless.run())
    assert endless.ended


async def test_a_cancelled_caller_leaves_no_tasks() -> None:
    endless = Endless()
    caller = asyncio.create_task(gather_or_cancel([endless.run()]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert endless.ended


async def test_shielded_work_ends_before_the_cancellation_takes_effect() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    task = asyncio.create_task(run_shielded(work()))
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_failure_of_shielded_work_does_not_swallow_the_cancellation() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        raise ValueError("x")

    task = asyncio.create_task(run_shielded(work()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()

    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert isinstance(cancelled.value.__cause__, ValueError)
    assert task.cancelled()


async def test_errors_of_shielded_work_are_raised() -> None:
    async def work() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await run_shielded(work())


async def test_run_unless_set_returns_the_result() -> None:
    assert await run_unless_set(asyncio.Event(), value(1)) == 1


async def test_run_unless_set_cancels_the_work_once_stopped() -> None:
    stop, work = asyncio.Event(), Endless()
    stop.set()

    assert await run_unless_set(stop, work.run()) is None
    assert work.ended


async def test_run_unless_set_gives_the_work_its_grace_period() -> None:
    stop = asyncio.Event()
    stop.set()

    assert await run_unless_set(stop, asyncio.sleep(0.01, "done"), grace_seconds=5) == "done"


async def test_run_guarded_returns_the_result_and_cancels_the_guards() -> None:
    guard = Endless()

    assert await run_guarded(asyncio.sleep(0.01, "done"), guard.run()) == "done"
    assert guard.ended


async def test_run_guarded_raises_the_error_of_a_guard_and_cancels_the_work() -> None:
    work = Endless()

    with pytest.raises(ValueError, match="first"):
        await run_guarded(work.run(), failure())

    assert work.ended
