"""Many workers on few films: the product's queue in virtual time, with modelled times of encoding.

Nothing fails here. `python -m tests.simulation.scaling` prints the table of docs/queue.md.
"""
# a command line tool prints

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from backend.core import keys
from backend.core.concurrency import run_guarded
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.jobs.snapshot import PlannedJob
from backend.core.jobs.unit_view import UnitClaim, UnitState
from backend.core.jobs.units import UnitQueue
from backend.core.library.videos import add_video
from backend.core.records import Job, OutputObject, Outputs, UnitKind, UnitOutputs, UnitPlan, Video
from backend.core.store.interface import Buckets
from bench.queue import CountingStore, Counts
from tests.core.virtual_time import VirtualTimeLoop, utc_now
from tests.lab.memory_store import MemoryStore
from tests.simulation.machine import Machine
from tests.simulation.schedule import quiet_logs

LEASE_SECONDS = 60.0
LATENCY_SECONDS = 0.02
"""Of a request to the store."""
CHUNK_SECONDS = 60.0
POLL_SECONDS = 1.5
"""Of an idle slot while anything is planned."""

# Seconds of an idle machine of two cores for each second of film, from docs/media.md: 1080p24, six renditions
LADDER = 56 / 30
QUICK_LOOK = 4.8 / 30
COPIED_LOOK = 0.28 / 30
SIDES = 1 / 50
JOIN = 0.02 * LADDER
ONE_THREAD = 0.5
"""The share of a machine that sound and the packager can use."""


@dataclass(frozen=True, slots=True)
class Film:
    seconds: float
    look: float = COPIED_LOOK
    queued_after: float = 0

    @property
    def chunks(self) -> int:
        return min(400, max(1, round(self.seconds / max(12.0, min(CHUNK_SECONDS, self.seconds / 16)))))

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


LIGHT = frozenset({UnitKind.LOOK, UnitKind.SIDES})
HEAVY = frozenset({UnitKind.CHUNK})


class Worker:
    """One machine with a slot for light work and one that encodes."""

    def __init__(self, fleet: Fleet, buckets: Buckets, name: str) -> None:
        self._fleet = fleet
        self._machine = Machine()
        self._queue = JobQueue(buckets, owner=name, lease_seconds=LEASE_SECONDS, rng=fleet.rng, now=utc_now)
        self._units = UnitQueue(buckets, self._queue, owner=name, rng=fleet.rng)

    async def run(self, done: asyncio.Event) -> None:
        slots = [asyncio.create_task(self._slot(kinds)) for kinds in (LIGHT, HEAVY)]
        await done.wait()
        for slot in slots:
            slot.cancel()
        await asyncio.gather(*slots, return_exceptions=True)

    async def _slot(self, kinds: frozenset[UnitKind]) -> None:
        while True:
            if not await self._turn(kinds):
                await asyncio.sleep(POLL_SECONDS)

    async def _turn(self, kinds: frozenset[UnitKind]) -> bool:
        """Do one job or unit, if there is one for this slot."""
        snapshot = await self._queue.poll()
        claim = await self._queue.claim(snapshot, whole=kinds is HEAVY)
        if claim is not None:
            await self._video_job(claim)
            return True
        for planned in self._in_order(snapshot.planned):
            view = await self._units.view(planned.lease.job)
            if view is None:
                continue
            unit = await self._units.claim(view, kinds)
            if unit is not None:
                await self._unit_job(unit)
                return True
            if kinds is LIGHT and planned.is_parked and view.is_joinable:
                claim = await self._queue.take_parked(planned)
                if claim is not None:
                    await self._video_job(claim)
                    return True
        return False

    def _in_order(self, planned: Sequence[PlannedJob]) -> list[PlannedJob]:
        """Help the video with the fewest units first, but one time in four the oldest."""
        if self._fleet.rng.random() < 0.25:
            return list(planned)
        return sorted(planned, key=lambda one: one.lease.units)

    async def _video_job(self, claim: Claim) -> None:
        job, film = claim.lease.job, self._fleet.film(claim.lease.job.id)
        if claim.lease.plan is None:
            await self._machine.work(0.5)
            plan = UnitPlan(
                request=job.request,
                number=0,
                chunks=film.chunks,
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
        while joined < film.chunks:
            view = await self._units.view(claim.lease.job)
            assert view is not None
            while joined < film.chunks and view.units[keys.chunk(joined)].state is UnitState.ENDED:
                await self._machine.work(film.seconds / film.chunks * JOIN, ONE_THREAD)
                joined += 1
            await asyncio.sleep(POLL_SECONDS)

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
                seconds, most = film.seconds / film.chunks * LADDER * self._fleet.rng.uniform(0.7, 1.3), 1.0
        await run_guarded(self._machine.work(seconds, most), self._renewing(lambda: self._units.renew(claim)))
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
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, quiet_logs():
        return runner.run(fleet.run()), fleet.counts


def main() -> None:
    for look in (COPIED_LOOK, QUICK_LOOK):
        film = Film(4 * 3600, look)
        alone = 0.0
        for workers in (1, 2, 4, 8, 16, 32):
            started = time.perf_counter()
            (times,), counts = run([film], workers)
            alone = alone or times.done
            print(
                workers,
                times.looked,
                times.encoded,
                times.done,
                alone / times.done / workers,
                counts.requests,
                time.perf_counter() - started,
                film.work_seconds,
            )


if __name__ == "__main__":
    main()
