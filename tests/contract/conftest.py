"""The stores on which the contract is tested."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.core.store.file_store import FileStore
from backend.core.store.interface import Store
from backend.core.store.s3 import S3Buckets
from tests.lab.buckets import fresh_buckets
from tests.lab.memory_store import MemoryStore
from tests.lab.server import StoreServer

_RGW = pytest.param("rgw_server", marks=pytest.mark.heavy)
_SERVERS = ["moto_server", "embedded_server", _RGW]

# Stores with known differences from S3 skip the tests they cannot pass. moto checks no signatures, answers
# 500 for a vanished upload, gives all uploads the same date and allows every origin. How the embedded store,
# SeaweedFS, differs is asserted in test_embedded_differences.py.
on_servers_that_check_signatures = pytest.mark.parametrize("server", ["embedded_server", _RGW], indirect=True)
on_servers_that_check_origins = on_servers_that_check_signatures
_not_moto = pytest.mark.parametrize("store", ["memory", "files", "embedded_server", _RGW], indirect=True)
on_stores_that_report_vanished_uploads = _not_moto
on_stores_that_date_uploads = _not_moto
_not_embedded = pytest.mark.parametrize("store", ["memory", "moto_server", _RGW], indirect=True)
on_stores_that_list_in_key_order = _not_embedded
on_stores_that_replace_parts = pytest.mark.parametrize(
    "store", ["memory", "files", "moto_server", _RGW], indirect=True
)
on_the_embedded_store = pytest.mark.parametrize("server", ["embedded_server"], indirect=True)


@pytest.fixture(params=["memory", "files", *_SERVERS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "files":
        yield FileStore(tmp_path)
        return
    async with fresh_buckets(request.getfixturevalue(request.param)) as buckets:
        yield buckets.video


@pytest.fixture(params=_SERVERS)
def server(request: pytest.FixtureRequest) -> StoreServer:
    found: StoreServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def served(server: StoreServer) -> AsyncIterator[S3Buckets]:
    """Fresh buckets on each real server."""
    async with fresh_buckets(server) as buckets:
        yield buckets
