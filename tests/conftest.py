"""Fixtures for every test: lab servers that start when first asked for, and fresh buckets on them.

A server that is not installed skips its tests here and fails them in CI.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
import structlog
from structlog.typing import Processor

from backend.core.settings import ApiSettings, ClientSettings, WorkerSettings
from backend.core.store.s3 import S3Buckets
from tests.lab.buckets import fresh_buckets
from tests.lab.embedded import embedded
from tests.lab.missing import missing
from tests.lab.moto import moto
from tests.lab.rgw import RadosGateway, rgw
from tests.lab.server import ServerMissing, StoreServer

FILM = "film_product"
"""The fixture of those tests that look at one film, encoded once."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist looks for the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of a file run in one process, and all those of the film."""
    for item in items:
        together = FILM if FILM in getattr(item, "fixturenames", ()) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(together))


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Neither settings nor the SDK may see what the developer's shell and home directory hold."""
    with pytest.MonkeyPatch.context() as patch:
        for settings_class in (ApiSettings, WorkerSettings, ClientSettings):
            for name in settings_class.model_fields:
                patch.delenv(name.upper(), raising=False)
        for name in os.environ:
            if name.startswith("AWS_"):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    """structlog's own show all local variables, which takes minutes where a store in memory is among them."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    usual: list[Processor] = list(structlog.get_config()["processors"])
    structlog.configure(processors=[*usual[:-1], renderer])


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[StoreServer]:
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def embedded_server(
    tmp_path_factory: pytest.TempPathFactory, _clean_environment: None
) -> Iterator[StoreServer]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(embedded(tmp_path_factory.mktemp("embedded")))
        except ServerMissing as error:
            missing(str(error))
        yield server


@pytest.fixture(scope="session")
def rgw_gateway(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[RadosGateway]:
    """For tests marked `heavy`: it takes 20 s to start."""
    with ExitStack() as stack:
        try:
            gateway = stack.enter_context(rgw(tmp_path_factory.mktemp("rgw")))
        except ServerMissing as error:
            missing(str(error))
        yield gateway


@pytest.fixture(scope="session")
def rgw_server(rgw_gateway: RadosGateway) -> StoreServer:
    return rgw_gateway.server


@pytest.fixture
async def buckets(moto_server: StoreServer) -> AsyncIterator[S3Buckets]:
    """Two empty buckets on moto."""
    async with fresh_buckets(moto_server) as fresh:
        yield fresh
