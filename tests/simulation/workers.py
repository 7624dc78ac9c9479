"""A worker: the product's queues, and what it runs on them (`worker.run`, `worker.units.division`).

What `asyncio` does in the product (tasks side by side, time-outs, cancellation) is done here by the
scheduler's `Race`, `Together` and `Rest`; all else is the product's code, except what encodes and joins.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from backend.core.errors import StoreError, VodbucketError
from backend.core.jobs.snapshot import QueueSnapshot
from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import FetchKind, Job
from backend.core.unit_records import UnitPlan
from tests.simulation.attempts import SimulatedHeartbeat, until_stopped
from tests.simulation.fetching import Server, SimulatedFetching, SimulatedSink
from tests.simulation.pipeline import Pipeline
from tests.simulation.scheduler import Process, Race, Rest, Together
from tests.simulation.stage import Stage
from tests.simulation.units import Joiner, Maker, Planner, UnitStatus
from worker.run.job import JobRunner, JobWork
from worker.run.outcomes import Attempts, Ending, Work
from worker.run.poller import SNAPSHOT_SECONDS, Find
from worker.run.slots import Finder, Task
from worker.run.status import StatusWriter
from worker.run.unit_job import UnitRunner, UnitWork
from worker.units.division import Capacity, Division

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
STATUS_SECONDS = 20.0
T = TypeVar("T")


class SimulatedAttempts(Attempts):
    """The product's outcomes. Only what needs an event loop is replaced."""

    async def _guarded(self, work: Work, stop: asyncio.Event) -> Ending:
        ending: Ending = await Race((self._made(work), self.heartbeat.keep(work.renew), until_stopped()))
        return ending


class SimulatedStatus(StatusWriter):
    """As `SimulatedAttempts`."""

    async def beside(self, work: Coroutine[Any, Any, T]) -> T:
        made: T = await Race((work, self._write_often()))
        return made

    async def _write_often(self) -> None:
        while True:
            with suppress(StoreError):
                await self.write()
            await Rest(STATUS_SECONDS)


@dataclass(frozen=True, slots=True)
class Kind:
    """The parts of a worker that mutants replace."""

    division: type[Division] = Division
    joiner: type[Joiner] = Joiner
    finder: type[Finder] = Finder
    sink: type[SimulatedSink] = SimulatedSink


class Worker:
    """One process. Its slots share a snapshot of the queue, as `worker.run.poller` has it."""

    def __init__(self, stage: Stage, process: Process, kind: Kind, encoder: str) -> None:
        plan, queue = stage.plan, stage.queue(process)
        units, heartbeat = (
            stage.units(process, queue),
            SimulatedHeartbeat(plan.lease_seconds, plan.patience_seconds, stage=stage, process=process),
        )
        pipeline, self._capacity = Pipeline(stage), Capacity(plan.slots)

        async def on_plan(job: Job, plan: UnitPlan) -> None:
            for finder in self._finders:
                finder.add(job, plan)

        division = kind.division(
            queue,
            units,
            cast(Any, pipeline),
            cast(Any, Planner(stage, encoder)),
            cast(Any, kind.joiner(stage, pipeline)),
            encoder,
            self._capacity,
            on_plan,
        )
        self._attempts = SimulatedAttempts(heartbeat, plan.max_attempts)
        fetching = SimulatedFetching(
            stage.buckets, {FetchKind.HTTP: Server(stage)}, 0, stage=stage, sink=kind.sink
        )
        self._job = JobRunner(
            queue, pipeline, stage.buckets.video, self._attempts, division=division, fetching=fetching
        )
        maker, status = Maker(stage, process, encoder), UnitStatus(stage, process)
        self._unit = UnitRunner(units, maker, status.write, self._attempts)
        # The product's slots share one, whose lock needs an event loop.
        self._finders = [
            kind.finder(queue, units, encoder, self._capacity, stage.rng) for _ in range(3 + plan.slots)
        ]
        self._stage = stage
        self._process = process
        self._queue = queue
        self._snapshot: QueueSnapshot | None = None
        self._polled_at = 0.0
        self._nothing_left = False

    async def run(self) -> None:
        first, second, third, *others = self._finders
        light = [self._slot(one, partial(one.light, joins=one is second)) for one in (first, second)]
        encode = [self._slot(one, one.encoding, self._capacity) for one in others]
        await Together((*light, self._slot(third, third.fetching), *encode))

    async def _slot(self, finder: Finder, find: Find[Task], taken: Capacity | None = None) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._process.stopping:
            task = None
            with suppress(StoreError):
                snapshot = await self._usable_snapshot()
                if self._nothing_left:
                    return
                task = await find(snapshot, silent_too=self._stage.rng.random() < 0.9)
            if task is None:
                await Rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            await self._handle(task)
            if taken is not None:
                taken.give_back()
                continue
            while not self._process.stopping and (look := await finder.own_look()) is not None:
                await self._handle(look)

    async def _handle(self, task: Task) -> None:
        work: Work
        if isinstance(task, UnitClaim):
            work = UnitWork(self._unit, task)
        else:
            work = JobWork(self._job, task, SimulatedStatus(self._stage.buckets.video, task))
        with suppress(VodbucketError):  # the runners log it; the lease runs out
            await self._attempts.settle(work, asyncio.Event())

    async def _usable_snapshot(self) -> QueueSnapshot:
        scheduler, snapshot = self._stage.scheduler, self._snapshot
        is_old = scheduler.now - self._polled_at > SNAPSHOT_SECONDS
        if snapshot is None or is_old or snapshot.is_used_up:
            self._snapshot = None
            snapshot = await self._queue.poll()
            self._snapshot, self._polled_at = snapshot, scheduler.now
            # For all slots: none may be left alone with work that is not for it.
            self._nothing_left |= snapshot.is_empty and scheduler.faults.over
        return snapshot


async def work(stage: Stage, process: Process, *, kind: Kind, encoders: str = "a") -> None:
    """Behave like a worker until asked to stop or until nothing is left.

    `encoders`: which encoder this worker may find when it starts.
    """
    await Worker(stage, process, kind, stage.rng.choice(encoders)).run()
