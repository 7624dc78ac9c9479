"""Before it looks for jobs, a worker checks that the store honours create-only writes."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from backend.core.errors import BucketMissing, ConfigurationError, StoreDenied, StoreError, StoreUnavailable
from backend.core.store.interface import PLAIN, Buckets, ObjectHeaders
from tests.lab.memory_store import MemoryStore
from tests.lab.product import START_SECONDS, STOP_SECONDS, product_on
from tests.lab.server import free_port
from worker.run.admission import admit


class IgnoresConditions(MemoryStore):
    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await self.put(key, body, headers)
        return True


class Away(MemoryStore):
    """Fails the first few times."""

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


async def _admit(buckets: Buckets) -> None:
    await admit(buckets, asyncio.Event(), pause_seconds=0.001)


async def test_admits_a_worker_if_the_store_honours_conditions() -> None:
    await _admit(Buckets(raw=MemoryStore(), video=MemoryStore()))


@pytest.mark.parametrize(
    "buckets",
    [
        Buckets(raw=IgnoresConditions(), video=MemoryStore()),
        Buckets(raw=MemoryStore(), video=IgnoresConditions()),
    ],
    ids=["raw", "video"],
)
async def test_admits_no_worker_if_a_bucket_ignores_conditions(buckets: Buckets) -> None:
    with pytest.raises(ConfigurationError, match=r"the condition is ignored.*ONLY_WORKER=true"):
        await _admit(buckets)


@pytest.mark.parametrize("error", [StoreUnavailable, StoreDenied, BucketMissing])
async def test_retries_a_store_that_cannot_be_reached(error: type[StoreError]) -> None:
    raw = Away(error, refusals=3)

    await _admit(Buckets(raw=raw, video=MemoryStore()))

    assert raw.refusals < 0


class Hangs(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        self.asked.set()
        await asyncio.Event().wait()
        return False


@pytest.mark.parametrize("raw", [Away(StoreUnavailable, refusals=1_000_000), Hangs()], ids=["away", "hangs"])
async def test_worker_waiting_for_its_store_can_be_stopped(raw: Away | Hangs) -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(admit(Buckets(raw=raw, video=MemoryStore()), stop, pause_seconds=60))
    await raw.asked.wait()

    stop.set()

    await asyncio.wait_for(waiting, timeout=5)


async def test_worker_process_waits_for_its_store_until_stopped(tmp_path: Path) -> None:
    with product_on(f"http://127.0.0.1:{free_port()}", "key", "secret", tmp_path) as product:
        worker = product.start_worker(VIDEO_SERVER_ENCODER="software")
        deadline = time.monotonic() + START_SECONDS
        while "store_not_probed" not in product.log_of("worker"):
            assert worker.poll() is None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(timeout=STOP_SECONDS) == 0
