"""Many workers on few films: the product's queue in virtual time, with modelled times of encoding.

Nothing fails here. `python -m tests.simulation.scaling` prints a table.
"""
# ruff: noqa: T201  # a command line tool prints

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from unittest.mock import patch

from backend.core import keys
from backend.core.concurrency import run_guarded
from backend.core.errors import LeaseLost
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.unit_view import UnitClaim, UnitState
from backend.core.jobs.units import UnitQueue
from backend.core.library.videos import add_video
from backend.core.records import Job, OutputObject, Outputs, Video
from backend.core.store.interface import Buckets
from backend.core.unit_records import UnitKind, UnitOutputs, UnitPlan
from bench.queue import CountingStore, Counts
from tests.core.virtual_time import VirtualTimeLoop, utc_now
from tests.lab.memory_store import MemoryStore
from tests.simulation.machine import Machine
from tests.simulation.schedule import quiet_logs
from worker.encode.grid import chunk_seconds, chunks_of
from worker.run import poller
from worker.run.poller import Poller
from worker.run.slots import Finder, Slots, Task
from worker.source.index.source_index import SourceIndex
from worker.units.division import Capacity
from worker.units.join import LOOK_SECONDS

LEASE_SECONDS = 60.0
LATENCY_SECONDS = 0.02
"""Of a request to the store."""
FPS = Fraction(24)
SEGMENT_SECONDS = 4.0
CHUNK_SECONDS = 60.0
WORKERS = (1, 2, 4, 8, 16, 32)
SCENES = 0.8, 1.2
"""How much longer or shorter than the mean it takes to encode a chunk."""
IDLE_SECONDS = 6
"""Between polls of slots without work: longer than in the product, as these polls cost most of the time."""
LIGHT_SLOTS = 2

# Seconds of an idle machine of two cores for each second of film, from docs/media.md: 1080p24, six renditions
LADDER = 56 / 30
QUICK_LOOK = 4.8 / 30
COPIED_LOOK = 0.28 / 30
SIDES = 1 / 50
JOIN = 0.02 * LADDER
ONE_THREAD = 0.5
"""The share of a machine that sound and the packager can use."""


@dataclass(frozen=True)
class Film:
    seconds: float
    look: float = COPIED_LOOK
    queued_after: float = 0

    @cached_property
    def chunks(self) -> tuple[float, ...]:
        """How long each is, in seconds."""
        length, frames = chunk_seconds(self.seconds, CHUNK_SECONDS), round(self.seconds * FPS)
        chunks = chunks_of(FPS, frames, SEGMENT_SECONDS, length, 0, SourceIndex(1, (0,)))
        return tuple(float(chunk.frames / FPS) for chunk in chunks)

    @property
    def work_seconds(self) -> float:
        """What one machine needs for everything."""
        return self.seconds * (LADDER + self.look + JOIN) + self.seconds * SIDES * ONE_THREAD


@dataclass(slots=True)
class Times:
    """When things happened to a film, in seconds since the start."""

    queued: float
    look_began: float = 0
    looked: float = 0
    chunks_began: list[float] = field(default_factory=list)
    encoded: float = 0
    """When its last chunk ended."""
    done: float = 0

    def gaps(self) -> list[float]:
        """Return how long each time nobody began a chunk."""
        began = [self.queued, *self.chunks_began]
        return [later - earlier for earlier, later in pairwise(began)]


@dataclass
class Fleet:
    """Workers on the same buckets, until all films are published."""

    films: Sequence[Film]
    workers: int
    rng: random.Random
    counts: Counts = field(default_factory=Counts)
    times: dict[str, Times] = field(default_factory=dict)
    """By video."""
    _of: dict[str, Film] = field(default_factory=dict)
    _done: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> list[Times]:
        """Return the times of each film."""
        buckets = Buckets(MemoryStore(utc_now), MemoryStore(utc_now))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._upload(buckets))
            for number in range(self.workers):
                worker = Worker(self, self._counted(buckets), f"worker-{number}")
                group.create_task(worker.run(self._done))
        return [self.times[video_id] for video_id in self._of]

    async def _upload(self, buckets: Buckets) -> None:
        for film in self.films:
            await asyncio.sleep(film.queued_after - now())
            created_at = utc_now()
            video_id = new_id(int(created_at.timestamp() * 1000), self.rng.getrandbits(74))
            self._of[video_id], self.times[video_id] = film, Times(now())
            source = keys.upload(video_id)
            await buckets.raw.put(source, b"film")
            video = Video(id=video_id, title="", filename="film.mp4", size_bytes=4, created_at=created_at)
            request = keys.request_name(video_id)
            job = Job(id=video_id, request=request, source=source, source_size_bytes=4, created_at=created_at)
            await add_video(buckets, video, job)

    def _counted(self, buckets: Buckets) -> Buckets:
        stores = (CountingStore(one, self.counts, LATENCY_SECONDS) for one in (buckets.raw, buckets.video))
        return Buckets(*(store.as_store() for store in stores))

    def film(self, video_id: str) -> Film:
        return self._of[video_id]

    def published(self, video_id: str) -> None:
        self.times[video_id].done = now()
        if len(self.times) == len(self.films) and all(times.done for times in self.times.values()):
            self._done.set()


class Worker:
    """One machine with one slot that encodes."""

    def __init__(self, fleet: Fleet, buckets: Buckets, name: str) -> None:
        self._fleet = fleet
        self._machine = Machine()
        self._queue = JobQueue(buckets, owner=name, lease_seconds=LEASE_SECONDS, rng=fleet.rng, now=utc_now)
        self._units = UnitQueue(buckets, self._queue, owner=name, rng=fleet.rng)

    async def run(self, done: asyncio.Event) -> None:
        loop, capacity = asyncio.get_running_loop(), Capacity(1)
        polls = Poller(self._queue, done, poll_seconds=5, lease_seconds=LEASE_SECONDS, monotonic=loop.time)
        finder = Finder(self._queue, self._units, "", capacity, self._fleet.rng)
        await Slots(LIGHT_SLOTS, 1, finder, capacity).serve(polls, self._handle, done)

    async def _handle(self, task: Task, stop: asyncio.Event) -> None:
        await (self._unit_job(task) if isinstance(task, UnitClaim) else self._video_job(task))

    async def _video_job(self, claim: Claim) -> None:
        job, film = claim.lease.job, self._fleet.film(claim.lease.job.id)
        if claim.lease.plan is None:
            await self._machine.work(0.5)
            plan = UnitPlan(
                request=job.request,
                number=0,
                chunks=len(film.chunks),
                look=keys.look_name(job.request, "a"),
                work=keys.run_name(job.request, 0, "a"),
                encoder="",
                details="{}",
            )
            await self._queue.park(claim, plan)
            return
        await run_guarded(self._join(claim, film), self._renewing(lambda: self._queue.renew(claim)))
        objects = (OutputObject(path="media/1.m4s", size_bytes=1),)
        outputs = Outputs(
            id=job.id,
            request=job.request,
            run=claim.lease.run,
            requested_at=job.created_at,
            published_at=utc_now(),
            duration_seconds=film.seconds,
            qualities=(),
            renditions=(),
            objects=objects,
            encoder="",
        )
        await self._queue.publish(claim, outputs)
        self._fleet.published(job.id)

    async def _join(self, claim: Claim, film: Film) -> None:
        """Take the chunks in order, each as soon as it is there."""
        joined = 0
        while joined < len(film.chunks):
            view = await self._units.view(claim.lease.job)
            assert view is not None
            while joined < len(film.chunks) and view.units[keys.chunk(joined)].state is UnitState.ENDED:
                await self._machine.work(film.chunks[joined] * JOIN, ONE_THREAD)
                joined += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def _unit_job(self, claim: UnitClaim) -> None:
        film, times = self._fleet.film(claim.job.id), self._fleet.times[claim.job.id]
        match claim.kind:
            case UnitKind.LOOK:
                times.look_began = now()
                seconds, most = film.seconds * film.look, 1.0
            case UnitKind.SIDES:
                seconds, most = film.seconds * SIDES, ONE_THREAD
            case UnitKind.CHUNK:
                times.chunks_began.append(now())
                length = film.chunks[int(claim.unit[1:])]
                seconds, most = length * LADDER * self._fleet.rng.uniform(*SCENES), 1.0
        try:
            await run_guarded(
                self._machine.work(seconds, most), self._renewing(lambda: self._units.renew(claim))
            )
        except LeaseLost:
            return  # a look whose video was published before
        await self._units.finish(claim, UnitOutputs(unit=claim.unit, token=claim.lease.token))
        if claim.kind is UnitKind.LOOK:
            times.looked = now()
        if claim.kind is UnitKind.CHUNK:
            times.encoded = now()

    async def _renewing(self, renew: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await renew()


def now() -> float:
    return asyncio.get_running_loop().time()


def run(films: Sequence[Film], workers: int, seed: int = 1) -> tuple[list[Times], Counts]:
    """Return the times of each film, and how many requests all workers made."""
    fleet = Fleet(films, workers, random.Random(seed))
    rarely = patch.object(poller, "UNITS_PAUSE_SECONDS", IDLE_SECONDS)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, quiet_logs(), rarely:
        return runner.run(fleet.run()), fleet.counts


def main() -> None:
    for name, look in (("copied", COPIED_LOOK), ("quick", QUICK_LOOK)):
        film, alone = Film(4 * 3600, look), 0.0
        for workers in WORKERS:
            (times,), counts = run([film], workers)
            alone = alone or times.done
            requests = counts.requests / len(film.chunks)
            print(
                f"4 h, {name} look, {workers:2} workers: done after {times.done:6.0f} s,"
                f" {alone / times.done / workers:.2f} N, {requests:.0f} requests a chunk"
            )


if __name__ == "__main__":
    main()
