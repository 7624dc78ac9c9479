"""What each outcome of a unit does to the unit and its job."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed, MachineFault, SourceRejected, StoreUnavailable
from backend.core.jobs.unit_view import SeenUnit, UnitClaim, UnitState
from backend.core.records import Job
from backend.core.unit_records import UnitFailure, UnitKind, UnitObject, UnitOutputs, UnitPlan
from tests.core.jobs.queue_lab import LEASE_SECONDS
from tests.core.jobs.unit_lab import Hand, UnitLab
from worker.run.heartbeat import Heartbeat
from worker.run.outcomes import MAX_OUTAGES, Attempts
from worker.run.unit_job import UnitRunner

KINDS = frozenset({UnitKind.CHUNK})
FAILURES = (AttemptFailed("no"), RuntimeError("a bug"))


@dataclass
class Maker:
    """A fake: stores one object, then does what the test says."""

    hand: Hand
    ends: Callable[[], None] | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, claim: UnitClaim) -> UnitOutputs:
        await self.hand.video.put(claim.outputs + "x.mp4", b"x")
        self.started.set()
        if self.ends is None:
            await asyncio.Event().wait()
        else:
            self.ends()
        made = UnitObject(name="x.mp4", size_bytes=1)
        return UnitOutputs(unit=claim.unit, token=claim.lease.token, objects=(made,))


def raising(error: Exception) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


@dataclass
class Ended:
    """Notes which units have ended."""

    jobs: list[str] = field(default_factory=list)

    async def __call__(self, job: Job, plan: UnitPlan) -> None:
        self.jobs.append(job.request)


def runner(hand: Hand, maker: Maker, *, lease_seconds: float = 60, on_end: Ended | None = None) -> UnitRunner:
    return UnitRunner(
        hand.units, maker, on_end or Ended(), Attempts(Heartbeat(lease_seconds), max_attempts=3)
    )


@pytest.fixture
def lab() -> UnitLab:
    return UnitLab()


async def claimed(hand: Hand, job: Job) -> UnitClaim:
    view = await hand.units.view(job)
    assert view is not None
    claim = await hand.units.claim(view, KINDS)
    assert claim is not None
    return claim


async def seen(hand: Hand, claim: UnitClaim) -> SeenUnit:
    view = await hand.units.view(claim.job)
    assert view is not None
    return view.units[claim.unit]


async def test_unit_that_is_done_ends(lab: UnitLab) -> None:
    hand, ended = lab.hand("one"), Ended()
    job = await lab.parked(hand)
    claim = await claimed(hand, job)

    await runner(hand, Maker(hand, lambda: None), on_end=ended)(claim, asyncio.Event())

    assert (await seen(hand, claim)).state is UnitState.ENDED
    assert ended.jobs == [job.request]
    assert (await hand.video.get(claim.outputs + "x.mp4")).body == b"x"


@pytest.mark.parametrize(
    ("error", "attempt", "outages"),
    [*((error, 2, 0) for error in FAILURES), (StoreUnavailable(), 1, 1), (MachineFault("full"), 1, 1)],
)
async def test_failed_attempt_gives_the_unit_back(
    lab: UnitLab, error: Exception, attempt: int, outages: int
) -> None:
    hand = lab.hand("one")
    claim = await claimed(hand, await lab.parked(hand))

    await runner(hand, Maker(hand, raising(error)))(claim, asyncio.Event())
    lab.clock.advance(1)

    unit = await seen(hand, claim)
    assert unit.state is UnitState.WAITING
    assert unit.lease is not None
    assert (unit.lease.attempt, unit.lease.outages) == (attempt, outages)
    assert [info.key async for info in hand.video.list_all(claim.outputs)] == []


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (SourceRejected("broken"), {}),
        (AttemptFailed("no"), {"attempt": 3}),
        (StoreUnavailable(), {"outages": MAX_OUTAGES}),
        (AssertionError("is not even tried"), {"attempt": 4}),
    ],
)
async def test_unit_that_fails_for_good_ends_its_job(
    lab: UnitLab, error: Exception, changes: dict[str, int]
) -> None:
    hand = lab.hand("one")
    job = await lab.parked(hand)
    claim = await claimed(hand, job)
    claim = UnitClaim(claim.job, claim.plan, claim.lease.replace(**changes), claim.generation)

    await runner(hand, Maker(hand, raising(error)))(claim, asyncio.Event())

    assert await hand.units.view(job) is None
    assert (await lab.raw.get(keys.dead_letter(job.request))).body
    assert [info.key async for info in hand.video.list_all(claim.outputs)] == []


async def test_look_that_fails_for_good_only_ends(lab: UnitLab) -> None:
    hand = lab.hand("one")
    job = await lab.parked(hand)
    for attempt in range(1, 4):
        claim = await lab.claim_unit(hand, job, {UnitKind.LOOK})
        assert claim.lease.attempt == attempt
        await runner(hand, Maker(hand, raising(AttemptFailed("no"))))(claim, asyncio.Event())
        lab.clock.advance(60)

    look = keys.unit_end(job.request, 0, keys.LOOK)
    assert UnitFailure.from_json((await lab.raw.get(look)).body).attempts == 3
    await lab.work(hand)
    await lab.assert_joined_and_clean(job)


async def test_stopping_worker_gives_its_unit_back_at_once(lab: UnitLab) -> None:
    hand, stop = lab.hand("one"), asyncio.Event()
    claim = await claimed(hand, await lab.parked(hand))
    maker = Maker(hand)
    running = asyncio.create_task(runner(hand, maker)(claim, stop))
    await maker.started.wait()

    stop.set()
    await running
    lab.clock.advance(1)

    unit = await seen(hand, claim)
    assert unit.state is UnitState.DUE
    assert unit.lease is not None
    assert unit.lease.attempt == 1


async def test_unit_that_another_worker_took_over_is_dropped(lab: UnitLab) -> None:
    hand, other = lab.hand("one"), lab.hand("two")
    job = await lab.parked(hand)
    claim = await claimed(hand, job)
    lab.clock.advance(LEASE_SECONDS + 1)
    view = await other.units.view(job)
    assert view is not None
    while (taken := await other.units.claim(view, KINDS)) is not None and taken.unit != claim.unit:
        pass
    assert taken is not None

    await runner(hand, Maker(hand), lease_seconds=0.03)(claim, asyncio.Event())

    assert (await seen(other, taken)).generation == taken.generation
    assert [info.key async for info in hand.video.list_all(claim.outputs)] == []
