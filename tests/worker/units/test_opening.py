"""When other units wait for a look that opens."""

import asyncio

import pytest

from tests.core.virtual_time import in_virtual_time
from worker.units.opening import MAX_OPENING_SECONDS, PLAYER_START_SECONDS, Openings


@in_virtual_time
async def test_a_look_opens_until_a_player_has_had_time_to_start() -> None:
    calls: list[float] = []
    openings, now = Openings(lambda: calls.append(now())), asyncio.get_running_loop().time
    with openings.opening() as playable:
        await asyncio.sleep(2)
        playable()
    assert openings

    await asyncio.sleep(MAX_OPENING_SECONDS)
    assert not openings
    assert calls == [2 + PLAYER_START_SECONDS]


@in_virtual_time
async def test_nothing_waits_long_for_a_look_that_does_not_open() -> None:
    openings = Openings(lambda: None)
    with openings.opening():
        await asyncio.sleep(MAX_OPENING_SECONDS + 0.1)
        assert not openings


async def test_nothing_waits_for_a_look_that_failed() -> None:
    openings = Openings(lambda: None)
    with pytest.raises(ValueError, match="failed"), openings.opening():
        raise ValueError("failed")
    assert not openings
