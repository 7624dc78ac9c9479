"""A bucket with an inbox, another one to import from, and workers that copy from both."""

import asyncio
from typing import cast

from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.snapshot import Needs
from backend.core.library.videos import list_videos
from backend.core.records import FetchKind, Stage
from backend.core.store.interface import Buckets
from backend.core.uploads.inbox import Inbox, Looked
from tests.core.jobs.queue_lab import LEASE_SECONDS, Fault, FaultyStore, Lab
from tests.lab.memory_store import MemoryStore
from tests.worker.run.test_job import TRANSCODED, Pipeline
from worker.fetch.s3_fetcher import S3Fetcher
from worker.fetch.source import SourceFetching
from worker.run.heartbeat import Heartbeat
from worker.run.job import JobRunner
from worker.run.outcomes import Attempts

PART_BYTES = 1024
FILE = bytes(range(256)) * 10  # two parts and a half
SETTLED = 31


class ImportLab(Lab):
    """Without a fault, its buckets include `films`."""

    def __init__(
        self, raw: MemoryStore | None = None, video: MemoryStore | None = None, settle_seconds: float = 30
    ) -> None:
        super().__init__(raw=raw, video=video)
        self.settle_seconds = settle_seconds
        self.films = MemoryStore(self.clock)
        self.raw.neighbours["films"] = self.films
        self.buckets = Buckets(self.raw, self.video, {"films": self.films})

    async def drop(self, name: str, body: bytes = FILE) -> None:
        """Put a file into the inbox, and let it settle."""
        await self.raw.put(f"inbox/{name}", body)
        self.clock.advance(SETTLED)

    async def look(self, inbox: Inbox | None = None) -> Looked:
        return await (inbox or Inbox(self.buckets, 10**9, settle_seconds=self.settle_seconds)).look()

    async def inbox(self) -> list[str]:
        return [info.key async for info in self.raw.list_all("inbox/")]

    async def titles(self, stage: Stage = Stage.COMPLETE) -> list[str]:
        """Return the titles of all videos, which are at this stage."""
        items = (await list_videos(self.buckets, limit=1000)).items
        assert {item.status.stage for item in items} <= {stage}
        return sorted(item.video.title for item in items)

    def runner(self, queue: JobQueue, buckets: Buckets | None = None) -> JobRunner:
        buckets = buckets or self.buckets
        return JobRunner(
            queue=queue,
            pipeline=Pipeline(self, lambda: TRANSCODED),
            video=self.video,
            attempts=Attempts(Heartbeat(60), 3),
            status_every_seconds=0,
            fetching=SourceFetching(buckets, {FetchKind.S3: S3Fetcher(buckets)}, 60),
        )

    async def work(self, name: str = "one") -> int:
        """Do all jobs to their end, whatever becomes of them. Return how many there were."""
        done = 0
        queue = self.worker(name)
        while (claim := await self.claim(queue)) is not None:
            await self.runner(queue)(claim, asyncio.Event())
            done += 1
        return done

    async def fetch(self, fault: Fault) -> None:
        """Let a worker whose store fails fetch the source of one job."""
        queue, buckets = self.worker("struck", fault=fault), self.faulty(fault)
        claim = await queue.claim(await queue.poll(), needs=Needs.FETCHING)
        if claim is not None:
            await self.runner(queue, buckets).work(claim)._run()

    def faulty(self, fault: Fault) -> Buckets:
        films = cast(MemoryStore, FaultyStore(self.films, fault))
        buckets = super().faulty(fault)
        return Buckets(buckets.raw, buckets.video, {"films": films})

    async def settle(self) -> None:
        """Let other processes do whatever is left."""
        for name in ("second", "third"):
            self.clock.advance(LEASE_SECONDS + 1)
            await self.look()
            await self.work(name)
        await self.look()
