"""One schedule: a seed determines the processes, the faults and the order of steps."""

import logging
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from backend.core import keys
from backend.core.jobs.cancel import cancel_video
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.units import UnitQueue
from backend.core.library.videos import add_video
from backend.core.records import Job
from tests.simulation.events import log_events
from tests.simulation.faults import MUTATIONS, Fate, Faults
from tests.simulation.invariants import Ledger
from tests.simulation.people import cancel, delete, retry, sweep_often, sweep_once, upload, watch
from tests.simulation.rest import assert_at_rest
from tests.simulation.scheduler import Call, Process, ProtocolBroken, Scheduler
from tests.simulation.stage import LARGEST_SKEW_SECONDS, Plan, Stage
from tests.simulation.workers import Kind, work
from tests.simulation.world import RemoteStore, World, remote_buckets

IDLE_STEPS = 40
MOST_STEPS_TO_REST = 6000


@dataclass(frozen=True, slots=True)
class Protocol:
    """The code under simulation: the product, or a mutant of it."""

    queue_class: type[JobQueue] = JobQueue
    units_class: type[UnitQueue] = UnitQueue
    worker: Kind = field(default_factory=Kind)
    add_video: Callable[..., Awaitable[object]] = add_video
    cancel: Callable[..., Awaitable[Job]] = cancel_video
    store_class: type[RemoteStore] = RemoteStore
    often: frozenset[Fate] = frozenset()
    """Faults that must be in the mix."""
    aimed: tuple[Fate, str] | None = None
    """A fault that strikes nearly a third of all calls that begin like this (a regular expression)."""
    chunks: tuple[int, ...] | None = None
    """Instead of `Plan.chunks`."""
    fetches: bool = False
    """All videos are fetched."""


@dataclass(slots=True)
class Outcome:
    """Statistics of one schedule."""

    steps: int
    changes: int
    """Changes of the buckets. The invariants were checked after each."""
    events: dict[str, int]
    """Counts of faults by kind, and of how videos ended."""


PRODUCT = Protocol()


def run_schedule(
    seed: int, protocol: Protocol = PRODUCT, trace: Callable[[str], None] | None = None
) -> Outcome:
    """Run the schedule of this seed. Raises: ProtocolBroken: an invariant does not hold."""
    rng = random.Random(seed)
    plan = Plan.drawn(rng)
    if protocol.chunks is not None:
        plan = replace(plan, chunks=protocol.chunks)
    if protocol.fetches:
        plan = replace(plan, fetch_rate=1)
    faults = Faults(rng, plan.lease_seconds, protocol.often, protocol.aimed)
    world: World

    def perform(call: Call, sender: str) -> object:
        answer = world.perform(call)
        if call.verb in MUTATIONS and answer is not False:
            ledger.after(call)
        return answer

    def say(line: str) -> None:
        if trace:
            trace(_with_short_names(line, ledger.begun))

    scheduler = Scheduler(rng, faults, perform, say if trace else None)
    world = World(scheduler.clock)
    ledger = Ledger(
        world,
        lease_seconds=plan.lease_seconds,
        grace_seconds=plan.grace_seconds,
        seconds=lambda: int(scheduler.now),
        step=lambda: scheduler.steps,
    )
    remote = remote_buckets(protocol.store_class, plan.create_attempts)
    stage = Stage(
        scheduler,
        ledger,
        remote,
        plan,
        protocol.queue_class,
        protocol.units_class,
        protocol.add_video,
        protocol.cancel,
    )
    say(f"seed {seed}: {plan}")
    try:
        for process, after_seconds in _cast(stage, protocol.worker):
            scheduler.start(process, after_seconds=after_seconds)
        scheduler.run(plan.steps, partial(_is_idle, stage, world))
        say("--- faults cease")
        faults.cease()
        _come_to_rest(stage, protocol.worker)
    finally:
        scheduler.abandon()
    assert_at_rest(world, ledger, originals_kept=plan.keeps_sources)
    struck = {f"fault: {fate.name.lower()}": count for fate, count in faults.struck.items()}
    return Outcome(scheduler.steps, ledger.checks, struck | ledger.summary())


def _with_short_names(line: str, video_ids: list[str]) -> str:
    for number, video_id in enumerate(video_ids):
        line = line.replace(video_id, f"v{number}").replace(
            keys.catalog_entry(video_id), f"catalog/v{number}"
        )
    return line


def _is_idle(stage: Stage, world: World) -> bool:
    """Return whether nothing is left for faults to strike. Only every `IDLE_STEPS` steps is this checked."""
    if stage.scheduler.steps % IDLE_STEPS:
        return False
    if any(process.alive and process.name.startswith("upload") for process in stage.scheduler.processes):
        return False
    return not world.raw.holds_any(keys.QUEUE) and not world.raw.holds_any(keys.LEASES)


def _come_to_rest(stage: Stage, kind: Kind) -> None:
    """Let all processes finish next to two new workers, then run sweepers and workers on what is left.

    A sweep may queue a job that was never queued, and that job may leave something to sweep. Of a job whose
    lease a late call restored, one sweep finishes it and the next one deletes the source.
    """
    new_worker = partial(work, kind=kind)
    rounds = ((new_worker, new_worker), (sweep_once,), (new_worker,), (sweep_once,), (sweep_once,))
    for number, lives in enumerate(rounds):
        for life in lives:
            name = "sweeper" if life is sweep_once else "worker"
            stage.scheduler.start(Process(f"{name}-at-rest-{number}", partial(life, stage)))
        stage.scheduler.run_to_the_end(MOST_STEPS_TO_REST)


def _cast(stage: Stage, kind: Kind) -> list[tuple[Process, float]]:
    """Return the processes, each with its start time in seconds."""
    plan, rng = stage.plan, stage.rng
    worker = partial(work, kind=kind, encoders=plan.encoders)
    kinds = (
        ([worker] * plan.workers, "worker", True),
        ([upload] * plan.uploads, "upload", False),
        ([delete] * plan.deleters, "delete", True),
        ([cancel] * plan.cancellers, "cancel", False),
        ([retry] * plan.retriers, "retry", False),
        ([sweep_often] * plan.sweepers, "sweeper", True),
        ([watch] * plan.viewers, "viewer", True),
        ([log_events] * plan.loggers, "logger", True),
    )
    cast: list[tuple[Process, float]] = []
    for lives, name, restarts in kinds:
        for number, life in enumerate(lives):
            skew = timedelta(seconds=rng.randint(-LARGEST_SKEW_SECONDS, LARGEST_SKEW_SECONDS))
            process = Process(f"{name}-{number}", partial(life, stage), skew=skew, restarts=restarts)
            cast.append((process, rng.choice((0, 0, 10, 60, 300)) if name != "worker" else 0))
    return cast


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Silence the product's logs, which are noise here. A fault of its own breaks the protocol."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_raise_faults], wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _raise_faults(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Raises: ProtocolBroken: the runners met an exception that they do not know."""
    if event["event"].endswith("_broke"):
        error = sys.exc_info()[1]
        raise ProtocolBroken(f"{event['event']}: {error!r}") from error
    raise structlog.DropEvent


__all__ = ["PRODUCT", "Outcome", "Plan", "Protocol", "ProtocolBroken", "quiet_logs", "run_schedule"]
