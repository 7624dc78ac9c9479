"""Events: a process that logs them while other processes work, and what the log must hold in the end."""

from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from backend.core import keys
from backend.core.errors import StoreError
from backend.core.events.log import EventLog
from backend.core.records import Outputs, read_outcome
from tests.simulation.invariants import Ledger
from tests.simulation.scheduler import Process, Rest, broken
from tests.simulation.stage import Stage
from tests.simulation.world import World

T = TypeVar("T")


class SimulatedLog(EventLog):
    """Reads one thing after another: the simulation has no event loop."""

    async def _all(self, reads: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        return [await read for read in reads]


async def log_events(stage: Stage, process: Process) -> None:
    """Log what is announced while there are faults."""
    log = SimulatedLog(stage.buckets, process.now)
    while not stage.scheduler.faults.over:
        await Rest(stage.rng.choice((5, 60)))
        with suppress(StoreError):
            await log.append()


async def assert_logged(world: World, ledger: Ledger) -> None:
    """Check that the log has all that happened, in order for each video.

    What a late call has restored is not checked: it may happen twice.
    """
    log = SimulatedLog(world.buckets)
    while await log.append():
        pass
    first: dict[str, int] = {}
    for event in await log.read(0, log.last):
        first.setdefault(event.id, event.number)
    must = {keys.event_id(video_id, 0, "created") for video_id in ledger.acknowledged}
    must |= {keys.event_id(video_id, 0, "deleted") for video_id in ledger.doomed}
    for key in world.video.keys(keys.VIDEOS):
        if "/results/" in key and not ledger.may_go(keys.video_of_object(key)):
            request = keys.request_of_result(key)
            published = isinstance(read_outcome(world.video.body(key)), Outputs)
            kinds = ("playable", "done") if published else ("failed",)
            video_id, number = keys.video_of_request(request), keys.request_number(request)
            must |= {keys.event_id(video_id, number, kind) for kind in kinds}
    if lost := must - first.keys():
        broken(f"events are lost: {sorted(lost)}")
    latest: dict[str, tuple[float, int]] = {}
    for event_id in first:
        one = keys.parse_announcement(keys.announcement(event_id))
        if one.subject in ledger.revived_videos:
            continue
        rank = rank_of(one.number, one.kind)
        if rank <= latest.get(one.subject, (-2, 0)):
            broken(f"an event is out of order: {event_id} in {list(first)}")
        latest[one.subject] = rank


def rank_of(number: int, kind: str) -> tuple[float, int]:
    """Return a value that grows in the order in which a video's events must be logged."""
    if kind in ("created", "deleted"):
        return (-1, 0) if kind == "created" else (1e9, 0)
    return number, ("playable", "done", "failed").index(kind)
