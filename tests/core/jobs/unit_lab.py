"""Fixtures of the tests of units: workers that do whatever there is to do, and what must be left."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from backend.core import keys
from backend.core.errors import LeaseLost, VideoDeleted
from backend.core.jobs.interface import UnitJobs, VideoJobs
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import PlannedJob
from backend.core.jobs.unit_view import UnitClaim, UnitView
from backend.core.jobs.units import UnitQueue
from backend.core.records import Job, Outputs
from backend.core.store.interface import Store
from backend.core.sweep.sweeper import SweepRules, sweep
from backend.core.unit_records import UnitKind, UnitObject, UnitOutputs, UnitPlan
from tests.core.jobs.queue_lab import LEASE_SECONDS, Fault, Lab

CHUNKS = 2
PICTURE = b"".join(keys.chunk(number).encode() for number in range(CHUNKS))
"""What the published picture must be: all chunks in order, each once."""


@dataclass(frozen=True, slots=True)
class Hand:
    """A worker, and the bucket that it writes outputs to."""

    jobs: VideoJobs
    units: UnitJobs
    video: Store


class UnitLab(Lab):
    """Buckets, clock and workers of one test of units."""

    def hand(self, name: str, *, fault: Fault | None = None) -> Hand:
        buckets = self.buckets if fault is None else self.faulty(fault)
        jobs = JobQueue(buckets, owner=name, lease_seconds=LEASE_SECONDS, now=self.clock)
        return Hand(jobs, UnitQueue(buckets, jobs, owner=name), buckets.video)

    def plan(self, job: Job, number: int = 0, *, has_look: bool = True) -> UnitPlan:
        return UnitPlan(
            request=job.request,
            number=number,
            chunks=CHUNKS,
            look=keys.look_name(job.request, "aa"),
            has_look=has_look,
            work=keys.run_name(job.request, 0, "bb"),
            encoder="software",
            details="{}",
        )

    async def parked(self, hand: Hand) -> Job:
        """Add a job and divide it."""
        job = await self.add_job()
        await hand.jobs.park(await self.claimed_by(hand), self.plan(job))
        self.clock.advance(1)
        return job

    async def claimed_by(self, hand: Hand) -> Claim:
        claim = await hand.jobs.claim(await hand.jobs.poll())
        assert claim is not None
        return claim

    async def planned(self, hand: Hand) -> PlannedJob:
        """Return the only divided job."""
        (planned,) = (await hand.jobs.poll()).planned
        return planned

    async def view(self, hand: Hand, job: Job) -> UnitView:
        view = await hand.units.view(job)
        assert view is not None
        return view

    async def claim_unit(
        self, hand: Hand, job: Job, kinds: Collection[UnitKind] = tuple(UnitKind)
    ) -> UnitClaim:
        claim = await hand.units.claim(await self.view(hand, job), kinds)
        assert claim is not None
        return claim

    async def store_unit(self, hand: Hand, claim: UnitClaim) -> UnitOutputs:
        """Write a unit's objects as a worker does, and return their record."""
        if claim.kind is not UnitKind.CHUNK:
            look = keys.run_prefix(claim.job.id, claim.plan.look)
            name = keys.MASTER_PLAYLIST if claim.kind is UnitKind.LOOK else keys.POSTER
            await hand.video.put(look + name, b"x")
        if claim.kind is UnitKind.LOOK:
            return UnitOutputs(unit=claim.unit, token=claim.lease.token)
        body = claim.unit.encode()
        await hand.video.put(claim.outputs + "h264.mp4", body)
        stored = UnitObject(name="h264.mp4", size_bytes=len(body), frames=1)
        return UnitOutputs(unit=claim.unit, token=claim.lease.token, objects=(stored,))

    async def do_unit(self, hand: Hand, claim: UnitClaim) -> bool:
        """Return whether this attempt became the unit's end."""
        try:
            outputs = await self.store_unit(hand, claim)
            await hand.units.renew(claim)
            ours = await hand.units.finish(claim, outputs)
        except LeaseLost:
            ours = False
        if not ours:
            await hand.units.discard(claim)
        return ours

    async def join(self, hand: Hand, claim: Claim, view: UnitView) -> Outputs:
        """Put the chunks together in order and publish them."""
        picture = b""
        for unit, end in (await hand.units.ends(view)).items():
            if isinstance(end, UnitOutputs) and unit not in {keys.LOOK, keys.SIDES}:
                prefix = keys.unit_outputs(claim.lease.job.id, view.plan.work, unit, end.token)
                for stored in end.objects:
                    picture += (await hand.video.get(prefix + stored.name)).body
        outputs = await self.write_outputs(claim, hand.video)
        await hand.video.put(keys.run_prefix(outputs.id, outputs.run) + "media/1.m4s", picture)
        await hand.jobs.renew(claim)
        await hand.jobs.publish(claim, outputs)
        return outputs

    async def round(self, hand: Hand) -> bool:
        """Do one thing. Returns whether there was anything to do."""
        self.clock.advance(1)
        snapshot = await hand.jobs.poll()
        claim = await hand.jobs.claim(snapshot)
        if claim is not None:
            await self._go_on(hand, claim)
            return True
        for planned in snapshot.planned:
            view = await hand.units.view(planned.lease.job)
            if view is None:
                claim = await hand.jobs.take_parked(planned)
                assert claim is None, "the request of a parked job without a plan has ended"
            elif unit := await hand.units.claim(view, UnitKind):
                await self.do_unit(hand, unit)
            elif view.is_joinable and (claim := await hand.jobs.take_parked(planned)):
                await self._go_on(hand, claim)
            else:
                continue
            return True
        return False

    async def _go_on(self, hand: Hand, claim: Claim) -> None:
        try:
            if claim.lease.plan is None:
                await hand.jobs.park(claim, self.plan(claim.lease.job))
                return
            view = await hand.units.view(claim.lease.job)
            if view is not None and view.is_joinable:
                await self.join(hand, claim, view)
            else:
                await hand.jobs.release(claim, retry_after_seconds=0)
        except LeaseLost:
            await hand.jobs.clean_up_lost(claim)
        except VideoDeleted:
            await hand.jobs.discard_deleted(claim)

    async def work(self, hand: Hand) -> None:
        """Do all that there is to do."""
        while await self.round(hand):
            pass

    async def let_others_finish(self) -> None:
        for name in ("second", "third"):
            self.clock.advance(LEASE_SECONDS + 1)
            await self.work(self.hand(name))

    async def assert_joined_and_clean(self, job: Job) -> None:
        """Check that all chunks were published, and that the look and leftovers of crashes can be swept."""
        outputs = await self.result(job)
        run = keys.run_prefix(job.id, outputs.run)
        assert (await self.video.get(run + "media/1.m4s")).body == PICTURE
        assert await self.video.get(keys.run_prefix(job.id, self.plan(job).look) + keys.POSTER)
        await self.sweep()
        await self.assert_published_and_clean(job)

    async def sweep(self) -> None:
        rules = SweepRules(grace=timedelta(days=1))
        self.clock.advance(90_000)
        await sweep(self.buckets, self.worker("sweeper"), rules)
