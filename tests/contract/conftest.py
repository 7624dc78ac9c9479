"""The stores that the contract is checked on."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from backend.core.memory import MemoryStore
from backend.core.s3 import S3Buckets
from backend.core.store import Store
from tests.lab.buckets import fresh_buckets
from tests.lab.server import StoreServer

_HEAVY = pytest.mark.heavy
_SERVERS = [
    "moto_server",
    "ministack_server",
    pytest.param("rgw_server", marks=_HEAVY),
]


@dataclass(frozen=True, slots=True)
class Subject:
    """A store under test and the server that it is on; None for the one in memory."""

    store: Store
    server: StoreServer | None

    def lacks(self, what: str) -> None:
        """Skip, because this server is known to differ from S3 here."""
        pytest.skip(f"{self.server.name if self.server else 'memory'} {what}")


@pytest.fixture(params=["memory", *_SERVERS])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryStore(), None)
        return
    server: StoreServer = request.getfixturevalue(request.param)
    async with fresh_buckets(server) as buckets:
        yield Subject(buckets.video, server)


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store


@pytest.fixture(params=_SERVERS)
def server(request: pytest.FixtureRequest) -> StoreServer:
    found: StoreServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def served(server: StoreServer) -> AsyncIterator[S3Buckets]:
    """Fresh buckets on each real server."""
    async with fresh_buckets(server) as buckets:
        yield buckets
