"""Before it looks for jobs a worker asks whether the store honours create-only writes."""

import asyncio

import pytest

from backend.core.errors import BucketMissing, ConfigurationError, StoreDenied, StoreError, StoreUnavailable
from backend.core.memory import MemoryStore
from backend.core.store import PLAIN, Buckets, ObjectHeaders
from worker.admission import admit


class IgnoresConditions(MemoryStore):
    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await self.put(key, body, headers)
        return True


class Away(MemoryStore):
    """Cannot be asked for the first few times."""

    def __init__(self, error: type[StoreError], refusals: int) -> None:
        super().__init__()
        self.error = error
        self.refusals = refusals
        self.asked = asyncio.Event()

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        self.asked.set()
        self.refusals -= 1
        if self.refusals >= 0:
            raise self.error
        return await super().create(key, body, headers)


async def _admit(buckets: Buckets, *, only_worker: bool = False, concurrency: int = 1) -> None:
    await admit(
        buckets, asyncio.Event(), only_worker=only_worker, concurrency=concurrency, pause_seconds=0.001
    )


async def test_a_store_that_honours_conditions_admits_any_number() -> None:
    await _admit(Buckets(raw=MemoryStore(), video=MemoryStore()), concurrency=8)


@pytest.mark.parametrize(
    "buckets",
    [
        Buckets(raw=IgnoresConditions(), video=MemoryStore()),
        Buckets(raw=MemoryStore(), video=IgnoresConditions()),
    ],
    ids=["raw", "video"],
)
async def test_a_bucket_that_ignores_conditions_admits_only_the_only_worker(buckets: Buckets) -> None:
    with pytest.raises(ConfigurationError, match=r"the condition is ignored.*ONLY_WORKER=true"):
        await _admit(buckets)
    with pytest.raises(ConfigurationError, match="WORKER_CONCURRENCY=1"):
        await _admit(buckets, only_worker=True, concurrency=2)

    await _admit(buckets, only_worker=True)


@pytest.mark.parametrize("error", [StoreUnavailable, StoreDenied, BucketMissing])
async def test_a_store_that_cannot_be_asked_is_asked_again(error: type[StoreError]) -> None:
    raw = Away(error, refusals=3)

    await _admit(Buckets(raw=raw, video=MemoryStore()))

    assert raw.refusals < 0


async def test_a_worker_that_waits_for_its_store_can_be_stopped() -> None:
    stop = asyncio.Event()
    raw = Away(StoreUnavailable, refusals=1_000_000)
    waiting = asyncio.create_task(
        admit(Buckets(raw=raw, video=MemoryStore()), stop, only_worker=False, concurrency=1, pause_seconds=60)
    )
    await raw.asked.wait()

    stop.set()

    await asyncio.wait_for(waiting, timeout=5)
