"""What a worker does with a claimed job: divide it, join its units or, if it cannot be divided, all of it."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from secrets import token_hex

import structlog

from backend.core import keys
from backend.core.errors import AttemptFailed, StoreError, VodbucketError
from backend.core.jobs.interface import UnitJobs, VideoJobs
from backend.core.jobs.leases import Claim
from backend.core.jobs.unit_view import UnitState, UnitView
from backend.core.records import Job, UnitEnd, UnitPlan
from worker.transcode.progress import ReportProgress
from worker.transcode.transcoder import Transcoded, Transcoder
from worker.units.join import UNLIKE_CHUNKS, UNLIKE_COPY, Joiner
from worker.units.planner import Planner, Whole

log = structlog.get_logger(__name__)

ABANDONED_AFTER = timedelta(minutes=10)
"""If nobody who encodes as the plan says has worked on the units for this long, nobody will."""
STUCK_AFTER = timedelta(minutes=1)
"""A join that waits for chunks on which nobody has worked for this long is given back: it may be long."""
TOKEN_BYTES = 8

GiveBack = Callable[[], Awaitable[None]]
"""Ends a claim without an outcome: the job goes on elsewhere, or in parts."""


class NotJoinable(VodbucketError):
    """Nobody is working on the chunks that a join waits for."""


class Capacity:
    """How many encodes this worker may run at a time: of chunks, and of whole jobs."""

    def __init__(self, total: int) -> None:
        self._free = total

    def take(self) -> bool:
        """Return whether one more may start. Then `give_back` must follow."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        self._free += 1


def is_abandoned(view: UnitView, encoder: str) -> bool:
    """Return whether the plan's chunks wait for encoders that are no more."""
    ended = view.count(UnitState.ENDED, UnitState.HELD) == len(view.units)
    return view.plan.encoder != encoder and view.quiet_for > ABANDONED_AFTER and not ended


@dataclass(frozen=True, slots=True)
class Division:
    """Handles claimed jobs for `worker.run.job.JobRunner`. `encoder` is this worker's fingerprint."""

    queue: VideoJobs
    units: UnitJobs
    transcoder: Transcoder
    planner: Planner
    joiner: Joiner
    encoder: str
    capacity: Capacity
    on_plan: Callable[[Job, UnitPlan], Awaitable[None]]
    """Is called when a job has been divided."""

    async def run(self, claim: Claim, report: ReportProgress) -> Transcoded | GiveBack:
        """Return the finished outputs, or what to do with the claim instead.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        lease = claim.lease
        if lease.plan is not None:
            return await self._join(claim, report)
        if lease.whole:  # the slot that claimed it has taken the capacity
            return await self.transcoder.run(lease.job, lease.run, report)
        planned = await self._plan(lease.job, 0, keys.look_name(claim.request, token_hex(TOKEN_BYTES)))
        if isinstance(planned, UnitPlan):
            return partial(self._park, claim, planned)
        if planned.is_small:
            return await self.transcoder.run(lease.job, lease.run, report, planned.source)
        if not self.capacity.take():
            return partial(self.queue.release, claim, retry_after_seconds=0, whole=True)
        try:
            return await self.transcoder.run(lease.job, lease.run, report, planned.source)
        finally:
            self.capacity.give_back()

    async def _park(self, claim: Claim, plan: UnitPlan) -> None:
        counts = await self.queue.park(claim, plan)
        with suppress(StoreError):  # it only informs
            await self.on_plan(claim.lease.job, counts)

    async def _join(self, claim: Claim, report: ReportProgress) -> Transcoded | GiveBack:
        job, again = claim.lease.job, partial(self.queue.release, claim, retry_after_seconds=0)
        view = await self._view(job)
        if is_abandoned(view, self.encoder):
            log.warning("plan_abandoned", encoder=view.plan.encoder)
            return partial(again, whole=True)

        async def ends() -> Mapping[str, UnitEnd]:
            current = await self._view(job)
            if not current.is_joinable and current.quiet_for > STUCK_AFTER:
                raise NotJoinable
            return await self.units.ends(current)

        try:
            return await self.joiner.run(job, view.plan, claim.lease.run, ends, report)
        except NotJoinable:
            return again
        except AttemptFailed as error:
            if error.failure_code not in {UNLIKE_CHUNKS, UNLIKE_COPY}:
                raise
            log.warning(error.failure_code, error=error.message)
            if error.failure_code == UNLIKE_COPY:
                planned = await self._plan(job, view.plan.number + 1, view.plan.look)
                if isinstance(planned, UnitPlan):
                    return partial(self._park, claim, planned)
            return partial(again, whole=True)

    async def _plan(self, job: Job, number: int, look: str) -> UnitPlan | Whole:
        return await self.planner.run(job, number, look, token_hex(TOKEN_BYTES))

    async def _view(self, job: Job) -> UnitView:
        view = await self.units.view(job)
        if view is None:
            raise AttemptFailed("The plan is gone.")
        return view
