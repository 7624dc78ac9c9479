"""Wishes of viewers: the newest counts, and few are written."""

import asyncio

from backend.core import keys
from backend.core.ids import new_id
from backend.core.jobs.wants import Wants
from backend.core.store.interface import PLAIN, Body, ObjectHeaders
from backend.core.unit_records import Wanted
from tests.core.virtual_time import in_virtual_time
from tests.lab.memory_store import MemoryStore

REQUEST, OTHER = new_id(1), new_id(2)


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[str, int]] = []

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        self.written.append((keys.request_of_units(key), Wanted.from_json(bytes(body)).segment))
        await super().put(key, body, headers)


@in_virtual_time
async def test_of_many_wishes_the_newest_is_written_at_most_once_a_second() -> None:
    raw = Counting()
    wants, loop = Wants(raw), asyncio.get_running_loop()
    assert await wants.newest(REQUEST) is None

    await asyncio.gather(*(wants.ask(REQUEST, segment) for segment in (7, 8, 9, 9)), wants.ask(OTHER, 1))

    assert (raw.written, loop.time()) == ([(REQUEST, 7), (OTHER, 1), (REQUEST, 9)], 1)
    assert [await wants.newest(REQUEST), await wants.newest(OTHER)] == [9, 1]

    await asyncio.sleep(1)
    await wants.ask(REQUEST, 7)
    assert (raw.written[3:], loop.time()) == ([(REQUEST, 7)], 2)


@in_virtual_time
async def test_a_wish_that_came_true_meanwhile_is_not_written() -> None:
    raw = Counting()
    wants = Wants(raw)
    await wants.ask(REQUEST, 1)

    waiting = asyncio.create_task(wants.ask(REQUEST, 2))
    await asyncio.sleep(0.5)
    waiting.cancel()
    await asyncio.wait({waiting})
    await asyncio.sleep(1)

    assert raw.written == [(REQUEST, 1)]


async def test_a_foreign_object_is_no_wish() -> None:
    raw = MemoryStore()
    await raw.put(keys.wanted(REQUEST), b"{}")

    assert await Wants(raw).newest(REQUEST) is None
