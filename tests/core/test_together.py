"""Nothing that was begun together runs on by itself."""

import asyncio

import pytest

from backend.core.together import all_of, both


async def value(of: object) -> object:
    return of


async def failure() -> None:
    raise ValueError("first")


class Endless:
    """Ends only when it is cancelled, and takes its time to do so."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


async def test_the_answers_come_in_order() -> None:
    assert await all_of(value(number) for number in range(5)) == [0, 1, 2, 3, 4]
    assert await both(value("a"), value(1)) == ("a", 1)
    assert await all_of([]) == []


async def test_when_one_fails_the_others_have_ended() -> None:
    endless = Endless()
    with pytest.raises(ValueError, match="first"):
        await both(failure(), endless.run())
    assert endless.ended


async def test_a_caller_who_is_cancelled_leaves_nothing_behind() -> None:
    endless = Endless()
    caller = asyncio.create_task(all_of([endless.run()]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert endless.ended
