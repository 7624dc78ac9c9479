"""tus-js-client, tuspy and the command line upload to an API that is killed, on a store that fails."""

import random
from pathlib import Path

import pytest

from tests.faults.clients import TUS_JS, harm, ordeal
from tests.faults.registry import row
from tests.lab.missing import missing
from tests.lab.proxy import FaultProxy
from tests.lab.server import StoreServer

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

SIZE_MIB = 96
KILLS = 4


@pytest.fixture(autouse=True)
def _needs_tus_js_client() -> None:
    if not TUS_JS.exists():
        missing("tus-js-client is not installed: make test-heavy does it")


def _seed(options: str) -> int:
    seed = random.randrange(2**32)
    print(f"python -m tests.faults.clients --size-mib {SIZE_MIB} --seed {seed} {options}")  # noqa: T201  # on failure
    return seed


@row(
    "clients-api-killed",
    fault="random kill -9 of the API under tus-js-client, tuspy and `vodbucket upload`; connections cut; "
    "each client stopped once",
    expected="all uploads resume and finish; SHA-256 matches",
)
def test_clients_finish_although_api_is_killed(rgw_server: StoreServer, tmp_path: Path) -> int:
    with ordeal(rgw_server, tmp_path, SIZE_MIB, KILLS, _seed(f"--kills {KILLS}")) as run:
        run.run(KILLS)
    return run.kills + run.cuts


@row(
    "clients-store-fails",
    fault="the same while the store answers 500 and 503, resets connections and loses answers",
    expected="the same",
)
def test_clients_finish_although_store_fails(wire: FaultProxy, tmp_path: Path) -> int:
    with ordeal(wire.server, tmp_path, SIZE_MIB, KILLS, _seed(f"--kills {KILLS} --faults")) as run:
        faults = harm(wire)
        run.run(KILLS)
    return faults()
