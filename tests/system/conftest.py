"""The product as processes on a real store (Ceph RGW), with a short lease so that take-overs are quick."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.product import Product, product_on
from tests.lab.rgw import RadosGateway
from tests.lab.server import StoreServer


@pytest.fixture
def product(rgw_server: StoreServer, tmp_path: Path) -> Iterator[Product]:
    with product_on(
        rgw_server.endpoint_url, rgw_server.access_key, rgw_server.secret_key, tmp_path, LEASE_SECONDS="6"
    ) as running:
        yield running


@pytest.fixture
def own_product(own_gateway: RadosGateway, tmp_path: Path) -> Iterator[Product]:
    """The same on a store that the test may stop."""
    server = own_gateway.server
    with product_on(server.endpoint_url, server.access_key, server.secret_key, tmp_path) as running:
        yield running
