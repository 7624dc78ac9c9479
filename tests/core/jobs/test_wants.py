"""Wishes of viewers: the newest counts, and few are written."""

from backend.core import keys
from backend.core.ids import new_id
from backend.core.jobs.wants import Wants
from tests.lab.memory_store import MemoryStore

REQUEST = new_id()


async def test_one_wish_a_second_is_written_and_the_newest_counts() -> None:
    raw, time = MemoryStore(), [0.0]
    wants = Wants(raw, monotonic=lambda: time[0], now=lambda: 1.5)

    assert await wants.newest(REQUEST) is None
    await wants.ask(REQUEST, 7)
    await wants.ask(REQUEST, 8)
    await wants.ask(f"{REQUEST}.1", 9)
    assert [await wants.newest(REQUEST), await wants.newest(f"{REQUEST}.1")] == [7, 9]

    time[0] = 1.0
    await wants.ask(REQUEST, 8)
    assert await wants.newest(REQUEST) == 8


async def test_a_foreign_object_is_no_wish() -> None:
    raw = MemoryStore()
    await raw.put(keys.wanted(REQUEST), b"{}")

    assert await Wants(raw).newest(REQUEST) is None
