"""A job that is divided, on two in-memory stores: its units are done one after another, without a queue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import Job, StatusError
from backend.core.store.interface import Buckets
from backend.core.unit_records import UnitEnd, UnitFailure, UnitLease, UnitOutputs, UnitPlan
from tests.worker.media_lab import RUN, TOOLS, MediaLab
from worker.transcode.transcoder import Transcoded
from worker.units.attempt import Workshop
from worker.units.join import Joiner
from worker.units.making import UnitMaker
from worker.units.opening import Openings
from worker.units.planner import Planner

CHUNK_SECONDS = 2.0
ENCODER = "test"


@dataclass
class UnitLab(MediaLab):
    """A `MediaLab` whose job is divided."""

    ends: dict[str, UnitEnd] = field(default_factory=dict)
    chunk_seconds: float = CHUNK_SECONDS
    playable: list[str] = field(default_factory=list)
    """Looks that could be played."""

    @property
    def workshop(self) -> Workshop:
        return Workshop(Buckets(self.memory, self.video), TOOLS, self.profile, self.work_dir)

    async def plan(self, job: Job) -> UnitPlan:
        planned = await Planner(self.workshop, ENCODER, self.chunk_seconds).run(job, 0, "l0-1007", "3092")
        assert isinstance(planned, UnitPlan), planned
        return planned

    def claim(self, job: Job, plan: UnitPlan, unit: str, token: str = "70c") -> UnitClaim:
        return UnitClaim(job, plan, UnitLease(unit=unit, owner="test", token=token, attempt=1), 0)

    async def do(self, claim: UnitClaim) -> UnitOutputs:
        """Do one unit and keep its end."""
        end = await UnitMaker(self.workshop, self._tell, Openings(lambda: None)).run(claim)
        self.ends[claim.unit] = end
        return end

    async def _tell(self, job: Job, plan: UnitPlan) -> None:
        self.playable.append(plan.look)

    async def do_all(self, job: Job, plan: UnitPlan) -> None:
        for unit in plan.units:
            try:
                await self.do(self.claim(job, plan, unit))
            except AttemptFailed as error:
                if unit != keys.LOOK:
                    raise
                failure = StatusError(code=error.failure_code, message=error.message)
                self.ends[unit] = UnitFailure(unit=unit, error=failure, attempts=1)

    async def join(self, job: Job, plan: UnitPlan) -> Transcoded:
        async def ends() -> Mapping[str, UnitEnd]:
            return self.ends

        return await Joiner(self.workshop).run(job, plan, RUN, ends, self.reports.append)

    async def transcode_in_units(self, source: Path) -> Transcoded:
        job = await self.job(source.read_bytes())
        plan = await self.plan(job)
        await self.do_all(job, plan)
        return await self.join(job, plan)
