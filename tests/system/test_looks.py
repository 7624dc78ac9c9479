"""A look through the API and a worker: the whole film can be played while its ladder is encoded."""

import subprocess
import time
from pathlib import Path
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from backend.core.settings import WorkerSettings
from tests.lab.product import Product
from worker.sandbox.tools import find_tools

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

SECONDS, RATE = 6, 24


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a phone records it: H.264 and AAC."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    sources = (f"testsrc2=size=1280x720:rate={RATE}", "sine=frequency=440:sample_rate=48000")
    inputs = (word for source in sources for word in ("-f", "lavfi", "-i", source))
    arguments = (
        "-t",
        str(SECONDS),
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-g",
        "48",
    )
    subprocess.run(
        [
            find_tools(WorkerSettings()).ffmpeg,
            "-v",
            "error",
            *inputs,
            *arguments,
            "-g",
            "48",
            "-c:a",
            "aac",
            path,
        ],
        check=True,
        timeout=120,
    )
    return path


def test_whole_film_plays_while_its_ladder_is_encoded(product: Product, film: Path) -> None:
    _, video = product.start_with(film)
    with product.client() as client:
        while not (status := client.get(f"/api/videos/{video}/status").json())["playable"]:
            assert status["status"] != "error", status
            time.sleep(0.2)
        early = _frames(product, client, video)
        published = product.wait_for(video, status="done", seconds=240)
        late = _frames(product, client, video)

    assert "/l0-" in str(status["outputs"])
    assert status["duration_seconds"] == pytest.approx(SECONDS, abs=0.1)
    assert "/r0-" in str(published["outputs"])
    assert early == late == SECONDS * RATE


def _frames(product: Product, client: httpx.Client, video: str) -> int:
    """Count the frames of the last variant, read as a player does it."""
    url = product.url + client.get(f"/api/videos/{video}/playback").json()["hls"]
    with httpx.Client(follow_redirects=True, trust_env=False, timeout=60) as http:
        address = urljoin(url, m3u8.loads(http.get(url).text).playlists[-1].uri or "")
        playlist = m3u8.loads(http.get(address).text)
        assert playlist.is_endlist
        parts = [playlist.segment_map[0].uri, *(one.uri for one in playlist.segments)]
        body = b"".join(http.get(urljoin(address, part or "")).content for part in parts)
    shown = ("-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", "-")
    command = [find_tools(WorkerSettings()).ffprobe, "-v", "error", *shown]
    return int(subprocess.run(command, input=body, check=True, capture_output=True, timeout=60).stdout)
