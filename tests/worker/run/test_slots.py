"""What slots claim, and in which order."""

import asyncio
import random
from collections.abc import Collection

import pytest

from backend.core.jobs.leases import Claim
from backend.core.jobs.unit_view import UnitClaim
from backend.core.unit_records import UnitKind
from tests.core.jobs.queue_lab import LEASE_SECONDS
from tests.core.jobs.unit_lab import CHUNKS, Hand, UnitLab
from worker.run.poller import Poller
from worker.run.slots import MAX_VIEWS, Finder, Slots, Task, handlers
from worker.units.division import Capacity


def finder(hand: Hand, *, encoder: str = "software", capacity: int = 9) -> Finder:
    return Finder(hand.jobs, hand.units, encoder, Capacity(capacity))


async def kinds(hand: Hand, found: Finder, *, joins: bool = True) -> list[UnitKind | str]:
    """Claim for a light slot until there is nothing left."""
    claimed: list[UnitKind | str] = []
    while (task := await found.light(await hand.jobs.poll(), silent_too=True, joins=joins)) is not None:
        claimed.append(task.kind if isinstance(task, UnitClaim) else "job")
    return claimed


async def chunks(hand: Hand, found: Finder) -> list[Task]:
    claimed: list[Task] = []
    while (task := await found.encoding(await hand.jobs.poll(), silent_too=True)) is not None:
        claimed.append(task)
    return claimed


async def end_all(lab: UnitLab, hand: Hand, only: Collection[UnitKind] = tuple(UnitKind)) -> None:
    (planned,) = (await hand.jobs.poll()).planned
    view = await hand.units.view(planned.lease.job)
    assert view is not None
    while (claim := await hand.units.claim(view, only)) is not None:
        await lab.do_unit(hand, claim)


@pytest.fixture
def lab() -> UnitLab:
    return UnitLab()


async def test_light_slot_takes_a_new_job_then_a_look_then_sides(lab: UnitLab) -> None:
    hand = lab.hand("one")
    await lab.parked(hand)
    await lab.add_job()

    assert await kinds(hand, finder(hand)) == ["job", UnitKind.LOOK, UnitKind.SIDES]


async def test_slot_that_encodes_takes_chunks_as_far_as_there_is_capacity(lab: UnitLab) -> None:
    hand = lab.hand("one")
    await lab.parked(hand)

    assert len(await chunks(hand, finder(hand, capacity=1))) == 1
    assert len(await chunks(hand, finder(hand))) == CHUNKS - 1


async def test_job_is_joined_when_its_units_have_ended(lab: UnitLab) -> None:
    hand = lab.hand("one")
    job = await lab.parked(hand)
    await end_all(lab, hand, {UnitKind.LOOK, UnitKind.SIDES})
    assert await kinds(hand, finder(hand)) == []
    await end_all(lab, hand)

    assert await kinds(hand, finder(hand), joins=False) == []
    assert await kinds(hand, finder(hand)) == ["job"]
    assert (await hand.units.view(job)) is not None


async def test_chunks_of_another_encoder_are_left_until_nobody_is_left_who_makes_them(lab: UnitLab) -> None:
    hand = lab.hand("one")
    await lab.parked(hand)
    await end_all(lab, hand, {UnitKind.LOOK, UnitKind.SIDES})
    other = finder(hand, encoder="another")

    assert await chunks(hand, other) == []
    assert await kinds(hand, other) == []
    lab.clock.advance(601)
    assert await kinds(hand, other) == ["job"]


async def test_job_that_was_just_divided_is_helped_before_a_snapshot_shows_it(lab: UnitLab) -> None:
    hand = lab.hand("one")
    job, claim = await lab.add_job(), await lab.claimed_by(hand)
    snapshot = await hand.jobs.poll()
    await hand.jobs.park(claim, lab.plan(job))
    found = finder(hand)
    assert await found.light(snapshot, silent_too=True, joins=True) is None

    found.add(job, lab.plan(job))
    task = await found.light(await hand.jobs.poll(), silent_too=True, joins=True)

    assert isinstance(task, UnitClaim)
    assert task.kind is UnitKind.LOOK


async def test_look_follows_the_division_of_its_job_without_a_poll(lab: UnitLab) -> None:
    hand = lab.hand("one")
    job, claim = await lab.add_job(), await lab.claimed_by(hand)
    found = finder(hand)
    found.add(job, await hand.jobs.park(claim, lab.plan(job)))

    look = await found.own_look()

    assert look is not None
    assert look.kind is UnitKind.LOOK
    assert await found.own_look() is None


async def test_any_number_of_jobs_hides_no_look(lab: UnitLab) -> None:
    hand = lab.hand("one")
    jobs = {(await lab.parked(hand)).id for _ in range(2 * MAX_VIEWS)}
    found = Finder(hand.jobs, hand.units, "software", Capacity(0), random.Random(1))

    looks = set()
    for _ in range(40):
        task = await found.light(await hand.jobs.poll(), silent_too=True, joins=False)
        if isinstance(task, UnitClaim) and task.kind is UnitKind.LOOK:
            looks.add(task.job.id)

    assert looks == jobs


async def test_nothing_else_begins_while_a_look_opens(lab: UnitLab) -> None:
    hand = lab.hand("one")
    await lab.parked(hand)
    found = Finder(hand.jobs, hand.units, "software", Capacity(9), looks_open=lambda: True)

    assert await kinds(hand, found) == [UnitKind.LOOK]
    assert await chunks(hand, found) == []


async def test_next_job_is_divided_while_a_look_is_being_made(lab: UnitLab) -> None:
    hand, stop, all_divided = lab.hand("one"), asyncio.Event(), asyncio.Event()
    waiting = {(await lab.add_job()).id for _ in range(2)}
    found = finder(hand)
    poller = Poller(hand.jobs, stop, poll_seconds=0.01, lease_seconds=LEASE_SECONDS)

    async def run_job(claim: Claim, stop: asyncio.Event) -> None:
        job = claim.lease.job
        found.add(job, await hand.jobs.park(claim, lab.plan(job)))
        waiting.remove(job.id)
        if not waiting:
            all_divided.set()

    async def run_unit(claim: UnitClaim, stop: asyncio.Event) -> None:
        assert claim.kind is UnitKind.LOOK
        await all_divided.wait()
        stop.set()

    async with asyncio.timeout(10):
        await Slots(1, 0, found, Capacity(0)).serve(poller, handlers(run_job, run_unit), stop)

    assert not waiting


async def test_slots_do_everything_there_is_to_do(lab: UnitLab) -> None:
    hand, stop, capacity = lab.hand("one"), asyncio.Event(), Capacity(1)
    await lab.parked(hand)
    done: list[str] = []
    poller = Poller(hand.jobs, stop, poll_seconds=0.01, lease_seconds=LEASE_SECONDS, drain=True)

    async def run_job(claim: Claim, stop: asyncio.Event) -> None:
        view = await hand.units.view(claim.lease.job)
        assert view is not None
        await lab.join(hand, claim, view)
        done.append("join")

    async def run_unit(claim: UnitClaim, stop: asyncio.Event) -> None:
        done.append(claim.unit)
        await lab.do_unit(hand, claim)

    slots = Slots(2, 1, Finder(hand.jobs, hand.units, "software", capacity), capacity)
    await slots.serve(poller, handlers(run_job, run_unit), stop)

    assert sorted(done) == ["c0000", "c0001", "join", "look", "sides"]
    assert done[-1] == "join"
    assert capacity.take()
