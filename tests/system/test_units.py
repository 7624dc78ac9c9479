"""Several worker processes on one video, real media, a real store, kill -9: only the unit is done again."""

import json
import signal
from pathlib import Path

import pytest

from tests.faults.registry import row
from tests.lab.checker import assert_at_rest
from tests.lab.clips import make_clip
from tests.lab.product import Product, stop

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

SETTINGS = {"CHUNK_SECONDS": "2", "SEGMENT_SECONDS": "1", "RENDITION_CODECS": "h264"}


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too large to be done as a whole."""
    return make_clip(tmp_path_factory.mktemp("clips") / "film.mp4", seconds=8, width=1280, height=720)


def events(product: Product, name: str) -> list[dict[str, object]]:
    found = []
    for line in product.log_of("worker").splitlines():
        if f'"{name}"' in line:
            found.append(json.loads(line))
    return found


@row(
    "two-workers-one-video",
    fault="one of two workers on one video is killed with -9 while it encodes",
    expected="only its chunk is encoded again",
)
def test_worker_killed_in_a_chunk_costs_only_that_chunk(product: Product, film: Path) -> int:
    product.start_api()
    doomed = product.start_worker(**SETTINGS)
    video = product.upload(film)
    product.wait_for_log('"unit_finished"', seconds=180)
    product.start_worker(**SETTINGS)
    product.wait_for_log('"unit_started"', '"c000', seconds=180)

    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    status = product.wait_for(video, status="done", seconds=240)
    stop(product.processes[-1])

    assert status["attempt"] <= 2  # that of the chunk
    finished = [one["unit"] for one in events(product, "unit_finished") if one["won"]]
    assert sorted(finished) == sorted(set(finished))
    started = [one["unit"] for one in events(product, "unit_started")]
    assert len(started) <= len(finished) + 3
    assert_at_rest(product.environment, done={video})
    return 1
