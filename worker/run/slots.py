"""The slots of a worker that divides jobs: light ones, and those that encode.

A light slot plans new jobs, makes sides and joins units: what somebody waits for, and what costs little.
A slot that encodes takes chunks and whole jobs. So a long video never keeps a worker from new ones. A slot
that fetches takes jobs whose source is elsewhere, and plans them once that has come.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

import structlog

from backend.core.errors import StoreError
from backend.core.jobs.interface import UnitJobs, VideoJobs
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import OLDEST_SHARE, Needs, PlannedJob, QueueSnapshot
from backend.core.jobs.unit_view import UnitClaim, UnitView
from backend.core.records import Job, RecordUnreadable
from backend.core.unit_records import UnitKind, UnitPlan
from worker.run.loop import serve
from worker.run.poller import Find, Poller
from worker.units.division import Capacity, is_abandoned

log = structlog.get_logger(__name__)

MAX_VIEWS = 4
"""Of how many divided jobs a slot looks at the units for one snapshot of the queue."""

Task = Claim | UnitClaim
Handle = Callable[[Task, asyncio.Event], Coroutine[Any, Any, None]]


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

    `encoder` is the fingerprint of this worker's encoders. While `looks_open`, it begins neither chunks nor
    sides: nobody can play yet what this worker makes a look of.
    """

    def __init__(
        self,
        queue: VideoJobs,
        units: UnitJobs,
        encoder: str,
        capacity: Capacity,
        rng: random.Random | None = None,
        looks_open: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queue = queue
        self._units = units
        self._encoder = encoder
        self._capacity = capacity
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, guards nothing
        self._looks_open = looks_open
        self._of: QueueSnapshot | None = None
        self._views: dict[str, UnitView | Unseen] = {}
        self._viewing = asyncio.Lock()
        self._fresh: dict[str, Job] = {}
        self._divided: list[UnitView] = []

    def add(self, job: Job, plan: UnitPlan) -> None:
        """Note a job that this worker has just divided: snapshots do not show it for a second or more."""
        self._fresh[job.request] = job
        self._divided.append(UnitView.of_new(job, plan))

    async def own_look(self) -> UnitClaim | None:
        """Claim the look of a job that this worker has just divided: somebody may be waiting for it."""
        with suppress(StoreError):  # then polls find it
            while self._divided:
                if claim := await self._units.claim(self._divided.pop(), {UnitKind.LOOK}):
                    return claim
        return None

    async def light(self, snapshot: QueueSnapshot, *, silent_too: bool, joins: bool) -> Task | None:
        """Claim a new job or, of the divided ones, first a look, then a join, then sides."""
        claim = await self._queue.claim(snapshot, silent_too=silent_too, needs=Needs.PLANNING)
        if claim is not None:
            return claim
        planned = self._in_order(snapshot)
        jobs = self._jobs(snapshot, planned)
        found: Task | None = await self._claim_unit(snapshot, jobs, UnitKind.LOOK, silent_too=silent_too)
        if found is None and joins:
            found = await self._claim_join(snapshot, planned)
        if found is None and not self._looks_open():
            found = await self._claim_unit(snapshot, jobs, UnitKind.SIDES, silent_too=silent_too)
        return found

    async def fetching(self, snapshot: QueueSnapshot, *, silent_too: bool) -> Task | None:
        """Claim a job whose source is to be fetched."""
        return await self._queue.claim(snapshot, silent_too=silent_too, needs=Needs.FETCHING)

    async def encoding(self, snapshot: QueueSnapshot, *, silent_too: bool) -> Task | None:
        """Claim a whole job or a chunk, and one encode of the capacity, which is to be given back."""
        if self._looks_open() or not self._capacity.take():
            return None
        found: Task | None = None
        try:
            found = await self._queue.claim(snapshot, silent_too=silent_too, needs=Needs.ENCODING)
            if found is None:
                jobs = self._jobs(snapshot, self._in_order(snapshot))
                found = await self._claim_unit(snapshot, jobs, UnitKind.CHUNK, silent_too=silent_too)
        finally:
            if found is None:
                self._capacity.give_back()
        return found

    def _in_order(self, snapshot: QueueSnapshot) -> list[PlannedJob]:
        """Return divided jobs in the order to help them: mostly, short ones before long ones.

        The last one is any of the others: its look or its join may have nobody else to see to it.
        """
        jobs = list(snapshot.planned)  # the oldest is first
        if self._rng.random() >= OLDEST_SHARE:
            jobs.sort(key=lambda planned: planned.lease.units)
        first, others = jobs[: MAX_VIEWS - 1], jobs[MAX_VIEWS - 1 :]
        return first + self._rng.sample(others, min(1, len(others)))

    def _jobs(self, snapshot: QueueSnapshot, planned: Iterable[PlannedJob]) -> list[Job]:
        """Return these jobs of the snapshot and, before them, those that are too young to be in it."""
        for one in snapshot.planned:
            self._fresh.pop(one.seen.request, None)
        return [*self._fresh.values(), *(one.lease.job for one in planned)]

    async def _claim_unit(
        self, snapshot: QueueSnapshot, jobs: Iterable[Job], kind: UnitKind, *, silent_too: bool
    ) -> UnitClaim | None:
        for job in jobs:
            view = await self._view(snapshot, job)
            if isinstance(view, UnitView) and (
                kind is not UnitKind.CHUNK or view.plan.encoder == self._encoder
            ):
                claim = await self._units.claim(view, {kind}, silent_too=silent_too)
                if claim is not None:
                    return claim
            elif view is Unseen.GONE:
                self._fresh.pop(job.request, None)
        return None

    async def _claim_join(self, snapshot: QueueSnapshot, jobs: Iterable[PlannedJob]) -> Claim | None:
        for planned in jobs:
            view = await self._view(snapshot, planned.lease.job) if planned.is_parked else Unseen.UNREADABLE
            if view is Unseen.GONE or (
                isinstance(view, UnitView) and (view.is_joinable or is_abandoned(view, self._encoder))
            ):
                claim = await self._queue.take_parked(planned)
                if claim is not None:
                    return claim
        return None

    async def _view(self, snapshot: QueueSnapshot, job: Job) -> "UnitView | Unseen":
        """List the units of a job once for each snapshot."""
        request = job.request
        async with self._viewing:
            if self._of is not snapshot:
                self._of, self._views = snapshot, {}
            if request not in self._views:
                try:
                    view = await self._units.view(job)
                    self._views[request] = view or Unseen.GONE
                except RecordUnreadable as error:
                    log.warning("plan_unreadable", request=request, error=error.message)
                    self._views[request] = Unseen.UNREADABLE
            return self._views[request]


class Slots:
    """`light`, `encode` and `fetch` are numbers of slots. The first light one never joins: it is soon free.

    As many looks as there are light slots are made beside them: the look of a long film may take minutes, and
    the next film is to be planned meanwhile.
    """

    def __init__(self, light: int, encode: int, finder: Finder, capacity: Capacity, fetch: int = 0) -> None:
        self._light = light
        self._encode = encode
        self._fetch = fetch
        self._finder = finder
        self._capacity = capacity
        self._looks: set[asyncio.Task[None]] = set()

    async def serve(self, poller: Poller, handle: Handle, stop: asyncio.Event) -> None:
        """Run until `stop` is set or the poller finds no more."""
        light: list[Find[Task]] = [partial(self._finder.light, joins=n > 0) for n in range(self._light)]
        light += [self._finder.fetching] * self._fetch
        encode: list[Find[Task]] = [self._finder.encoding] * self._encode
        giving_back = self._giving_back(handle)
        async with asyncio.TaskGroup() as slots:
            for find in light:
                slots.create_task(serve(poller, find, self._with_look(handle, slots), stop))
            for find in encode:
                slots.create_task(serve(poller, find, giving_back, stop))

    def _with_look(self, handle: Handle, beside: asyncio.TaskGroup) -> Handle:
        async def handled(task: Task, stop: asyncio.Event) -> None:
            await handle(task, stop)
            while not stop.is_set() and (look := await self._finder.own_look()) is not None:
                if len(self._looks) >= self._light:
                    await handle(look, stop)
                    continue
                making = beside.create_task(handle(look, stop))
                self._looks.add(making)
                making.add_done_callback(self._looks.discard)

        return handled

    def _giving_back(self, handle: Handle) -> Handle:
        async def handled(task: Task, stop: asyncio.Event) -> None:
            try:
                await handle(task, stop)
            finally:
                self._capacity.give_back()

        return handled
