"""Store operations are retried during outages."""

import pytest

from backend.core.errors import ObjectNotFound, StoreDenied, StoreError, StoreUnavailable
from backend.core.store import retrying
from backend.core.store.interface import PLAIN, Body, ObjectHeaders
from backend.core.store.retrying import RetryingStore
from tests.lab.memory_store import MemoryStore


class Away(MemoryStore):
    """Fails its first writes."""

    def __init__(self, *errors: StoreError) -> None:
        super().__init__()
        self.errors = list(errors)
        self.calls = 0

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        await super().put(key, body, headers)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(retrying, "LONGEST_PAUSE_SECONDS", 0.002)


async def test_retries_until_the_store_is_back() -> None:
    away = Away(*[StoreUnavailable()] * 20)

    await RetryingStore(away, 60).put("k", b"x")

    assert (await away.get("k")).body == b"x"


async def test_raises_the_stores_error_when_time_is_up() -> None:
    away = Away(*[StoreUnavailable("it is away")] * 1_000_000)

    with pytest.raises(StoreUnavailable, match="it is away"):
        await RetryingStore(away, 0.05).put("k", b"x")

    assert 2 < away.calls < 60


async def test_does_not_retry_refusals() -> None:
    away = Away(StoreDenied())

    with pytest.raises(StoreDenied):
        await RetryingStore(away, 60).put("k", b"x")
    with pytest.raises(ObjectNotFound):
        await RetryingStore(away, 60).get("k")

    assert away.calls == 1
