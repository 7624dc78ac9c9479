"""Does a claimed unit, whichever kind it is."""

from collections.abc import Awaitable, Callable

from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import Job
from backend.core.unit_records import UnitKind, UnitOutputs, UnitPlan
from worker.units.attempt import Workshop
from worker.units.chunk_encoder import ChunkEncoder
from worker.units.details import PlanDetails
from worker.units.look_unit import LookUnitMaker
from worker.units.opening import Openings
from worker.units.sides import SidesMaker


class UnitMaker:
    """Does units, any number at the same time."""

    def __init__(
        self,
        workshop: Workshop,
        on_playable: Callable[[Job, UnitPlan], Awaitable[None]],
        openings: Openings,
    ) -> None:
        """`on_playable` is called when a look can be played."""
        self._looks = LookUnitMaker(workshop, on_playable, openings)
        self._sides = SidesMaker(workshop)
        self._chunks = ChunkEncoder(workshop)

    async def run(self, claim: UnitClaim) -> UnitOutputs:
        """Store what the unit consists of.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        details = PlanDetails.of(claim.plan)
        if claim.kind is UnitKind.LOOK:
            return await self._looks.run(claim, details)
        if claim.kind is UnitKind.SIDES:
            return await self._sides.run(claim, details)
        return await self._chunks.run(claim, details)
