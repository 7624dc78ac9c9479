"""Fixtures of the queue's tests: in-memory buckets with a manual clock, jobs, and a worker's whole turn."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from backend.core import keys
from backend.core.errors import StoreUnavailable
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.records import Job, OutputObject, Outputs, Retention, Status, Video
from backend.core.store.interface import Buckets, ObjectInfo, OpenUpload, Store
from tests.lab.memory_store import MemoryStore

LEASE_SECONDS = 60


@dataclass
class Clock:
    """A clock that only the test advances."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class WorkerCrashed(BaseException):
    """Simulates kill -9: no handler of the product may catch it."""


@dataclass
class Fault:
    """Makes the n-th call fail with an error of the test's choice."""

    at_call: int
    raises: Callable[[], BaseException]
    after_the_call: bool
    calls: int = 0
    struck: bool = field(default=False)

    async def before(self) -> None:
        self.calls += 1
        if self.calls == self.at_call and not self.after_the_call:
            self.struck = True
            raise self.raises()

    def after(self) -> None:
        if self.calls == self.at_call and self.after_the_call and not self.struck:
            self.struck = True
            raise self.raises()


class FaultyStore:
    """A store whose calls all go through a `Fault`."""

    def __init__(self, inner: MemoryStore, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._inner, name)

        async def call(*arguments: object, **named: object) -> object:
            await self._fault.before()
            try:
                return await verb(*arguments, **named)
            finally:
                self._fault.after()

        return call

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        await self._fault.before()
        async for chunk in self._inner.read(key, offset, etag=etag):
            yield chunk
        self._fault.after()

    async def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._fault.before()
        async for info in self._inner.list_all(prefix):
            yield info
        self._fault.after()

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        await self._fault.before()
        async for upload in self._inner.list_uploads(prefix):
            yield upload
        self._fault.after()


class Lab:
    """Buckets, clock and workers of one test."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        raw: MemoryStore | None = None,
        video: MemoryStore | None = None,
    ) -> None:
        """Custom stores must use the given clock."""
        self.clock = clock or Clock()
        self.raw = raw or MemoryStore(self.clock)
        self.video = video or MemoryStore(self.clock)
        self.buckets = Buckets(self.raw, self.video)

    def worker(
        self, name: str, *, fault: Fault | None = None, keep_originals: bool | None = False
    ) -> JobQueue:
        buckets = self.buckets
        if fault is not None:
            buckets = self.faulty(fault)
        return JobQueue(
            buckets,
            owner=name,
            lease_seconds=LEASE_SECONDS,
            keep_originals=keep_originals,
            rng=random.Random(name),
            now=self.clock,
        )

    def faulty(self, fault: Fault) -> Buckets:
        """Return both buckets with a shared fault."""
        return Buckets(_faulty(self.raw, fault), _faulty(self.video, fault))

    async def add_job(
        self, original: Retention | None = None, rank: str = keys.SMALL, video_id: str | None = None
    ) -> Job:
        """Store everything that an acknowledged upload leaves in the buckets."""
        video_id = video_id or new_id()
        job = Job(
            id=video_id,
            request=video_id,
            source=keys.upload(video_id),
            source_size_bytes=3,
            rank=rank,
            original=original,
            created_at=self.clock(),
        )
        video = Video(
            id=video_id,
            title="t",
            filename="f",
            size_bytes=3,
            original=original,
            created_at=self.clock(),
        )
        await self.raw.put(job.source, b"abc")
        await self.video.put(keys.catalog_entry(video_id), b"")
        await self.video.put(keys.video_record(video_id), video.to_json())
        await self.video.put(keys.status(video_id), Status.queued(video_id, self.clock()).to_json())
        await self.raw.create(job.marker, job.to_json())
        return job

    async def write_outputs(self, claim: Claim, video: Store | None = None) -> Outputs:
        """Write a run's objects as the pipeline does, and return their record."""
        job = claim.lease.job
        prefix = keys.run_prefix(job.id, claim.lease.run)
        store = video or self.video
        for name in ("hls/master.m3u8", "media/1.m4s"):
            await store.put(prefix + name, claim.lease.run.encode())
        size_bytes = len(claim.lease.run)
        return Outputs(
            id=job.id,
            request=job.request,
            run=claim.lease.run,
            requested_at=job.created_at,
            published_at=self.clock(),
            duration_seconds=1,
            qualities=("360p",),
            renditions=(),
            objects=tuple(
                OutputObject(path=path, size_bytes=size_bytes) for path in ("hls/master.m3u8", "media/1.m4s")
            ),
            encoder="software",
            attempt=claim.lease.attempt,
        )

    async def claim(self, queue: JobQueue) -> Claim | None:
        return await queue.claim(await queue.poll())

    async def claimed(self, queue: JobQueue) -> Claim:
        """Claim a job, which must exist."""
        claim = await self.claim(queue)
        assert claim is not None
        return claim

    async def turn(self, queue: JobQueue, video: Store | None = None) -> Claim | None:
        """Let a worker process one job, if there is one, from claim to publication."""
        claim = await self.claim(queue)
        if claim is not None:
            outputs = await self.write_outputs(claim, video)
            await queue.renew(claim)
            await queue.publish(claim, outputs)
        return claim

    async def raw_keys(self) -> list[str]:
        return [info.key async for info in self.raw.list_all("")]

    async def video_keys(self) -> list[str]:
        """Without events."""
        listed = [info.key async for info in self.video.list_all("")]
        return [key for key in listed if not key.startswith(keys.EVENTS)]

    async def result(self, job: Job) -> Outputs:
        return Outputs.from_json((await self.video.get(keys.result(job.id, job.request))).body)

    async def status(self, job: Job) -> Status:
        return Status.from_json((await self.video.get(keys.status(job.id))).body)

    async def assert_published_and_clean(self, job: Job) -> None:
        """Check that there is one result with all its objects, and nothing that should be gone."""
        outputs = await self.result(job)
        prefix = keys.run_prefix(job.id, outputs.run)
        assert await self.raw_keys() == []
        assert sorted(await self.video_keys()) == sorted(
            [
                keys.catalog_entry(job.id),
                keys.video_record(job.id),
                keys.status(job.id),
                keys.result(job.id, job.request),
                *(prefix + one.path for one in outputs.objects),
            ]
        )
        status = await self.status(job)
        assert (status.status, status.outputs) == ("done", prefix)


def _faulty(store: MemoryStore, fault: Fault) -> Store:
    return cast(Store, FaultyStore(store, fault))  # most methods come from __getattr__


def crash() -> BaseException:
    return WorkerCrashed()


def lost_answer() -> BaseException:
    return StoreUnavailable("the response was lost")
