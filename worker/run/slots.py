"""The slots of a worker that divides jobs: light ones, and those that encode.

A light slot plans new jobs, makes sides and joins units: what somebody waits for, and what costs little.
A slot that encodes takes chunks and whole jobs. So a long video never keeps a worker from new ones.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial

import structlog

from backend.core.concurrency import run_unless_set
from backend.core.jobs.interface import UnitJobs, VideoJobs
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import PlannedJob, QueueSnapshot
from backend.core.jobs.unit_view import UnitClaim, UnitView
from backend.core.records import RecordUnreadable, UnitKind
from worker.run.loop import CLAIM_GRACE_SECONDS
from worker.run.poller import Find, Poller
from worker.units.division import Capacity, is_abandoned

log = structlog.get_logger(__name__)

MAX_VIEWS = 4
"""Of how many divided jobs the units are listed for one snapshot of the queue."""
OLDEST_SHARE = 0.25
"""How often a slot helps the oldest job first, instead of the one with the fewest units: none starves."""

Task = Claim | UnitClaim
Handle = Callable[[Task, asyncio.Event], Awaitable[None]]


def handlers(
    run_job: Callable[[Claim, asyncio.Event], Awaitable[None]],
    run_unit: Callable[[UnitClaim, asyncio.Event], Awaitable[None]],
) -> Handle:
    """Return what runs any task."""

    async def handle(task: Task, stop: asyncio.Event) -> None:
        if isinstance(task, UnitClaim):
            await run_unit(task, stop)
        else:
            await run_job(task, stop)

    return handle


class Unseen(Enum):
    """Why there is no view of a divided job."""

    GONE = "gone"
    """The job has ended or its video was deleted, and something is left to clean up."""
    UNREADABLE = "unreadable"
    """A newer version of this program divided it."""


class Finder:
    """Finds what a slot can do in a snapshot of the queue. All slots of a worker share it.

    `encoder` is the fingerprint of this worker's encoders.
    """

    def __init__(
        self,
        queue: VideoJobs,
        units: UnitJobs,
        encoder: str,
        capacity: Capacity,
        rng: random.Random | None = None,
    ) -> None:
        self._queue = queue
        self._units = units
        self._encoder = encoder
        self._capacity = capacity
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, guards nothing
        self._of: QueueSnapshot | None = None
        self._views: dict[str, UnitView | Unseen] = {}
        self._viewing = asyncio.Lock()

    async def light(self, snapshot: QueueSnapshot, *, silent_too: bool, joins: bool) -> Task | None:
        """Claim a new job or, of the divided ones, first a look, then a join, then sides."""
        claim = await self._queue.claim(snapshot, silent_too=silent_too, whole=False)
        if claim is not None:
            return claim
        jobs = self._in_order(snapshot)
        for kind in (UnitKind.LOOK, None, UnitKind.SIDES):
            for planned in jobs:
                if kind is not None:
                    found: Task | None = await self._claim_unit(
                        snapshot, planned, kind, silent_too=silent_too
                    )
                else:
                    found = await self._claim_join(snapshot, planned) if joins else None
                if found is not None:
                    return found
        return None

    async def encoding(self, snapshot: QueueSnapshot, *, silent_too: bool) -> Task | None:
        """Claim a whole job or a chunk, and one encode of the capacity, which is to be given back."""
        if not self._capacity.take():
            return None
        found: Task | None = None
        try:
            found = await self._queue.claim(snapshot, silent_too=silent_too, whole=True)
            for planned in self._in_order(snapshot):
                found = found or await self._claim_unit(
                    snapshot, planned, UnitKind.CHUNK, silent_too=silent_too
                )
        finally:
            if found is None:
                self._capacity.give_back()
        return found

    def _in_order(self, snapshot: QueueSnapshot) -> list[PlannedJob]:
        """Return the divided jobs in the order to help them: mostly, short ones before long ones."""
        jobs = list(snapshot.planned)  # the oldest is first
        if self._rng.random() >= OLDEST_SHARE:
            jobs.sort(key=lambda planned: planned.lease.units)
        return jobs[:MAX_VIEWS]

    async def _claim_unit(
        self, snapshot: QueueSnapshot, planned: PlannedJob, kind: UnitKind, *, silent_too: bool
    ) -> UnitClaim | None:
        view = await self._view(snapshot, planned)
        if not isinstance(view, UnitView) or (kind is UnitKind.CHUNK and view.plan.encoder != self._encoder):
            return None
        return await self._units.claim(view, {kind}, silent_too=silent_too)

    async def _claim_join(self, snapshot: QueueSnapshot, planned: PlannedJob) -> Claim | None:
        if not planned.is_parked:
            return None
        view = await self._view(snapshot, planned)
        if view is Unseen.UNREADABLE:
            return None
        if view is Unseen.GONE or view.is_joinable or is_abandoned(view, self._encoder):
            return await self._queue.take_parked(planned)
        return None

    async def _view(self, snapshot: QueueSnapshot, planned: PlannedJob) -> "UnitView | Unseen":
        """List the units of a job once for each snapshot."""
        request = planned.seen.request
        async with self._viewing:
            if self._of is not snapshot:
                self._of, self._views = snapshot, {}
            if request not in self._views:
                try:
                    view = await self._units.view(planned.lease.job)
                    self._views[request] = view or Unseen.GONE
                except RecordUnreadable as error:
                    log.warning("plan_unreadable", request=request, error=error.message)
                    self._views[request] = Unseen.UNREADABLE
            return self._views[request]


class Slots:
    """`light` and `encode` are numbers of slots. The first light one never joins, so that it is soon free."""

    def __init__(self, light: int, encode: int, finder: Finder, capacity: Capacity) -> None:
        self._light = light
        self._encode = encode
        self._finder = finder
        self._capacity = capacity

    async def serve(self, poller: Poller, handle: Handle, stop: asyncio.Event) -> None:
        """Run until `stop` is set or the poller finds no more."""
        async with asyncio.TaskGroup() as slots:
            for number in range(self._light):
                find = partial(self._finder.light, joins=number > 0)
                slots.create_task(_serve(poller, find, handle, stop))
            for _ in range(self._encode):
                slots.create_task(_serve(poller, self._finder.encoding, self._giving_back(handle), stop))

    def _giving_back(self, handle: Handle) -> Handle:
        async def handled(task: Task, stop: asyncio.Event) -> None:
            try:
                await handle(task, stop)
            finally:
                self._capacity.give_back()

        return handled


async def _serve(poller: Poller, find: Find[Task], handle: Handle, stop: asyncio.Event) -> None:
    while not stop.is_set() and (
        task := await run_unless_set(stop, poller.next(find), grace_seconds=CLAIM_GRACE_SECONDS)
    ):
        await handle(task, stop)
