"""`python -m backend` with 200 descriptors: silent clients never exhaust them."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection, socket

import pytest

from tests.lab.product import REPOSITORY, Product, product_on
from tests.lab.server import StoreServer, running

DESCRIPTORS = 200
SILENT_CLIENTS = 260
START = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))
runpy.run_module("backend", run_name="__main__")
"""
HEAD = b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90\r\n"


@pytest.fixture
def product(moto_server: StoreServer, tmp_path: Path) -> Iterator[Product]:
    access = (moto_server.endpoint_url, moto_server.access_key, moto_server.secret_key)
    with product_on(*access, tmp_path) as product:
        yield product


def test_silent_clients_leave_room_for_others(product: Product, tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    api = running(
        [sys.executable, "-c", START],
        url=f"{product.url}/healthz",
        log=log,
        environment={**product.environment, "PORT": str(product.port)},
        directory=REPOSITORY,
    )
    with api as process, ExitStack() as clients:
        for number in range(SILENT_CLIENTS):
            client: socket = clients.enter_context(create_connection(("127.0.0.1", product.port), timeout=20))
            client.sendall([b"", b"POST /api/ses", HEAD, HEAD + b"\r\n{"][number % 4])
        with product.client() as client_of_ours:
            assert client_of_ours.get("/readyz").text == "ok"  # needs connections to the store
            created = client_of_ours.post("/api/videos", content=b"a video")
            assert created.status_code == 201
            assert client_of_ours.get(f"/api/videos/{created.json()['id']}").status_code == 200
        assert process.poll() is None
    assert "not_accepted" not in log.read_text()
    assert "Too many open files" not in log.read_text()
