"""A worker: the product's job runner and queues.

What `asyncio` does in the product (tasks side by side, time-outs, cancellation) is done here by the
scheduler's `Race`, `Together` and `Rest`; all else is the product's code.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from backend.core import keys
from backend.core.errors import AttemptFailed, ObjectNotFound, StoreError, VodbucketError
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import PlannedJob, QueueSnapshot
from backend.core.jobs.unit_view import UnitState, UnitView
from backend.core.jobs.units import UnitQueue
from backend.core.records import UnitKind, UnitOutputs, UnitPlan
from tests.simulation.attempts import find_source, insist, keep_lease, ride_out, until_stopped, work_a_while
from tests.simulation.pipeline import Pipeline
from tests.simulation.scheduler import Process, Race, Rest, Together
from tests.simulation.stage import Stage
from tests.simulation.unit_invariants import SEAM
from tests.simulation.units import UnitRunner
from worker.run.job import JobRunner
from worker.run.poller import SNAPSHOT_SECONDS
from worker.run.status import StatusWriter
from worker.transcode.transcoder import Transcoded

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
REPLAN_AFTER = timedelta(minutes=10)
"""If nobody who encodes as the plan says has worked on the units for this long, another worker plans anew."""

WAIT_SECONDS = 5.0
"""Between looks at units that a join waits for."""

GiveBack = Callable[[], Awaitable[object]]
"""Ends a claim without an outcome."""


class GivenBack(BaseException):
    """The job was parked or released: there is nothing to publish, and nothing failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner(JobRunner):
    """The product's job runner. What needs an event loop is replaced; planning and joining are added."""

    stage: Stage
    process: Process
    units: UnitQueue
    encoder: str

    async def _run(self, claim: Claim, stop: asyncio.Event) -> None:
        with suppress(GivenBack):
            await JobRunner._run(self, claim, stop)

    async def _transcode(self, claim: Claim, stop: asyncio.Event, status: StatusWriter) -> Transcoded:
        made: Transcoded | GiveBack = await Race(
            (
                self._attempt(claim, status),
                keep_lease(self.stage, lambda: self.queue.renew(claim)),
                until_stopped(),
                self._write_status(status),
            )
        )
        if isinstance(made, Transcoded):
            return made
        await self._insist(claim, made, stop)
        raise GivenBack

    async def _insist(self, claim: Claim, end: Callable[[], Awaitable[None]], stop: asyncio.Event) -> bool:
        return await insist(self.stage, self.process, end, lambda: self.queue.hold(claim))

    async def _write_status(self, status: StatusWriter) -> None:
        while True:
            with suppress(StoreError):
                await status.write()
            await Rest(self.status_every_seconds)

    async def _attempt(self, claim: Claim, status: StatusWriter) -> Transcoded | GiveBack:
        lease, rng = claim.lease, self.stage.rng
        if lease.plan is not None:
            return await self._join(claim)
        if lease.whole or (chunks := self.stage.chunks_of(lease.job.id)) == 0:
            if not lease.whole and rng.random() < 0.5:
                return partial(self.queue.release, claim, retry_after_seconds=0, whole=True)
            return await self.pipeline.run(lease.job, lease.run, status.report)
        await find_source(self.stage, lease.job.source)
        await work_a_while(self.stage)
        plan = self._new_plan(claim, 0, chunks, keys.look_name(claim.request, self.stage.token()))
        return partial(self.queue.park, claim, plan)

    def _new_plan(self, claim: Claim, number: int, chunks: int, look: str) -> UnitPlan:
        return UnitPlan(
            request=claim.request,
            number=number,
            chunks=chunks,
            look=look,
            has_look=self.stage.rng.random() < 0.8,
            work=keys.run_name(claim.request, 0, self.stage.token()),
            encoder=self.encoder,
            details="{}",
        )

    def _replanned(self, claim: Claim, view: UnitView) -> GiveBack:
        plan = self._new_plan(claim, view.plan.number + 1, view.plan.chunks, view.plan.look)
        return partial(self.queue.park, claim, plan)

    async def _join(self, claim: Claim) -> Transcoded | GiveBack:
        job = claim.lease.job
        while True:
            view = await ride_out(lambda: self.units.view(job))
            if view is None:
                raise AttemptFailed("The plan is gone.")
            if self.must_replan(view):
                return self._replanned(claim, view)
            if not view.is_joinable:
                return partial(self.queue.release, claim, retry_after_seconds=0)
            if self.is_complete(view):
                break
            await Rest(WAIT_SECONDS)
        parts, configs = [b""], set()
        ends = await ride_out(lambda: self.units.ends(view))
        for unit in view.plan.units:
            if unit != keys.LOOK and isinstance(end := ends.get(unit), UnitOutputs):
                parts += await self._stored(view, end)
                configs |= {stored.config for stored in end.objects if unit != keys.SIDES}
        if not self.may_be_joined(configs):
            if self.stage.rng.random() < 0.3:
                return partial(self.queue.release, claim, retry_after_seconds=0, whole=True)
            return self._replanned(claim, view)
        return await self.pipeline.write(job, claim.lease.run, SEAM.join(parts))

    async def _stored(self, view: UnitView, end: UnitOutputs) -> list[bytes]:
        prefix = await self.outputs_of(view, end)
        get = self.stage.buckets.video.get
        try:
            return [(await ride_out(partial(get, prefix + one.name))).body for one in end.objects]
        except ObjectNotFound:
            raise AttemptFailed("What a unit stored is gone.") from None

    def must_replan(self, view: UnitView) -> bool:
        return (
            not self.encodes(view.plan)
            and view.quiet_for > REPLAN_AFTER
            and view.count(UnitState.ENDED, UnitState.HELD) < len(view.units)
        )

    # What mutants change

    def encodes(self, plan: UnitPlan) -> bool:
        """Return whether this worker encodes as the plan says."""
        return plan.encoder == self.encoder

    def may_be_joined(self, configs: set[str]) -> bool:
        return len(configs) <= 1

    def is_complete(self, view: UnitView) -> bool:
        return view.count(UnitState.ENDED) == len(view.units)

    async def outputs_of(self, view: UnitView, end: UnitOutputs) -> str:
        """Return the prefix of what this end names."""
        return keys.unit_outputs(view.job.id, view.plan.work, end.unit, end.token)


Work = Callable[[], Awaitable[None]]
LIGHT = frozenset({UnitKind.LOOK, UnitKind.SIDES})
HEAVY = frozenset({UnitKind.CHUNK})


class Poller:
    """Shares one snapshot of the queue between the slots of a worker, as `worker.run.poller` does."""

    def __init__(self, stage: Stage, runner: Runner, unit_runner: UnitRunner) -> None:
        self._stage = stage
        self._runner = runner
        self._unit_runner = unit_runner
        self._snapshot: QueueSnapshot | None = None
        self._polled_at = 0.0
        self._nothing_left = False

    async def next(self, *, encodes: bool) -> Work | None:
        """Claim a job or a unit for a slot that encodes, or for one that does all else.

        Raises: NothingLeft: there will be no more faults, and the queue is empty.
        """
        silent_too = self._stage.rng.random() < 0.9
        snapshot = await self._usable_snapshot(encodes)
        claim = await self._runner.queue.claim(snapshot, silent_too=silent_too, whole=encodes)
        if claim is not None:
            return partial(self._runner._run, claim, asyncio.Event())
        for planned in self._stage.rng.sample(snapshot.planned, len(snapshot.planned)):
            if (work := await self._help(planned, encodes=encodes, silent_too=silent_too)) is not None:
                return work
        return None

    async def _usable_snapshot(self, encodes: bool) -> QueueSnapshot:
        scheduler, snapshot = self._stage.scheduler, self._snapshot
        is_old = scheduler.now - self._polled_at > SNAPSHOT_SECONDS
        if snapshot is None or is_old or not snapshot.has_jobs(whole=encodes):
            self._snapshot = None
            snapshot = await self._runner.queue.poll()
            self._snapshot, self._polled_at = snapshot, scheduler.now
            self._nothing_left |= snapshot.is_empty and scheduler.faults.over
        if self._nothing_left:  # for all slots: none may be left alone with work that is not for it
            raise NothingLeft
        return snapshot

    async def _help(self, planned: PlannedJob, *, encodes: bool, silent_too: bool) -> Work | None:
        """Claim a unit of this video or, if they are ready, the video to join them."""
        view = await self._runner.units.view(planned.lease.job)
        if view is not None and (not encodes or self._runner.encodes(view.plan)):
            kinds = HEAVY if encodes else LIGHT
            unit = await self._runner.units.claim(view, kinds, silent_too=silent_too)
            if unit is not None:
                return partial(self._unit_runner.run, unit)
        if encodes or not planned.is_parked:
            return None
        if view is None or view.is_joinable or self._runner.must_replan(view):
            claim = await self._runner.queue.take_parked(planned)
            if claim is not None:
                return partial(self._runner._run, claim, asyncio.Event())
        return None


class NothingLeft(Exception):
    pass


async def work(
    stage: Stage, process: Process, *, runner_class: type[Runner] = Runner, encoders: str = "a"
) -> None:
    """Behave like `worker.run.loop` until asked to stop or until nothing is left.

    `encoders`: which encoder this worker may find when it starts.
    """
    encoder = stage.rng.choice(encoders)
    queue = stage.queue(process)
    units = stage.units(process, queue)
    runner = runner_class(
        queue,
        Pipeline(stage),
        stage.buckets.video,
        lease_seconds=stage.plan.lease_seconds,
        max_attempts=stage.plan.max_attempts,
        patience_seconds=stage.plan.patience_seconds,
        status_every_seconds=20,
        stage=stage,
        process=process,
        units=units,
        encoder=encoder,
    )
    poller = Poller(stage, runner, UnitRunner(stage, process, units, encoder))
    kinds = (False, *(True,) * stage.plan.slots)
    await Together(tuple(_slot(poller, process, encodes=encodes) for encodes in kinds))


async def _slot(poller: Poller, process: Process, *, encodes: bool) -> None:
    pause = FIRST_PAUSE_SECONDS
    while not process.stopping:
        try:
            work = await poller.next(encodes=encodes)
        except NothingLeft:
            return
        except StoreError:
            work = None
        if work is None:
            await Rest(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        else:
            pause = FIRST_PAUSE_SECONDS
            with suppress(VodbucketError):  # JobRunner logs it; the lease runs out
                await work()
