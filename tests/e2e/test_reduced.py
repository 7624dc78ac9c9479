"""A budget on a real store: over it, renditions go, come back with the next viewer, and others go instead."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import Visit
from tests.lab.product import REPOSITORY, SITE, Product, product_on
from tests.lab.server import StoreServer
from tests.worker.media_lab import ffmpeg

pytestmark = pytest.mark.heavy

SECONDS = 12
FIRST_FRAME_SECONDS = 15
"""On a machine that does other work."""


@pytest.fixture
def product(rgw_server: StoreServer, tmp_path: Path) -> Iterator[Product]:
    keys = (rgw_server.endpoint_url, rgw_server.access_key, rgw_server.secret_key)
    settings = {"RUNGS": "360", "SWEEP_EVERY_SECONDS": "0", "SWEEP_GRACE_SECONDS": "1", "CHUNK_SECONDS": "0"}
    with product_on(*keys, tmp_path, SITE_DIR=str(SITE), **settings) as running:
        running.start_api()
        running.start_worker()
        yield running


def _vodbucket(product: Product, *arguments: str, **settings: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "vodbucket", *arguments, "--json"],
        env={**product.environment, **settings},
        cwd=REPOSITORY,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, object] = json.loads(done.stdout)
    return report


def _clean(product: Product, *arguments: str, budget: int) -> tuple[int, dict[str, int]]:
    """Return how much is stored, and of each reduced video how much of that goes."""
    report = _vodbucket(product, "clean", *arguments, STORAGE_MAX_BYTES=str(budget))
    stored, reductions = report["stored_bytes"], report["reductions"]
    assert isinstance(stored, int)
    assert isinstance(reductions, list)
    return stored, {one["video_id"]: one["size_bytes"] for one in reductions}


def test_a_budget_is_held_while_its_videos_are_watched(
    product: Product, browser: Browser, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=size=1280x720:rate=30:duration={SECONDS}"),
        *(
            "-f",
            "lavfi",
            "-i",
            f"sine=duration={SECONDS}",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "60",
        ),
        *("-c:a", "aac", str(film)),
    )
    first = product.upload(film)
    product.wait_for(first, status="done", seconds=240)  # published, and so last watched, before the other
    second = product.upload(film)
    product.wait_for(second, status="done", seconds=240)
    _vodbucket(product, "sweep")  # removes the looks
    stored, sizes = _clean(product, "--dry-run", budget=1)
    assert list(sizes) == [first, second]
    budget = stored - sizes[first] // 2  # room for the renditions of one of them

    assert _clean(product, "--dry-run", budget=budget) == (stored, {first: sizes[first]})
    assert _clean(product, budget=budget) == (stored, {first: sizes[first]})
    assert _clean(product, budget=budget)[1] == {}
    with product.client() as client:
        status = client.get(f"/api/videos/{first}/status").json()
        assert (status["status"], status["reduced"]) == ("done", True)
        download = client.get(f"/videos/{first}/download", follow_redirects=True)
        assert download.status_code == 200

    context = browser.new_context()
    visit = Visit(context.new_page(), product)
    visit.sign_in()
    began = time.monotonic()
    visit.open(f"/watch/{first}")
    visit.page.get_by_text("were removed to save space and are being made again").wait_for()
    visit.until(lambda: visit.position() > 0 and visit.decoded_frames() > 0, FIRST_FRAME_SECONDS)
    print(f"first frame of the download after {time.monotonic() - began:.1f} s")  # noqa: T201  # on failure
    with product.client() as client:
        visit.until(
            lambda: client.get(f"/api/videos/{first}/playback").json()["presentation"] != "reduced", 120
        )
        print(f"first look after {time.monotonic() - began:.1f} s")  # noqa: T201  # on failure
        visit.until(lambda: not client.get(f"/api/videos/{first}/status").json()["reduced"], 240)
        print(f"made again after {time.monotonic() - began:.1f} s")  # noqa: T201  # on failure
        assert client.get(f"/api/videos/{first}/playback").json()["presentation"] == "complete"
        again = client.get(f"/videos/{first}/download", follow_redirects=True)
        assert again.content == download.content
    visit.until(lambda: visit.page.get_by_text("being made again").count() == 0)
    visit.page.reload()
    visit.until_playing()
    assert visit.script_errors == []
    context.close()

    _vodbucket(product, "sweep")  # removes the replaced run
    assert list(_clean(product, budget=budget)[1]) == [second]
    stored, sizes = _clean(product, budget=budget)
    assert (stored <= budget, sizes) == (True, {})
