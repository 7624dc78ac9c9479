"""All that a worker asks of the queue: what another engine than the bucket would have to implement.

`backend.core.jobs.job_queue` and `backend.core.jobs.units` implement it on the store alone (docs/queue.md).
Besides the errors it names, every operation may raise `StoreUnavailable` and `StoreDenied`.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Protocol

from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import Needs, PlannedJob, QueueSnapshot
from backend.core.jobs.unit_view import UnitClaim, UnitView
from backend.core.records import Job, Outputs, StatusError
from backend.core.unit_records import UnitEnd, UnitKind, UnitOutputs, UnitPlan


class VideoJobs(Protocol):
    """Jobs: one for each request. A job is claimed to plan it, to do it as a whole, or to join its units."""

    @property
    def lease(self) -> timedelta:
        """How long a worker may be silent before its job or unit may be taken over."""
        ...

    async def poll(self) -> QueueSnapshot:
        """Return what there is to do: waiting jobs, jobs to take over, and jobs that are divided."""
        ...

    async def claim(
        self, snapshot: QueueSnapshot, *, silent_too: bool = True, needs: Needs | None = None
    ) -> Claim | None:
        """Claim a job: one that may be taken over, else a waiting one. None: the snapshot has none left.

        `needs`: only jobs that need this kind of slot next. None: any. A claim whose lease has a plan is that
        of a join that stopped. Parked jobs are never claimed this way.
        """
        ...

    async def renew(self, claim: Claim) -> None:
        """Renew the lease, every third of the lease time. Raises: LeaseLost. VideoDeleted."""
        ...

    async def hold(self, claim: Claim) -> None:
        """Renew the lease, whatever else happened to the job. Raises: LeaseLost."""
        ...

    async def check(self, claim: Claim) -> None:
        """Check that this worker still holds the job, without renewing the lease. Raises: LeaseLost."""
        ...

    async def park(self, claim: Claim, plan: UnitPlan) -> UnitPlan:
        """Divide the job, then give it back until somebody joins it. Returns the plan that counts.

        That is another one if an earlier holder had planned with this number. `plan.number` must be 0, or
        one more than the lease's plan to replace that one.

        Raises:
            LeaseLost
            VideoDeleted: stop, and call `discard_deleted`.
        """
        ...

    async def take_parked(self, planned: PlannedJob) -> Claim | None:
        """Take a parked job to join it. None: it has ended (and was cleaned up), or another worker has it."""
        ...

    async def publish(self, claim: Claim, outputs: Outputs) -> bool:
        """Make `outputs` the request's outcome unless it has one, and finish the job. Returns whether it did.

        Raises: StoreUnavailable: the outcome is unknown, and another attempt will find out.
        """
        ...

    async def release(
        self,
        claim: Claim,
        *,
        retry_after_seconds: float,
        error: str | None = None,
        outage: bool = False,
        whole: bool = False,
    ) -> None:
        """Give a job back so that it is tried again. Raises: LeaseLost.

        With `error`, the attempt counts; with `outage`, it counts as an outage. A plan is kept, so that the
        next attempt joins. With `whole`, it no longer counts: the next attempt does everything by itself.
        """
        ...

    async def bury(self, claim: Claim, error: StatusError) -> bool:
        """Make failure the request's outcome unless it has one. Returns whether it did. Raises: LeaseLost."""
        ...

    async def clean_up_lost(self, claim: Claim) -> None:
        """Delete what this worker wrote, after it lost its lease. Finish the job if its request has ended."""
        ...

    async def discard_run(self, claim: Claim) -> None:
        """Delete what this lease's runs wrote, unless a result names one of them or may still come to."""
        ...

    async def discard_deleted(self, claim: Claim) -> None:
        """Clean up a job whose video was deleted while it ran."""
        ...


class UnitJobs(Protocol):
    """The units of parked jobs: look, sides and chunks."""

    async def view(self, job: Job) -> UnitView | None:
        """Return the job's units. None: there is no plan (any more); if the job is parked, take it."""
        ...

    async def claim(
        self, view: UnitView, kinds: Collection[UnitKind], *, silent_too: bool = True
    ) -> UnitClaim | None:
        """Claim one of the view's units of these kinds. None: there is none, or others were faster."""
        ...

    async def renew(self, claim: UnitClaim) -> None:
        """Renew the lease, every third of the lease time.

        Raises:
            LeaseLost: another worker has the unit or has ended it, there is a later plan, or the request has
                ended. Stop, and call `discard`.
        """
        ...

    async def finish(self, claim: UnitClaim, outputs: UnitOutputs) -> bool:
        """Make `outputs` the unit's end. False: it has another end, or the request has ended: `discard`.

        Raises: StoreUnavailable: the end is unknown. Repeat it with the same outputs.
        """
        ...

    async def fail(self, claim: UnitClaim, error: StatusError) -> bool:
        """Give the unit up for good. Returns whether this did.

        A look only ends. Any other unit takes its request along, as `VideoJobs.bury` does.

        Raises: LeaseLost: call `discard`.
        """
        ...

    async def release(
        self, claim: UnitClaim, *, retry_after_seconds: float, error: str | None = None, outage: bool = False
    ) -> None:
        """Give the unit back, as `VideoJobs.release`. Raises: LeaseLost: call `discard`."""
        ...

    async def discard(self, claim: UnitClaim) -> None:
        """Delete what this attempt stored, unless the unit's end names it or may still come to.

        What a look stored is deleted only with its request: the next attempt continues from it.
        """
        ...

    async def ends(self, view: UnitView) -> Mapping[str, UnitEnd]:
        """Return the ends of all units that have ended in this view. Each is read once."""
        ...
