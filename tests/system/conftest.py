"""The product as processes on a real store (Ceph RGW), with a short lease so that take-overs are quick."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.clips import big_buck_bunny
from tests.lab.product import ADMIN_TOKEN, Product, product_on
from tests.lab.server import StoreServer


@pytest.fixture
def product(rgw_server: StoreServer, tmp_path: Path) -> Iterator[Product]:
    with product_on(
        rgw_server.endpoint_url, rgw_server.access_key, rgw_server.secret_key, tmp_path, LEASE_SECONDS="6"
    ) as running:
        yield running


@pytest.fixture(scope="session")
def film_product(rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product that holds one real film and nothing else."""
    logs = tmp_path_factory.mktemp("logs")
    with product_on(rgw_server.endpoint_url, rgw_server.access_key, rgw_server.secret_key, logs) as running:
        running.start_api()
        yield running


@pytest.fixture(scope="session")
def film(film_product: Product) -> str:
    """The film's id: uploaded as a form with curl, and finished by a worker."""
    answer = subprocess.run(
        [
            *("curl", "-sS", "--fail", "-H", f"Authorization: Bearer {ADMIN_TOKEN}"),
            *(
                "-F",
                "title=Big Buck Bunny",
                "-F",
                f"file=@{big_buck_bunny()}",
                f"{film_product.url}/api/upload",
            ),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    video_id: str = json.loads(answer.stdout)["id"]
    film_product.drain()
    return video_id
