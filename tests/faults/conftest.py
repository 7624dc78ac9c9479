"""What the rows share: the proxy before a real store, and the product on it, here and as processes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backend.core.store.s3 import ensure_buckets, open_buckets
from tests.faults.lab import WireLab
from tests.lab.buckets import store_settings
from tests.lab.product import Product, product_on
from tests.lab.proxy import FaultProxy
from tests.lab.rgw import RadosGateway
from tests.lab.server import StoreServer


@pytest.fixture
def wire(rgw_server: StoreServer) -> Iterator[FaultProxy]:
    with FaultProxy(rgw_server) as proxy:
        yield proxy


@pytest.fixture
async def lab(wire: FaultProxy, rgw_server: StoreServer) -> WireLab:
    return await _lab_behind(wire, rgw_server)


@pytest.fixture
async def own_lab(own_gateway: RadosGateway) -> AsyncIterator[WireLab]:
    """The same on a store that the test may freeze or kill."""
    with FaultProxy(own_gateway.server) as wire:
        yield await _lab_behind(wire, own_gateway.server)


async def _lab_behind(wire: FaultProxy, store: StoreServer) -> WireLab:
    direct = store_settings(store)
    through = direct.model_copy(update={"s3_endpoint_url": store_settings(wire.server).s3_endpoint_url})
    async with open_buckets(direct) as buckets:
        await ensure_buckets(buckets)
    return WireLab(wire, through, direct)


@pytest.fixture
def product(wire: FaultProxy, tmp_path: Path) -> Iterator[Product]:
    """The product as processes, behind the proxy, with a short lease so that take-overs are quick."""
    store = wire.server
    with product_on(
        store.endpoint_url, store.access_key, store.secret_key, tmp_path, LEASE_SECONDS="6"
    ) as running:
        yield running
