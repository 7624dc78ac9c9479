"""Units of divided jobs: each is done once despite kills, and all end with their request."""

import asyncio
from collections.abc import Callable

import pytest

from backend.core import keys
from backend.core.errors import LeaseLost, StoreError, StoreUnavailable, VideoDeleted
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import Needs
from backend.core.jobs.unit_view import UnitState
from backend.core.library.videos import delete_video
from backend.core.records import DeadLetter, StatusError, read_outcome
from backend.core.store.interface import PLAIN, ObjectHeaders
from backend.core.unit_records import UnitFailure, UnitKind
from tests.core.jobs.queue_lab import LEASE_SECONDS, Clock, Fault, WorkerCrashed, crash, lost_answer
from tests.core.jobs.unit_lab import CHUNKS, Hand, UnitLab
from tests.lab.memory_store import MemoryStore

BROKEN = StatusError(code="source_damaged", message="The file is damaged.")
CHUNK = {UnitKind.CHUNK}


@pytest.fixture
def lab() -> UnitLab:
    return UnitLab()


@pytest.fixture
def one(lab: UnitLab) -> Hand:
    return lab.hand("one")


@pytest.fixture
def two(lab: UnitLab) -> Hand:
    return lab.hand("two")


async def test_a_divided_job_is_published_from_its_chunks_and_leaves_only_the_look(
    lab: UnitLab, one: Hand
) -> None:
    job = await lab.add_job()

    await lab.work(one)

    assert await lab.raw_keys() == []
    assert not any("/r0-0-bb/" in key for key in await lab.video_keys())
    await lab.assert_joined_and_clean(job)


async def test_any_number_of_workers_do_each_unit_once(lab: UnitLab, one: Hand) -> None:
    job = await lab.parked(one)
    hands = [lab.hand(f"w{number}") for number in range(16)]
    done = list[str]()

    async def work(hand: Hand) -> None:
        while unit := await hand.units.claim(await lab.view(hand, job), UnitKind):
            if await lab.do_unit(hand, unit):
                done.append(unit.unit)

    await asyncio.gather(*(work(hand) for hand in hands))

    assert sorted(done) == sorted(lab.plan(job).units)


async def test_a_parked_job_is_not_claimed_but_shown_with_its_units(lab: UnitLab, one: Hand) -> None:
    job = await lab.parked(one)
    snapshot = await one.jobs.poll()

    assert await one.jobs.claim(snapshot) is None
    (planned,) = snapshot.planned
    assert planned.is_parked
    assert (planned.lease.plan, planned.lease.units, planned.lease.attempt) == (0, CHUNKS + 2, 1)
    view = await lab.view(one, job)
    assert {unit.state for unit in view.units.values()} == {UnitState.FREE}
    assert not view.is_joinable


async def test_a_job_is_joinable_once_chunks_are_all_that_is_still_being_done(
    lab: UnitLab, one: Hand
) -> None:
    job = await lab.parked(one)
    chunks = [await lab.claim_unit(one, job, CHUNK) for _ in range(CHUNKS)]
    sides = await lab.claim_unit(one, job, {UnitKind.SIDES})
    await lab.do_unit(one, await lab.claim_unit(one, job, {UnitKind.LOOK}))
    assert not (await lab.view(one, job)).is_joinable
    await lab.do_unit(one, sides)
    assert (await lab.view(one, job)).is_joinable

    await one.units.release(chunks[0], retry_after_seconds=30, error="It crashed.")

    lab.clock.advance(1)
    view = await lab.view(one, job)
    assert view.units[chunks[0].unit].state is UnitState.WAITING
    assert not view.is_joinable


async def test_units_of_a_job_that_is_being_joined_are_still_taken_over(
    lab: UnitLab, one: Hand, two: Hand
) -> None:
    job = await lab.parked(one)
    for _ in range(CHUNKS + 1):
        await lab.do_unit(one, await lab.claim_unit(one, job))
    dead = await lab.claim_unit(one, job)
    claim = await two.jobs.take_parked(await lab.planned(two))
    assert claim is not None
    await lab.view(one, job)
    lab.clock.advance(LEASE_SECONDS + 1)
    await two.jobs.renew(claim)
    lab.clock.advance(1)

    planned = await lab.planned(one)
    assert not planned.is_parked
    assert await one.jobs.take_parked(planned) is None
    again = await lab.claim_unit(one, job)

    assert (again.unit, again.generation, again.lease.attempt) == (dead.unit, 1, 2)


async def test_a_silent_worker_loses_its_unit_and_deletes_what_it_stored(
    lab: UnitLab, one: Hand, two: Hand
) -> None:
    job = await lab.parked(one)
    late = await lab.claim_unit(one, job, CHUNK)
    late_outputs = await lab.store_unit(one, late)
    lab.clock.advance(LEASE_SECONDS + 1)
    view = await lab.view(two, job)
    assert view.claimable(CHUNK)[0] == late.unit
    assert late.unit not in view.claimable(CHUNK, silent_too=False)
    view.tried.update(unit for unit in view.units if unit != late.unit)
    claim = await two.units.claim(view, CHUNK)
    assert claim is not None
    with pytest.raises(LeaseLost):
        await one.units.renew(late)
    await lab.do_unit(two, claim)

    assert await one.units.finish(late, late_outputs) is False
    await one.units.discard(late)
    await two.units.discard(claim)

    kept = [key for key in await lab.video_keys() if f"/{late.unit}-" in key]
    assert kept == [claim.outputs + "h264.mp4"]
    assert claim.lease.last_error == "The worker stopped in the middle of it."


async def test_a_released_unit_waits_until_it_is_due_and_counts_the_attempt(lab: UnitLab, one: Hand) -> None:
    job = await lab.parked(one)
    claim = await lab.claim_unit(one, job, {UnitKind.SIDES})
    await one.units.release(claim, retry_after_seconds=30, error="It crashed.")

    lab.clock.advance(29)
    assert await one.units.claim(await lab.view(one, job), {UnitKind.SIDES}) is None
    lab.clock.advance(1)
    again = await lab.claim_unit(one, job, {UnitKind.SIDES})
    assert (again.lease.attempt, again.lease.last_error) == (2, "It crashed.")

    await one.units.release(again, retry_after_seconds=0, error="The store is away.", outage=True)
    lab.clock.advance(1)
    third = await lab.claim_unit(one, job, {UnitKind.SIDES})
    assert (third.lease.attempt, third.lease.outages) == (2, 1)


async def test_a_chunk_that_fails_for_good_fails_its_request(lab: UnitLab, one: Hand, two: Hand) -> None:
    job = await lab.parked(one)
    await lab.do_unit(one, await lab.claim_unit(one, job, {UnitKind.LOOK}))
    other = await lab.claim_unit(two, job, CHUNK)
    await lab.store_unit(two, other)

    assert await one.units.fail(await lab.claim_unit(one, job, CHUNK), BROKEN)

    assert await lab.raw_keys() == [keys.dead_letter(job.request), keys.upload(job.id)]
    outcome = read_outcome((await lab.video.get(keys.result(job.id, job.request))).body)
    assert isinstance(outcome, DeadLetter)
    assert outcome.error == BROKEN
    await lab.store_unit(two, other)
    with pytest.raises(LeaseLost):
        await two.units.renew(other)
    await two.units.discard(other)
    assert await lab.raw_keys() == [keys.dead_letter(job.request), keys.upload(job.id)]
    assert not any("/r0-" in key or "/l0-" in key for key in await lab.video_keys())


async def test_a_failure_is_finished_even_if_that_takes_so_long_that_another_worker_takes_the_unit(
    lab: UnitLab, one: Hand, two: Hand
) -> None:
    job = await lab.parked(one)
    slow = await lab.claim_unit(one, job, {UnitKind.SIDES})
    result = DeadLetter(job=job, error=BROKEN, attempts=1, failed_at=lab.clock())
    await lab.video.create(keys.result(job.id, job.request), result.to_json())
    lab.clock.advance(LEASE_SECONDS + 1)
    await lab.claim_unit(two, job, {UnitKind.SIDES})

    await one.units.fail(slow, BROKEN)

    assert await lab.raw_keys() == [keys.dead_letter(job.request), job.source]


async def test_a_look_that_fails_for_good_does_not_fail_its_request(lab: UnitLab, one: Hand) -> None:
    job = await lab.parked(one)
    claim = await lab.claim_unit(one, job, {UnitKind.LOOK})

    assert await one.units.fail(claim, BROKEN)

    ends = await one.units.ends(await lab.view(one, job))
    assert list(ends) == [keys.LOOK]
    assert isinstance(ends[keys.LOOK], UnitFailure)
    await lab.work(one)
    await lab.assert_joined_and_clean(job)


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "failed"])
async def test_workers_of_a_request_that_has_ended_stop_and_leave_nothing(
    lab: UnitLab, one: Hand, two: Hand, deleted: bool
) -> None:
    job = await lab.parked(one)
    claims = [await lab.claim_unit(one, job, {kind}) for kind in UnitKind]
    outputs = [await lab.store_unit(one, claim) for claim in claims]
    parked = await lab.planned(two)
    if deleted:
        await delete_video(lab.buckets, job.id)
    else:
        await two.units.fail(await lab.claim_unit(two, job, CHUNK), BROKEN)

    for claim, stored in zip(claims, outputs, strict=True):
        await lab.store_unit(one, claim)  # a write that was on its way
        assert await one.units.finish(claim, stored) is False
        await one.units.discard(claim)
        await lab.store_unit(one, claim)
        with pytest.raises(LeaseLost):
            await one.units.renew(claim)
        with pytest.raises(LeaseLost):
            await one.units.release(claim, retry_after_seconds=0)
        await one.units.discard(claim)
    assert await two.units.view(job) is None
    assert await two.jobs.take_parked(parked) is None

    assert not [key for key in await lab.raw_keys() if key.startswith((keys.UNITS, keys.LEASES))]
    assert not [key for key in await lab.video_keys() if keys.run_of_key(job.id, key)]


async def test_a_video_deleted_before_its_job_is_parked_leaves_nothing(lab: UnitLab, one: Hand) -> None:
    job = await lab.add_job()
    claim = await lab.claimed_by(one)
    await delete_video(lab.buckets, job.id)

    with pytest.raises(VideoDeleted):
        await one.jobs.park(claim, lab.plan(job))
    await one.jobs.discard_deleted(claim)

    assert await lab.raw_keys() == await lab.video_keys() == []


async def test_a_plan_of_a_worker_that_lost_its_job_does_no_harm(lab: UnitLab, one: Hand, two: Hand) -> None:
    job = await lab.add_job()
    late = await lab.claimed_by(one)
    lab.clock.advance(LEASE_SECONDS + 1)
    claim = await lab.claimed_by(two)
    outputs = await lab.write_outputs(claim)
    with pytest.raises(LeaseLost):
        await one.jobs.park(late, lab.plan(job))
    await two.jobs.publish(claim, outputs)
    with pytest.raises(LeaseLost):
        await one.jobs.park(late, lab.plan(job))
    await one.jobs.clean_up_lost(late)

    await lab.assert_published_and_clean(job)


async def test_the_first_plan_counts(lab: UnitLab, one: Hand, two: Hand) -> None:
    job = await lab.add_job()
    dead = await lab.claimed_by(one)
    first = lab.plan(job)
    await lab.raw.create(keys.unit_plan(job.request, 0), first.to_json())
    lab.clock.advance(LEASE_SECONDS + 1)
    claim = await lab.claimed_by(two)

    assert await two.jobs.park(claim, lab.plan(job)) == first
    with pytest.raises(LeaseLost):
        await one.jobs.park(dead, lab.plan(job))


async def test_a_new_plan_stops_the_units_of_the_old_one(lab: UnitLab, one: Hand, two: Hand) -> None:
    job = await lab.parked(one)
    old = await lab.claim_unit(one, job, CHUNK)
    outputs = await lab.store_unit(one, old)
    await one.jobs.release(await _taken(lab, two), retry_after_seconds=0, error="They do not match.")
    lab.clock.advance(1)
    claim = await _taken(lab, two)

    await two.jobs.park(claim, lab.plan(job, number=1))

    assert await one.units.finish(old, outputs) is False
    with pytest.raises(LeaseLost):
        await one.units.renew(old)
    lab.clock.advance(1)
    view = await lab.view(one, job)
    assert view.plan.number == 1
    assert {unit.state for unit in view.units.values()} == {UnitState.FREE}
    assert (await lab.planned(one)).lease.attempt == 2  # a new plan does not forgive failed joins
    await lab.work(one)
    await lab.assert_joined_and_clean(job)


async def _taken(lab: UnitLab, hand: Hand) -> Claim:
    claim = await hand.jobs.take_parked(await lab.planned(hand))
    assert claim is not None
    return claim


async def test_a_job_whose_units_cannot_be_joined_is_done_as_a_whole(
    lab: UnitLab, one: Hand, two: Hand
) -> None:
    job = await lab.parked(one)
    claim = await lab.claim_unit(one, job, CHUNK)
    await two.jobs.release(await _taken(lab, two), retry_after_seconds=0, error="No.", whole=True)

    lab.clock.advance(1)
    snapshot = await one.jobs.poll()
    assert snapshot.planned == ()
    assert await one.jobs.claim(snapshot, needs=Needs.PLANNING) is None
    whole = await one.jobs.claim(snapshot, needs=Needs.ENCODING)
    assert whole is not None
    assert (whole.lease.plan, whole.lease.whole, whole.lease.attempt) == (None, True, 2)
    assert await lab.do_unit(one, claim)
    await one.jobs.publish(whole, await lab.write_outputs(whole))
    await lab.assert_published_and_clean(job)


async def test_a_slot_for_whole_jobs_leaves_markers_alone(lab: UnitLab, one: Hand) -> None:
    await lab.add_job()
    snapshot = await one.jobs.poll()

    assert await one.jobs.claim(snapshot, needs=Needs.ENCODING) is None
    assert await one.jobs.claim(snapshot, needs=Needs.PLANNING)


async def test_an_end_in_doubt_keeps_what_it_may_name() -> None:
    clock = Clock()
    raw = InDoubt(clock)
    lab = UnitLab(clock, raw=raw)
    one = lab.hand("one")
    job = await lab.parked(one)
    claim = await lab.claim_unit(one, job, CHUNK)
    outputs = await lab.store_unit(one, claim)
    with pytest.raises(StoreUnavailable):
        await one.units.finish(claim, outputs)

    await one.units.release(claim, retry_after_seconds=0, error="doubt", outage=True)
    await one.units.discard(claim)
    await raw.arrive()

    await lab.work(one)
    await lab.assert_joined_and_clean(job)


class InDoubt(MemoryStore):
    """A raw bucket in which the first end arrives long after its writer has given up."""

    on_its_way: tuple[str, bytes] | None = None

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        if key.endswith("/end") and self.on_its_way is None:
            self.on_its_way = (key, body)
            raise StoreUnavailable
        return await super().create(key, body, headers)

    async def arrive(self) -> None:
        assert self.on_its_way is not None
        assert await super().create(*self.on_its_way)


async def test_foreign_and_unreadable_objects_among_units_do_no_harm(lab: UnitLab, one: Hand) -> None:
    job = await lab.parked(one)
    units = keys.units_of_request(job.request)
    for key in ("x", "0/x", "0/c0000/x", "0/c9999/0", "0/c9999/end", "9/c0000/0", "00/plan"):
        await lab.raw.put(units + key, b"{}")
    await lab.raw.put(keys.unit_lease(job.request, 0, keys.chunk(1), 0), b"{}")
    lab.clock.advance(1)

    view = await lab.view(one, job)

    assert set(view.units) == set(lab.plan(job).units)
    assert view.count(UnitState.FREE) == CHUNKS + 1
    assert view.count(UnitState.HELD) == 1


async def test_a_watched_lease_is_read_once(lab: UnitLab, one: Hand, two: Hand) -> None:
    fault = Fault(10**6, crash, after_the_call=False)
    watcher = lab.hand("watcher", fault=fault)
    job = await lab.parked(one)
    claim = await lab.claim_unit(one, job, CHUNK)
    lab.clock.advance(1)
    await watcher.units.view(job)
    before = fault.calls

    for _ in range(5):
        await one.units.renew(claim)
        lab.clock.advance(1)
        await watcher.units.view(job)

    assert fault.calls - before == 5  # LISTs


async def _strike_every_call(raises: Callable[[], BaseException]) -> None:
    """Fail a worker that does a whole divided job at each of its store calls, from the first to the last."""
    at_call, struck = 0, True
    while struck:
        at_call += 1
        lab = UnitLab()
        job = await lab.add_job()
        fault = Fault(at_call, raises, after_the_call=True)
        try:
            await lab.work(lab.hand("struck", fault=fault))
        except (WorkerCrashed, StoreError):
            await lab.let_others_finish()
        struck = fault.struck
        await lab.assert_joined_and_clean(job)
    assert at_call > 50


async def test_a_worker_killed_after_any_store_call_loses_nothing_and_leaves_nothing() -> None:
    await _strike_every_call(crash)


async def test_a_response_lost_at_any_store_call_loses_nothing_and_leaves_nothing() -> None:
    await _strike_every_call(lost_answer)


@pytest.mark.parametrize("raises", [crash, lost_answer])
async def test_a_failure_struck_at_any_store_call_fails_the_request_and_leaves_nothing(
    raises: Callable[[], BaseException],
) -> None:
    at_call, struck = 0, True
    while struck:
        at_call += 1
        lab = UnitLab()
        job = await lab.parked(lab.hand("one"))
        fault = Fault(at_call, raises, after_the_call=True)
        dying = lab.hand("struck", fault=fault)
        try:
            await dying.units.fail(await lab.claim_unit(dying, job, CHUNK), BROKEN)
        except (WorkerCrashed, StoreError):
            lab.clock.advance(LEASE_SECONDS + 1)
            heir = lab.hand("heir")
            view = await heir.units.view(job)
            if view is not None and (unit := await heir.units.claim(view, CHUNK)):
                await heir.units.fail(unit, BROKEN)
            await lab.let_others_finish()
        struck = fault.struck
        await lab.sweep()
        assert await lab.raw_keys() == [keys.dead_letter(job.request), keys.upload(job.id)]
        assert not any(keys.run_of_key(job.id, key) for key in await lab.video_keys())
        assert (await lab.status(job)).error == BROKEN
    assert at_call > 10


async def test_a_deletion_struck_at_any_call_of_a_worker_leaves_nothing() -> None:
    at_call, deleted = 0, True
    while deleted:
        at_call += 1
        lab = UnitLab()
        job = await lab.add_job()
        fault = Fault(at_call, crash, after_the_call=True)
        try:
            await lab.work(lab.hand("struck", fault=fault))
        except WorkerCrashed:
            await delete_video(lab.buckets, job.id)
            await lab.let_others_finish()
            await lab.sweep()
            assert await lab.raw_keys() == await lab.video_keys() == []
        deleted = fault.struck
