"""Fifty slow clients at the same time use little memory of the API, and do not block a fast one."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urljoin

import httpx
import pytest

from backend.core.uploads.buffers import MIB
from tests.lab.memory import measure
from tests.lab.product import ADMIN_TOKEN, Product

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

SLOW_CLIENTS = 50
SLOW_BYTES = 64 * MIB
DRIP_BYTES = 128 * 1024
DRIP_SECONDS = 0.5
FAST_BYTES = 16 * MIB
MOST_GROWTH_MIB = 100
MOST_SECONDS = 120
TUS = {"tus-resumable": "1.0.0"}
BYTES = {**TUS, "content-type": "application/offset+octet-stream", "upload-offset": "0"}


def test_slow_clients_use_little_memory_and_do_not_block_a_fast_one(product: Product) -> None:
    api = product.start_api()

    took_seconds, growth_mib = measure(api.pid, lambda: asyncio.run(_all_at_once(product.url)))

    assert growth_mib < MOST_GROWTH_MIB
    assert took_seconds < MOST_SECONDS


async def _all_at_once(url: str) -> None:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    limits = httpx.Limits(max_connections=SLOW_CLIENTS + 10)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=MOST_SECONDS, trust_env=False
    ) as client:
        urls = [await _create(client, SLOW_BYTES) for _ in range(SLOW_CLIENTS)]
        sent = dict.fromkeys(urls, 0)
        slow = [asyncio.create_task(_drip(client, one, sent)) for one in urls]
        await asyncio.sleep(6)  # most of them wait for memory by now

        fast = await _create(client, FAST_BYTES)
        answer = await client.patch(fast, headers=BYTES, content=bytes(FAST_BYTES))
        assert answer.headers["upload-offset"] == str(FAST_BYTES)

        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        for one in urls[:5]:
            kept = int((await client.head(one, headers=TUS)).headers["upload-offset"])
            assert 0 < kept <= sent[one]


async def _create(client: httpx.AsyncClient, length: int) -> str:
    answer = await client.post("/api/uploads", headers={**TUS, "upload-length": str(length)})
    return urljoin(str(answer.url), answer.headers["location"])


async def _drip(client: httpx.AsyncClient, url: str, sent: dict[str, int]) -> None:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield bytes(DRIP_BYTES)
            sent[url] += DRIP_BYTES
            await asyncio.sleep(DRIP_SECONDS)

    await client.patch(url, headers=BYTES, content=body())
