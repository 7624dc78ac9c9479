"""Random schedules of the queue protocol: crashes, freezes past the lease and lost answers at any store call.

Each schedule is one seed, so that a failure can be run again. Issue-sized exploration belongs elsewhere; this
is the part that every run of the suite can afford.
"""

import asyncio
import random
from collections.abc import AsyncIterator

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.errors import LeaseLost, StoreError, StoreUnavailable, VideoDeleted
from backend.core.jobs import JobQueue
from backend.core.memory import MemoryStore
from backend.core.store import Buckets, ObjectInfo, OpenUpload, Store
from tests.core.queue_lab import LEASE_SECONDS, Lab, WorkerCrashed

WORKERS = 4
JOBS = 3
STEPS = 400


class Dice:
    """Decides what happens to one worker at each of its store calls."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def before(self) -> None:
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)
        if self._rng.random() < 0.03:
            for _ in range(self._rng.randrange(200)):  # frozen: meanwhile the clock passes the lease
                await asyncio.sleep(0)

    def after(self) -> None:
        chance = self._rng.random()
        if chance < 0.02:
            raise WorkerCrashed
        if chance < 0.04:
            raise StoreUnavailable("the answer was lost")


class UnreliableStore:
    """A store whose awaited verbs are delayed, and whose answers may be lost together with their caller."""

    def __init__(self, inner: MemoryStore, dice: Dice) -> None:
        self._inner = inner
        self._dice = dice

    def __getattr__(self, name: str) -> object:
        verb = getattr(self._inner, name)

        async def call(*arguments: object, **named: object) -> object:
            await self._dice.before()
            try:
                return await verb(*arguments, **named)
            finally:
                self._dice.after()

        return call

    async def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._dice.before()
        async for info in self._inner.list_all(prefix):
            yield info
        self._dice.after()

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        await self._dice.before()
        async for upload in self._inner.list_uploads(prefix):
            yield upload


async def _worker(lab: Lab, name: str, rng: random.Random, published: list[str]) -> None:
    """Work until killed or until the schedule is over; behave as `worker.job` does."""
    dice = Dice(rng)
    raw: Store = UnreliableStore(lab.raw, dice)  # type: ignore[assignment]
    video: Store = UnreliableStore(lab.video, dice)  # type: ignore[assignment]
    queue = JobQueue(Buckets(raw, video), owner=name, lease_seconds=LEASE_SECONDS, rng=rng, now=lab.clock)
    for _ in range(STEPS):
        try:
            claim = await queue.claim(await queue.look())
            if claim is None:
                await asyncio.sleep(0)
                continue
            try:
                outputs = await lab.write_outputs(claim, video)
                await queue.renew(claim)
                if await queue.publish(claim, outputs):
                    published.append(claim.request)
            except LeaseLost:
                await queue.leave(claim)
            except VideoDeleted:
                await queue.discard_deleted(claim)
        except StoreError:
            continue
        except WorkerCrashed:
            return


async def _schedule(seed: int) -> None:
    rng = random.Random(seed)
    lab = Lab()
    jobs = [await lab.add_job() for _ in range(JOBS)]
    published: list[str] = []

    async def tick() -> None:
        while True:
            lab.clock.advance(rng.choice((0, 0, 1, 2)))
            await asyncio.sleep(0)

    clock = asyncio.create_task(tick())
    rngs = [random.Random(rng.random()) for _ in range(WORKERS)]
    await asyncio.gather(*(_worker(lab, f"w{n}", worker, published) for n, worker in enumerate(rngs)))
    clock.cancel()
    # Whoever is left finds an unreliable past and a reliable store.
    for name in ("janitor", "second janitor"):
        lab.clock.advance(LEASE_SECONDS + 1)
        while await lab.turn(lab.worker(name)):
            pass

    assert len(published) == len(set(published)), "a request was published twice"
    for job in jobs:
        outputs = await lab.result(job)
        found = [key for key in await lab.video_keys() if f"/{outputs.run}/" in key]
        assert len(found) == len(outputs.objects), "a published run is not complete"
        assert (await lab.status(job)).status == "done"
    assert await lab.raw_keys() == [], "a marker, a lease or a source is left"


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_schedule_loses_a_job_or_publishes_it_twice(seed: int) -> None:
    asyncio.run(_schedule(seed))
