"""When workers sweep."""

import asyncio
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.ids import new_id
from backend.core.records import Swept
from backend.core.store.interface import LIST_PAGE, Listing
from backend.core.sweep.retention import RetentionRules
from backend.core.sweep.sweeper import SweepReport, SweepRules
from tests.core.jobs.queue_lab import Clock, Lab
from tests.lab.memory_store import MemoryStore
from worker.run import sweeping
from worker.run.sweeping import keep_sweeping

DAY = 86_400.0
RULES = SweepRules(timedelta(hours=1), timedelta(days=2))


class Looked(MemoryStore):
    """Counts how often the time of the last sweep was looked up: twice for each sweep, else once."""

    looks = 0

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        self.looks += prefix == keys.LAST_SWEEP
        return await super().list_page(prefix, start_after=start_after, limit=limit)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    for name in ("FIRST_CHECK_SECONDS", "MAX_PAUSE_SECONDS"):
        monkeypatch.setattr(sweeping, name, 0.001)
    clock = Clock()
    return Lab(clock, raw=Looked(clock))


async def _sweep_for(lab: Lab, looks: int) -> None:
    assert isinstance(lab.raw, Looked)
    stop, last = asyncio.Event(), lab.raw.looks + looks
    queue = lab.worker("one")
    task = asyncio.create_task(
        keep_sweeping(lab.buckets, queue, RULES, RetentionRules(), every_seconds=DAY, stop=stop)
    )
    while lab.raw.looks < last:  # noqa: ASYNC110  # the sweeper has its own clock
        await asyncio.sleep(0.001)
    stop.set()
    async with asyncio.timeout(5):
        await task


async def test_sweeps_leftovers_and_records_the_sweep(lab: Lab) -> None:
    await lab.raw.put(keys.upload(new_id()), b"abc")
    lab.clock.advance(3 * DAY)

    await _sweep_for(lab, 4)

    assert await lab.raw_keys() == [keys.LAST_SWEEP]
    noted = Swept.from_json((await lab.raw.get(keys.LAST_SWEEP)).body)
    assert (noted.findings, noted.size_bytes) == (1, 3)


async def test_does_not_repeat_a_recent_sweep_of_another_worker(lab: Lab) -> None:
    await _sweep_for(lab, 4)
    first = (await lab.raw.head(keys.LAST_SWEEP)).modified
    lab.clock.advance(DAY / 2)
    await _sweep_for(lab, 4)
    assert (await lab.raw.head(keys.LAST_SWEEP)).modified == first

    lab.clock.advance(DAY / 2)
    await _sweep_for(lab, 4)

    assert (await lab.raw.head(keys.LAST_SWEEP)).modified > first


async def test_stopping_worker_does_not_wait_for_its_next_sweep(lab: Lab) -> None:
    await _sweep_for(lab, 0)
    with pytest.raises(ObjectNotFound):
        await lab.raw.head(keys.LAST_SWEEP)


async def test_sweeps_again_after_a_sweep_that_broke(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = 0

    async def break_once(*arguments: object) -> SweepReport:
        nonlocal sweeps
        sweeps += 1
        if sweeps == 1:
            raise ValueError("a bug")
        return SweepReport((), dry_run=False)

    monkeypatch.setattr(sweeping, "sweep", break_once)

    await _sweep_for(lab, 4)

    assert sweeps == 2
    assert await lab.raw_keys() == [keys.LAST_SWEEP]


async def test_foreign_object_is_not_taken_for_the_last_sweep(lab: Lab) -> None:
    await lab.raw.put(keys.LAST_SWEEP + ".bak", b"")

    await _sweep_for(lab, 4)

    assert keys.LAST_SWEEP in await lab.raw_keys()
