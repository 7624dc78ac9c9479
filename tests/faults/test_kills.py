"""Kills at random moments while uploads continue."""

import random
from pathlib import Path

import pytest

from tests.faults.chunk_kills import MOMENTS, kill_dividing
from tests.faults.fetch_kills import FetchMayhem, kill_fetching
from tests.faults.kills import VICTIMS, kill_anything
from tests.faults.registry import row
from tests.lab.server import StoreServer

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

KILLS = 30
CHUNK_KILLS = 50


@row(
    "kills",
    fault="random kill -9 of API, workers, ffmpeg and packager during uploads; workers frozen past "
    "their lease",
    expected="every acknowledged upload ends done; after a sweep, clean",
)
def test_kills_at_random_lose_nothing(rgw_server: StoreServer, tmp_path: Path) -> int:
    mayhem = kill_anything(rgw_server, tmp_path, KILLS, _seed("kills", KILLS))
    assert mayhem.kills.keys() == VICTIMS.keys()
    assert len(mayhem.acknowledged) >= 6
    return sum(mayhem.kills.values())


@pytest.mark.timeout(1800)  # on a busy machine
@row(
    "chunks-killed",
    fault="kill -9 of workers, up to 1 s after a random step, four on eight films",
    expected="every film ends done, with every frame in its place; no unit is done again after it ended; "
    "after a sweep, clean",
)
def test_kills_at_any_step_of_a_divided_film_cost_only_what_is_in_hand(
    rgw_server: StoreServer, tmp_path: Path
) -> int:
    mayhem = kill_dividing(rgw_server, tmp_path, CHUNK_KILLS, _seed("chunk_kills", CHUNK_KILLS))
    assert mayhem.kills.keys() == MOMENTS.keys()
    return mayhem.kills.total()


@pytest.mark.filterwarnings("ignore:The asyn:DeprecationWarning")  # pyftpdlib, on Python 3.11
@row(
    "fetches-killed",
    fault="kill -9 of a worker, or a cancelled job, at every stage of a fetch by HTTP, FTP, torrent, yt-dlp "
    "and import",
    expected="every fetched file is stored whole, unless cancelled; no program and no file is left; after a "
    "sweep, clean",
)
def test_kills_at_any_stage_of_a_fetch_leave_nothing_behind(rgw_server: StoreServer, tmp_path: Path) -> int:
    kills = len(FetchMayhem.victims)
    mayhem = kill_fetching(rgw_server, tmp_path, kills, _seed("fetch_kills", kills))
    assert mayhem.kills.keys() == FetchMayhem.victims.keys()
    return mayhem.kills.total()


def test_kills_at_random_lose_nothing_on_the_embedded_store(
    embedded_server: StoreServer, tmp_path: Path
) -> None:
    kills = KILLS // 5
    assert kill_anything(embedded_server, tmp_path, kills, _seed("kills", kills)).acknowledged


def _seed(module: str, kills: int) -> int:
    seed = random.randrange(2**32)
    print(f"python -m tests.faults.{module} --kills {kills} --seed {seed}")  # noqa: T201  # shown on failure
    return seed
