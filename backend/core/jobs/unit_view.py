"""The units of one job as one LIST showed them: which of them have ended, are held, or may be claimed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from backend.core import keys
from backend.core.records import Job
from backend.core.unit_records import UnitKind, UnitLease, UnitPlan, kind_of_unit


class UnitState(StrEnum):
    FREE = "free"
    """Nobody has claimed it yet."""
    DUE = "due"
    """It was given back and may be taken now."""
    WAITING = "waiting"
    """It was given back and is due later."""
    HELD = "held"
    """A worker renews its lease, or may still do so."""
    SILENT = "silent"
    """Its lease was not renewed for the lease time."""
    ENDED = "ended"


CHUNKS_JOINED_MEANWHILE = 40
"""About how many chunks are joined in the time in which one is encoded (tests/simulation/scaling.py)."""


@dataclass(frozen=True, slots=True)
class SeenUnit:
    """One unit. `generation` is the highest of its leases, -1 if it has none."""

    state: UnitState
    generation: int = -1
    lease: UnitLease | None = None
    """The content of that lease, if the state depends on it."""


@dataclass(frozen=True, slots=True)
class UnitView:
    """All units of a job's highest plan."""

    job: Job
    plan: UnitPlan
    units: Mapping[str, SeenUnit]
    quiet_for: timedelta
    """The time since anything but a viewer's wish was last written, by the store's clock."""
    tried: set[str] = field(default_factory=set)
    """Units that this process has claimed by this view, or tried to. Any number of slots may use it up."""

    @classmethod
    def of_new(cls, job: Job, plan: UnitPlan) -> "UnitView":
        """Return the view of a plan that has just been made."""
        return cls(job, plan, {unit: SeenUnit(UnitState.FREE) for unit in plan.units}, timedelta(0))

    def count(self, *states: UnitState) -> int:
        return sum(unit.state in states for unit in self.units.values())

    @property
    def is_joinable(self) -> bool:
        """Whether the join may begin: sound and captions are done, and the missing chunks are being encoded
        or will be while the others are joined. The join does not need the look.

        It may hold its slot for as long as several rounds of encoding take.
        """
        chunks = [unit.state for name, unit in self.units.items() if kind_of_unit(name) is UnitKind.CHUNK]
        missing = len(chunks) - chunks.count(UnitState.ENDED)
        soon = chunks.count(UnitState.HELD) * max(1.0, len(chunks) / CHUNKS_JOINED_MEANWHILE)
        return missing <= soon and self.units[keys.SIDES].state is UnitState.ENDED

    def claimable(self, kinds: Collection[UnitKind], *, silent_too: bool = True) -> list[str]:
        """Return the units of these kinds that may be claimed: those that others began come first."""
        states = [UnitState.DUE, UnitState.FREE]
        if silent_too:
            states.insert(0, UnitState.SILENT)
        wanted = [name for name in self.units if kind_of_unit(name) in kinds and name not in self.tried]
        return [name for state in states for name in wanted if self.units[name].state is state]


@dataclass(frozen=True, slots=True)
class UnitClaim:
    """The right to do a unit: a lease that this worker holds."""

    job: Job
    plan: UnitPlan
    lease: UnitLease
    generation: int

    @property
    def unit(self) -> str:
        return self.lease.unit

    @property
    def kind(self) -> UnitKind:
        return kind_of_unit(self.unit)

    @property
    def key(self) -> str:
        return keys.unit_lease(self.job.request, self.plan.number, self.unit, self.generation)

    @property
    def outputs(self) -> str:
        """The prefix, in the video bucket, of what this attempt stores for the join. It ends with a slash."""
        return keys.unit_outputs(self.job.id, self.plan.work, self.unit, self.lease.token)
