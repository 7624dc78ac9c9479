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
    fault="kill -9 of API, workers, ffmpeg and packager at random moments while uploads go on; "
    "workers frozen past their lease",
    expected="every acknowledged upload ends done; after a sweep nothing else is left",
)
def test_kills_at_random_lose_nothing(rgw_server: StoreServer, tmp_path: Path) -> int:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2, width=160, height=90)
    seed = random.randrange(2**32)
    print(f"python -m tests.faults.kills --kills {KILLS} --seed {seed}")  # noqa: T201  # shown on failure
    server = rgw_server
    with product_on(
        server.endpoint_url, server.access_key, server.secret_key, tmp_path, **SETTINGS
    ) as product:
        mayhem = Mayhem(product, clip, random.Random(seed))
        mayhem.run(KILLS)
    assert mayhem.kills.keys() == VICTIMS.keys()
    assert len(mayhem.acknowledged) >= 6
    return sum(mayhem.kills.values())
