"""Kills at random moments while uploads continue."""

import random
from pathlib import Path

import pytest

from tests.faults.kills import SETTINGS, VICTIMS, Mayhem
from tests.faults.registry import row
from tests.lab.clips import make_clip
from tests.lab.product import product_on
from tests.lab.server import StoreServer

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

KILLS = 30


@row(
    "kills",
    fault="random kill -9 of API, workers, ffmpeg and packager during uploads; workers frozen past "
    "their lease",
    expected="every acknowledged upload ends done; after a sweep, clean",
)
def test_kills_at_random_lose_nothing(rgw_server: StoreServer, tmp_path: Path) -> int:
    mayhem = _killing(rgw_server, tmp_path, KILLS)
    assert mayhem.kills.keys() == VICTIMS.keys()
    assert len(mayhem.acknowledged) >= 6
    return sum(mayhem.kills.values())


def test_kills_at_random_lose_nothing_on_the_embedded_store(
    embedded_server: StoreServer, tmp_path: Path
) -> None:
    assert _killing(embedded_server, tmp_path, KILLS // 5).acknowledged


def _killing(server: StoreServer, directory: Path, kills: int) -> Mayhem:
    clip = make_clip(directory / "clip.mp4", seconds=2, width=160, height=90)
    seed = random.randrange(2**32)
    print(f"python -m tests.faults.kills --kills {kills} --seed {seed}")  # noqa: T201  # shown on failure
    with product_on(
        server.endpoint_url, server.access_key, server.secret_key, directory, **SETTINGS
    ) as product:
        mayhem = Mayhem(product, clip, random.Random(seed))
        mayhem.run(kills)
    return mayhem
