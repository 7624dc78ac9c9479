"""However slow the store is, a claim ends: a clean-up may take longer than the time between heartbeats."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from backend.core import keys
from backend.core.errors import SourceRejected
from backend.core.jobs.leases import Claim
from backend.core.records import StatusError
from tests.core.jobs.queue_lab import Fault, WorkerCrashed
from tests.core.jobs.unit_lab import Hand, UnitLab
from tests.core.virtual_time import in_virtual_time
from tests.worker.run.test_job import Pipeline
from tests.worker.run.test_job import runner as job_runner
from tests.worker.run.test_unit_job import Maker, claimed, raising
from tests.worker.run.test_unit_job import runner as unit_runner
from worker.transcode.progress import Progress

REQUEST_SECONDS = 3.0
"""Two heartbeats are 20 s apart, and a clean-up takes more than ten requests."""
LIMIT_SECONDS = 300.0
REJECTED = SourceRejected("A text file.", code="not_media")


class Slow(Fault):
    async def before(self) -> None:
        await asyncio.sleep(REQUEST_SECONDS)


def _slow_worker(lab: UnitLab) -> Hand:
    return lab.hand("slow", fault=Slow(0, WorkerCrashed, after_the_call=False))


async def _assert_failed(lab: UnitLab) -> None:
    left = [key.partition("/")[0] + "/" for key in await lab.raw_keys()]
    assert left == [keys.FAILED, keys.UPLOADS]
    assert not any("/r0" in key or "/l0" in key for key in await lab.video_keys())


@in_virtual_time
async def test_a_rejected_job_ends() -> None:
    lab = UnitLab()
    hand = _slow_worker(lab)
    await lab.add_job()
    claim = await lab.claimed_by(hand)

    async with asyncio.timeout(LIMIT_SECONDS):
        await job_runner(lab, hand.jobs, Pipeline(lab, raising(REJECTED)))(claim, asyncio.Event())

    await _assert_failed(lab)


@in_virtual_time
async def test_the_job_of_a_rejected_unit_ends() -> None:
    lab = UnitLab()
    hand = _slow_worker(lab)
    claim = await claimed(hand, await lab.parked(hand))

    async with asyncio.timeout(LIMIT_SECONDS):
        await unit_runner(hand, Maker(hand, raising(REJECTED)))(claim, asyncio.Event())

    await lab.work(lab.hand("quick"))  # whoever sees the parked job without a plan
    await _assert_failed(lab)


@dataclass
class Dividing:
    """Divides a job that fails meanwhile."""

    lab: UnitLab
    hand: Hand

    async def run(self, claim: Claim, report: Callable[[Progress], None]) -> Callable[[], Awaitable[None]]:
        job = claim.lease.job
        await self.lab.hand("quick").jobs.fail(job, StatusError(code="c", message="m"), attempts=1)

        async def park() -> None:
            await self.hand.jobs.park(claim, self.lab.plan(job))

        return park


@in_virtual_time
async def test_a_job_that_failed_before_it_is_parked_ends() -> None:
    lab = UnitLab()
    hand = _slow_worker(lab)
    await lab.add_job()
    claim = await lab.claimed_by(hand)

    async with asyncio.timeout(LIMIT_SECONDS):
        work = replace(job_runner(lab, hand.jobs, Pipeline(lab)), division=Dividing(lab, hand))
        await work(claim, asyncio.Event())

    await _assert_failed(lab)
