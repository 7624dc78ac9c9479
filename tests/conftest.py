"""Fixtures for every test: lab servers that start on first use, and fresh buckets on them.

If a server is not installed, its tests are skipped on a developer's machine and fail in CI.
"""

import functools
import json
import os
import re
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import botocore.session
import hypothesis
import pytest
import structlog
from structlog.typing import Processor

from backend.core.access import admin_token, slow_hashes
from backend.core.settings import ApiSettings, ClientSettings, WorkerSettings
from backend.core.store.s3 import S3Buckets
from tests.lab.buckets import fresh_buckets
from tests.lab.clips import big_buck_bunny
from tests.lab.embedded import embedded
from tests.lab.missing import missing
from tests.lab.moto import moto
from tests.lab.product import ADMIN_TOKEN, SITE, Product, product_on
from tests.lab.rgw import RadosGateway, rgw, shared_rgw
from tests.lab.server import ServerMissing, StoreServer
from tests.sampling import sample

SHARED = {"film_upload": "film", "short_film": "film", "own_gateway": "own gateway"}
"""Expensive fixtures and their groups. All tests of a group run in one process, one after another."""
LONGEST_FIRST = ("e2e", "faults", "system", "core", "infra", "vodbucket", "contract")
"""The order in which folders run. Unlisted folders come last: their many short tests fill the gaps."""
WHOLLY_HEAVY = re.compile(r"^pytestmark = \[?pytest\.mark\.heavy\b", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("corpora")
    group.addoption("--corpora", choices=["all", "sample"], default="all", help="how much of a corpus to run")
    group.addoption("--sample-seed", type=int, help="repeat the sample of an earlier run")


def pytest_configure(config: pytest.Config) -> None:
    # Thirty random inputs a property, and no limit of time for one: a busy machine may be slow.
    hypothesis.settings.register_profile("few", hypothesis.settings.default, max_examples=30, deadline=None)
    hypothesis.settings.load_profile("few")
    if config.option.sample_seed is None:
        from_xdist = getattr(config, "workerinput", {}).get("sample_seed")
        config.option.sample_seed = secrets.randbelow(2**32) if from_xdist is None else from_xdist


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass this run's seed to a pytest-xdist worker process."""
    node.workerinput["sample_seed"] = node.config.option.sample_seed


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.corpora == "all":
        return None
    return f"corpora: a sample of each kind; repeat it with --sample-seed {config.option.sample_seed}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules of which no test will run: importing them costs each process several seconds."""
    if config.option.markexpr != "not heavy":
        return None
    modules = [collection_path] if collection_path.is_file() else [*collection_path.rglob("test_*.py")]
    return (bool(modules) and all(WHOLLY_HEAVY.search(module.read_text()) for module in modules)) or None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks in its own hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Pick the sample, order the tests and group those that must share a process."""
    if config.option.corpora == "sample":
        _deselect_unsampled(config, items)
    items.sort(key=_place)
    for item in items:
        group = _shared_by(item) or (None if item.get_closest_marker("spread") else str(item.path))
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def _deselect_unsampled(config: pytest.Config, items: list[pytest.Item]) -> None:
    kinds: dict[str, str] = {}
    for item in items:
        if mark := item.get_closest_marker("corpus"):
            kinds[item.nodeid] = f"{item.nodeid.partition('[')[0]} {mark.args[0]}"
    left_out = kinds.keys() - sample(kinds, config.option.sample_seed)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


def _shared_by(item: pytest.Item) -> str | None:
    needed = getattr(item, "fixturenames", ())
    return next((name for fixture, name in SHARED.items() if fixture in needed), None)


def _place(item: pytest.Item) -> tuple[int, int]:
    """Return a test's place in the run: tests that play the film during encoding come first."""
    if _shared_by(item) == "film":
        folder = item.path.parent.name
        return (0, 0) if "early" in getattr(item, "fixturenames", ()) else (0, 1 if folder == "system" else 2)
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return (1, LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST))


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Hide the developer's shell variables and home directory from our settings and the SDK."""
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
def _sdk_reads_its_data_once() -> Iterator[None]:
    """Share the SDK's description of S3: parsing it is most of the work of opening buckets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _cheap_fingerprints() -> Iterator[None]:
    """In this process, do not make guessing expensive. The product's own processes do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (admin_token, slow_hashes):
            patch.setattr(module, "SCRYPT_COST", 2)
        yield


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    """Print tracebacks without local variables: printing an in-memory store takes minutes."""
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
def rgw_server(
    tmp_path_factory: pytest.TempPathFactory, _clean_environment: None, worker_id: str
) -> Iterator[StoreServer]:
    """For tests marked `heavy`: one gateway for all processes of this run, since it takes 20 s to start."""
    own = tmp_path_factory.getbasetemp()
    with ExitStack() as stack:
        try:
            gateway = stack.enter_context(shared_rgw(own if worker_id == "master" else own.parent))
        except ServerMissing as error:
            missing(str(error))
        yield gateway.server


@pytest.fixture(scope="session")
def own_gateway(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[RadosGateway]:
    """For tests that make the gateway fail: it is not shared with other processes."""
    with ExitStack() as stack:
        try:
            gateway = stack.enter_context(rgw(tmp_path_factory.mktemp("rgw")))
        except ServerMissing as error:
            missing(str(error))
        yield gateway


@pytest.fixture(scope="session")
def site_product(rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product with its site, one API and one worker, shared by tests that do not interfere."""
    logs = tmp_path_factory.mktemp("logs")
    with product_on(
        rgw_server.endpoint_url, rgw_server.access_key, rgw_server.secret_key, logs, SITE_DIR=str(SITE)
    ) as running:
        running.start_api()
        running.start_worker()
        yield running


@pytest.fixture(scope="session")
def film_upload(site_product: Product) -> str:
    """The id of a real 30 s film, just uploaded as a form with curl. It is still being encoded."""
    film = big_buck_bunny()
    if not film.is_file():
        missing("no film: make test-heavy installs it")
    title, file = "title=Big Buck Bunny", f"file=@{film}"
    curl = ("curl", "-sS", "--fail", "-H", f"Authorization: Bearer {ADMIN_TOKEN}", "-F", title, "-F", file)
    answer = subprocess.run(
        [*curl, f"{site_product.url}/api/upload"], check=True, capture_output=True, timeout=60
    )
    video_id: str = json.loads(answer.stdout)["id"]
    return video_id


@pytest.fixture(scope="session")
def film(site_product: Product, film_upload: str) -> str:
    """The id of the same film once 360p, 720p and 1080p are ready."""
    site_product.wait_for(film_upload, status="done", seconds=300)
    return film_upload


@pytest.fixture
async def buckets(moto_server: StoreServer) -> AsyncIterator[S3Buckets]:
    """Two empty buckets on moto."""
    async with fresh_buckets(moto_server) as fresh:
        yield fresh
