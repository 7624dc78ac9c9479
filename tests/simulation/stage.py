"""State shared by all processes of a schedule, and a queue that reports to the ledger."""

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import PlannedJob, QueueSnapshot
from backend.core.jobs.unit_view import UnitClaim, UnitView
from backend.core.jobs.units import UnitQueue
from backend.core.records import Job, Outputs, Retention, StatusError
from backend.core.store.interface import Buckets
from backend.core.unit_records import UnitKind, UnitOutputs
from tests.simulation.invariants import Ledger
from tests.simulation.scheduler import Process, Scheduler

LEASE_SECONDS = 60
LARGEST_SKEW_SECONDS = 3600
FAULTY_STEPS = (100, 1000, 2000)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes and settings of one schedule."""

    workers: int
    slots: int
    """Per worker, for chunks and videos in one pass. Two more make looks and sides, plan and join."""
    chunks: tuple[int, ...]
    """Into how many chunks videos are divided; 0: one pass."""
    encoders: str
    """Workers encode with any of these. Chunks of unlike encoders must not be joined."""
    unlike_rate: float
    """The share of chunks that cannot be joined to others although their encoders are alike."""
    viewers: int
    loggers: int
    uploads: int
    deleters: int
    retriers: int
    sweepers: int
    steps: int
    max_attempts: int
    failure_rate: float
    """The share of a run's writes that fail."""
    patience_seconds: float
    create_attempts: int
    """Attempts of the store's client at a create-only write."""
    keep_originals: bool
    original: Retention | None
    """What videos and jobs say about their sources."""
    fetch_rate: float
    """The share of videos whose source is elsewhere."""
    cancellers: int
    grace_seconds: float
    uploads_after_seconds: float
    lease_seconds: float
    """The shorter it is, the slower the store seems."""

    @classmethod
    def drawn(cls, rng: random.Random) -> "Plan":
        return cls(
            workers=rng.choice((1, 2, 2, 3, 4)),
            slots=rng.choice((1, 1, 2)),
            chunks=rng.choice(((0,), (0, 1, 2, 4), (1, 2, 3))),
            encoders=rng.choice(("a", "a", "ab")),
            unlike_rate=rng.choice((0, 0, 0.2)),
            viewers=rng.choice((0, 0, 1)),
            loggers=rng.choice((0, 1, 2)),
            uploads=rng.choice((1, 1, 2, 3)),
            deleters=rng.choice((0, 0, 0, 1, 2)),
            retriers=rng.choice((0, 1, 2)),
            sweepers=rng.choice((0, 0, 1, 2)),
            steps=rng.choice(FAULTY_STEPS),
            max_attempts=rng.choice((1, 2, 3)),
            failure_rate=rng.choice((0, 0, 0.1, 0.5)),
            patience_seconds=rng.choice((0, 0, 2 * LEASE_SECONDS)),
            create_attempts=rng.choice((1, 2, 3)),
            keep_originals=rng.random() < 0.1,
            grace_seconds=rng.choice((1, LEASE_SECONDS + 1, 10 * LEASE_SECONDS)),
            uploads_after_seconds=rng.choice((1, LEASE_SECONDS + 1, 10 * LEASE_SECONDS)),
            original=rng.choice(
                (None, None, Retention(), Retention(keep=True), Retention(delete_after_seconds=LEASE_SECONDS))
            ),
            fetch_rate=rng.choice((0, 0, 0.5, 1)),
            cancellers=rng.choice((0, 0, 1)),
            lease_seconds=rng.choice((LEASE_SECONDS / 2, LEASE_SECONDS)),
        )

    @property
    def keeps_sources(self) -> bool:
        return self.keep_originals or (self.original is not None and self.original.keep)


@dataclass(slots=True)
class Stage:
    """State shared by all processes of one schedule."""

    scheduler: Scheduler
    ledger: Ledger
    buckets: Buckets
    """The buckets as processes see them."""
    plan: Plan
    queue_class: type[JobQueue]
    units_class: type[UnitQueue]
    add_video: Callable[..., Awaitable[object]]
    cancel: Callable[..., Awaitable[Job]]
    deleted: set[str] = field(default_factory=set)
    chunks: dict[str, int] = field(default_factory=dict)
    """How many chunks each video is divided into; 0: it is encoded in one pass."""

    @property
    def rng(self) -> random.Random:
        return self.scheduler.rng

    def token(self) -> str:
        return f"{self.rng.getrandbits(32):08x}"

    def chunks_of(self, video_id: str) -> int:
        return self.chunks.setdefault(video_id, self.rng.choice(self.plan.chunks))

    def queue(self, process: Process) -> JobQueue:
        queue = watched(WatchedQueue, self.queue_class)(
            self.buckets,
            owner=process.name,
            lease_seconds=self.plan.lease_seconds,
            keep_originals=self.plan.keep_originals,
            rng=self.rng,
            now=process.now,
            run_token=self.token,
        )
        queue.stage = self
        return queue

    def units(self, process: Process, queue: JobQueue) -> UnitQueue:
        units = watched(WatchedUnits, self.units_class)(
            self.buckets,
            queue,
            owner=process.name,
            rng=self.rng,
            token=self.token,
        )
        units.stage = self
        return units


class WatchedQueue(JobQueue):
    """Reports to the ledger what the worker was told."""

    stage: Stage

    async def claim(self, snapshot: QueueSnapshot, **how: Any) -> Claim | None:
        claim = await super().claim(snapshot, **how)
        if claim is not None:
            self.stage.ledger.claimed(claim)
        return claim

    async def take_parked(self, planned: PlannedJob) -> Claim | None:
        claim = await super().take_parked(planned)
        if claim is not None:
            self.stage.ledger.claimed(claim)
        return claim

    async def renew(self, claim: Claim) -> None:
        since = self.stage.scheduler.steps
        await super().renew(claim)
        self.stage.ledger.renewed(claim, since)

    async def publish(self, claim: Claim, outputs: Outputs) -> bool:
        won = await super().publish(claim, outputs)
        self.stage.ledger.ended(claim, won)
        return won

    async def bury(self, claim: Claim, error: StatusError) -> bool:
        buried = await super().bury(claim, error)
        if buried:
            self.stage.ledger.buried(claim)
        return buried


class WatchedUnits(UnitQueue):
    """Reports to the ledger what the worker was told."""

    stage: Stage

    async def claim(self, view: UnitView, kinds: Collection[UnitKind], **how: bool) -> UnitClaim | None:
        claim = await super().claim(view, kinds, **how)
        if claim is not None:
            self.stage.ledger.units.claimed(claim)
        return claim

    async def renew(self, claim: UnitClaim) -> None:
        since = self.stage.scheduler.steps
        await super().renew(claim)
        self.stage.ledger.units.renewed(claim, since)

    async def finish(self, claim: UnitClaim, outputs: UnitOutputs) -> bool:
        since = self.stage.scheduler.steps
        won = await super().finish(claim, outputs)
        self.stage.ledger.units.finished(claim, won, since)
        return won

    async def _read_all(self, found: Sequence[str]) -> list[bytes]:
        return [await self._get(key) for key in found]  # the product needs an event loop to read them at once


@cache
def watched(watching: type[T], watched_class: type) -> type[T]:
    """Return a class, the product's or a mutant, that reports to the ledger."""
    return type("Watched", (watching, watched_class), {})
