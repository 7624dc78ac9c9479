"""Mutants of units: like `tests.simulation.mutants`, each breaks one step on purpose."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from backend.core import keys
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import QueueSnapshot
from backend.core.jobs.unit_view import UnitClaim
from backend.core.jobs.units import UnitQueue
from backend.core.records import DeadLetter, Job, Outputs, StatusError
from backend.core.unit_records import UnitEnd, UnitOutputs, UnitPlan
from tests.simulation.faults import Fate
from tests.simulation.mutants import LeasesDeletedFirst, Mutant, Overwriting
from tests.simulation.schedule import Protocol
from tests.simulation.units import Joiner, Planner
from tests.simulation.workers import Kind
from worker.run.slots import Finder, Task
from worker.units.division import Division

# Stores


class OverwritingPlans(Overwriting):
    part = "^units/.*/plan$"


class OverwritingEnds(Overwriting):
    part = "^units/.*/end$"


class OverwritingUnitLeases(Overwriting):
    part = r"^units/.*/\d+$"


# Units


class OwnClock(UnitQueue):
    """Computes the age of a unit's lease by the worker's clock."""

    async def _list(self, request: str) -> Any:
        return replace(await super()._list(request), store_now=self._jobs._now())


class PlanNotMissed(UnitQueue):
    """Does not notice in a heartbeat that the plan is gone."""

    async def renew(self, claim: UnitClaim) -> None:
        await self._buckets.raw.put(claim.key, claim.lease.to_json())
        if (await self._list(claim.job.request)).plan is not None:
            await self._check(claim)


class EndUnseen(UnitQueue):
    """Ends a unit and does not look whether the plan still counts."""

    async def _end(self, claim: UnitClaim, end: UnitEnd) -> bool:
        key = keys.unit_end(claim.job.request, claim.plan.number, claim.unit)
        return await self._buckets.raw.create(key, end.to_json())


class DoubtForgotten(UnitQueue):
    """Deletes what an attempt stored although its end, whose response was lost, may still take effect."""

    @property
    def _in_doubt(self) -> set[str]:
        return set()

    @_in_doubt.setter
    def _in_doubt(self, tokens: set[str]) -> None:
        pass


# Jobs


class ParkedTakenAsDue(JobQueue):
    """Takes parked jobs as if they had been released."""

    async def poll(self) -> QueueSnapshot:
        snapshot = await super().poll()
        snapshot._due += [(one.seen, one.lease) for one in snapshot.planned if one.is_parked]
        return snapshot


class FailureReplacesTheOutcome(JobQueue):
    """Ends the request of a failed unit without checking whether it has an outcome."""

    async def fail(self, job: Job, error: StatusError, attempts: int) -> bool:
        letter = DeadLetter(job=job, error=error, attempts=attempts, failed_at=self._now())
        await self._buckets.video.put(keys.result(job.id, job.request), letter.to_json())
        await self._finish(job, letter)
        return True


class LookDeletedOnPublication(JobQueue):
    """Deletes the look while it is being watched."""

    async def _finish_published(self, job: Job, outputs: Outputs) -> None:
        await super()._finish_published(job, outputs)
        await self._delete_outputs(keys.looks_of_request(job.id, job.request))


# Workers


class JoinsTooEarly(Joiner):
    """Joins what is there."""

    def is_complete(self, plan: UnitPlan, ended: Mapping[str, UnitEnd]) -> bool:
        return True


class JoinsTheFirst(Joiner):
    """Joins what was stored first instead of what the ends name."""

    async def outputs_of(self, job: Job, plan: UnitPlan, end: UnitOutputs) -> str:
        prefix = keys.unit_outputs(job.id, plan.work, end.unit, "").removesuffix("/")
        found = [info async for info in self.stage.buckets.video.list_all(prefix)]
        return min(found, key=lambda info: info.modified).key.rpartition("/")[0] + "/"


class JoinsAnything(Joiner):
    """Joins chunks whatever they were encoded with."""

    def are_alike(self, configs: set[str]) -> bool:
        return True


class EncodesAnything(Finder):
    """Claims chunks whatever the plan says."""

    async def encoding(self, snapshot: QueueSnapshot, *, silent_too: bool) -> Task | None:
        self._encoder = _Any()
        return await super().encoding(snapshot, silent_too=silent_too)


class _Any(str):
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


class ReplansInPlace(Division):
    """Replaces a plan under its number."""

    async def _park(self, claim: Claim, plan: UnitPlan) -> None:
        if plan.number == 0:
            await super()._park(claim, plan)
            return
        number = plan.number - 1
        raw = cast(Planner, self.planner).stage.buckets.raw
        await raw.put(keys.unit_plan(claim.request, number), plan.replace(number=number).to_json())
        await self.queue.release(claim, retry_after_seconds=0)


class LooksByItsOwnPlan(Division):
    """Makes the look of the plan that it made, although an earlier holder's plan may count."""

    async def _park(self, claim: Claim, plan: UnitPlan) -> None:
        await self.queue.park(claim, plan)
        await self.on_plan(claim.lease.job, plan)


_STOPPED = frozenset({Fate.STOP})
_FROZEN = frozenset({Fate.FREEZE_BEFORE, Fate.FREEZE_AFTER})

_MUTANTS = (
    Mutant(
        "plan not create-only", Protocol(store_class=OverwritingPlans, often=_FROZEN), "plan was replaced"
    ),
    Mutant("end not create-only", Protocol(store_class=OverwritingEnds, often=_FROZEN), "end was replaced"),
    Mutant(
        "unit's lease not create-only",
        Protocol(store_class=OverwritingUnitLeases),
        "two holders of one generation: units",
    ),
    Mutant(
        "units by the worker's own clock",
        Protocol(units_class=OwnClock),
        "units/.* took over from a worker that had been silent",
    ),
    Mutant(
        "missing plan unnoticed", Protocol(units_class=PlanNotMissed), "heartbeat did not notice that .* gone"
    ),
    Mutant("no look after the end", Protocol(units_class=EndUnseen), "the end of .* did not notice"),
    Mutant(
        "doubtful end forgotten",
        Protocol(units_class=DoubtForgotten, often=_STOPPED, aimed=(Fate.LATE, "create")),
        "an output of a finished unit is gone|was created without",
    ),
    Mutant("joined too early", Protocol(worker=Kind(joiner=JoinsTooEarly)), "is not what the units"),
    Mutant(
        "first instead of ended",
        Protocol(worker=Kind(joiner=JoinsTheFirst), aimed=(Fate.CRASH_BEFORE, "create raw units/.*/end")),
        "is not what the units",
    ),
    Mutant(
        "encoders mixed",
        Protocol(worker=Kind(joiner=JoinsAnything, finder=EncodesAnything)),
        "mixes encoders",
    ),
    Mutant("plan replaced in place", Protocol(worker=Kind(division=ReplansInPlace)), "plan was replaced"),
    Mutant(
        "look of its own plan",
        Protocol(worker=Kind(division=LooksByItsOwnPlan), often=_STOPPED | _FROZEN),
        "another plan than the one that counts",
    ),
    Mutant("parked taken as due", Protocol(ParkedTakenAsDue), "joined before its sides were done"),
    Mutant(
        "failure of a unit replaces the outcome",
        Protocol(FailureReplacesTheOutcome, often=_FROZEN),
        "the outcome .* was replaced",
    ),
    Mutant("look deleted on publication", Protocol(LookDeletedOnPublication), "viewers may still watch"),
    Mutant(
        "units deleted after the leases", Protocol(LeasesDeletedFirst), "outlives the leases of its request"
    ),
)
UNIT_MUTANTS = tuple(mutant.with_chunks(1, 2, 3) for mutant in _MUTANTS)
