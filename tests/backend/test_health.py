"""Readiness says if this machine's clock differs from the store's."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from backend.core.store.interface import Buckets
from tests.lab.memory_store import MemoryStore

AHEAD = timedelta(minutes=20)


@pytest.fixture
def buckets() -> Buckets:
    return Buckets(raw=MemoryStore(lambda: datetime.now(UTC) + AHEAD), video=MemoryStore())


async def test_a_wrong_clock_is_said(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/readyz")

    assert answer.status_code == 200
    assert answer.text == "ok\nThis machine's clock is 1200 s behind the store's."
