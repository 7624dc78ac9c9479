"""The queue: how fast a number of workers process empty jobs, and how many requests each job costs.

Every worker has its own `JobQueue`, `Poller` and `JobRunner`, as a real one does, but all share one event
loop. So the figures depend on the protocol and the store, not on the number of cores.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

from backend.core import keys
from backend.core.errors import ObjectNotFound
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.records import Job, Video
from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Buckets,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    OpenUpload,
    Store,
    StoredObject,
    list_all,
)
from bench.table import print_table
from tests.lab.buckets import fresh_buckets
from tests.lab.memory_store import MemoryStore
from tests.lab.rgw import rgw
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.loop import serve
from worker.run.outcomes import Attempts
from worker.run.poller import Poller
from worker.transcode.progress import Progress
from worker.transcode.transcoder import Transcoded

WORKERS = (1, 8, 32)
LEASE_SECONDS = 60.0
SETTING_UP_AT_A_TIME = 32
NOTHING = Transcoded(duration_seconds=0, qualities=(), renditions=(), objects=(), encoder="none")
T = TypeVar("T")


@dataclass
class Counts:
    """Requests to the store, and claims lost to other workers."""

    requests: int = 0
    lost: int = 0


class CountingStore:
    """Counts requests. A lost create counts as two, because the store reads the object back.

    Each request takes `latency_seconds` longer, to simulate a network.
    """

    def __init__(self, inner: Store, counts: Counts, latency_seconds: float) -> None:
        self._inner = inner
        self._counts = counts
        self._latency_seconds = latency_seconds

    async def _count(self) -> None:
        self._counts.requests += 1
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._inner, name)

        async def call(*arguments: object, **named: object) -> object:
            await self._count()
            return await verb(*arguments, **named)

        return call

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await self._count()
        created = await self._inner.create(key, body, headers)
        if not created:
            await self._count()
            self._counts.lost += key.startswith(keys.LEASES)
        return created

    async def get(self, key: str) -> StoredObject:
        return await self._read_counted(key, self._inner.get)

    async def head(self, key: str) -> ObjectInfo:
        return await self._read_counted(key, self._inner.head)

    async def _read_counted(self, key: str, verb: Callable[[str], Awaitable[T]]) -> T:
        await self._count()
        try:
            return await verb(key)
        except ObjectNotFound:
            self._counts.lost += key.startswith(keys.QUEUE)
            raise

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        await self._count()
        return await self._inner.list_page(prefix, start_after=start_after, limit=limit)

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return list_all(self.as_store(), prefix)

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        await self._count()
        async for upload in self._inner.list_uploads(prefix):
            yield upload

    def as_store(self) -> Store:
        """Return itself as a `Store`: type checkers do not see the verbs in `__getattr__`."""
        return cast(Store, self)


class NoWork:
    """A pipeline that does nothing."""

    async def run(self, job: Job, run: str, report: Callable[[Progress], None]) -> Transcoded:
        return NOTHING


@dataclass
class Fleet:
    """Workers on the same buckets. They stop when the jobs or the time run out."""

    buckets: Buckets
    jobs: int
    seconds: float
    latency_seconds: float = 0
    done: int = 0
    counts: Counts = field(default_factory=Counts)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, workers: int) -> float:
        """Run the workers and return the seconds they took."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(self._end_after())
            tasks = [group.create_task(self._work(f"worker-{number}")) for number in range(workers)]
            await asyncio.gather(*tasks)
            ending.cancel()
        return time.perf_counter() - began

    async def _end_after(self) -> None:
        await asyncio.sleep(self.seconds)
        self.stop.set()

    async def _work(self, name: str) -> None:
        buckets = Buckets(
            self._counting(self.buckets.raw),
            self._counting(self.buckets.video),
        )
        queue = JobQueue(buckets, owner=name, lease_seconds=LEASE_SECONDS)
        runner = JobRunner(
            queue=queue,
            pipeline=NoWork(),
            video=buckets.video,
            attempts=Attempts(Heartbeat(LEASE_SECONDS), max_attempts=3),
        )

        async def handle(claim: Claim, stop: asyncio.Event) -> None:
            # Not the fleet's own event: claimed jobs are always finished.
            await runner(claim, asyncio.Event())
            self.done += 1
            if self.done >= self.jobs:
                stop.set()

        poller = Poller(queue, self.stop, poll_seconds=5, lease_seconds=LEASE_SECONDS)
        await serve(poller, queue.claim, handle, self.stop)

    def _counting(self, store: Store) -> Store:
        return CountingStore(store, self.counts, self.latency_seconds).as_store()


def bench_queue(jobs: int, seconds: float) -> None:
    """Print jobs per second, lost claims and requests per job, in memory and on Ceph RGW."""
    rows = asyncio.run(_measure("memory", _memory, jobs, seconds))
    rows += asyncio.run(_measure("memory, 5 ms a request", _memory, jobs, seconds, latency_seconds=0.005))
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        rows += asyncio.run(_measure("Ceph RGW", lambda: fresh_buckets(gateway.server), jobs, seconds))
    print_table(
        f"Queue of {jobs} jobs of no work; each row ends after {seconds:g} s or with the last job",
        ["store", "workers", "jobs/s", "ratio to 1 worker", "claims lost per 100 jobs", "requests per job"],
        rows,
    )


@asynccontextmanager
async def _memory() -> AsyncIterator[Buckets]:
    yield Buckets(MemoryStore(), MemoryStore())


async def _measure(
    store: str,
    opened: Callable[[], AbstractAsyncContextManager[Buckets]],
    jobs: int,
    seconds: float,
    latency_seconds: float = 0,
) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    first = 0.0
    for workers in WORKERS:
        async with opened() as buckets:
            await _queue_jobs(buckets, jobs)
            fleet = Fleet(buckets, jobs, seconds, latency_seconds)
            took = await fleet.run(workers)
            rate = fleet.done / took
            first = first or rate
            rows.append(
                [
                    store,
                    str(workers),
                    f"{rate:.0f}",
                    f"{rate / first:.2f}",
                    f"{100 * fleet.counts.lost / fleet.done:.1f}",
                    f"{fleet.counts.requests / fleet.done:.2f}",
                ]
            )
    return rows


async def _queue_jobs(buckets: Buckets, jobs: int) -> None:
    free = asyncio.Semaphore(SETTING_UP_AT_A_TIME)

    async def add() -> None:
        async with free:
            video_id, now = new_id(), datetime.now(UTC)
            video = Video(id=video_id, title="t", filename="f", size_bytes=1, created_at=now)
            job = Job(
                id=video_id,
                request=video_id,
                source=keys.upload(video_id),
                source_size_bytes=1,
                created_at=now,
            )
            await buckets.video.put(keys.video_record(video_id), video.to_json())
            await buckets.raw.put(keys.marker(video_id), job.to_json())

    await asyncio.gather(*(add() for _ in range(jobs)))
