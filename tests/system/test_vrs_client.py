"""Clients of VRS work once they have a token, and so do programs that send it with every request."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.clips import make_clip
from tests.lab.folder import served
from tests.lab.product import ADMIN_TOKEN, REPOSITORY, Product
from tests.worker.media_lab import ffmpeg

pytestmark = pytest.mark.heavy

HEADER = f"Authorization: Bearer {ADMIN_TOKEN}"


def test_a_script_written_for_vrs_and_usual_programs(product: Product, tmp_path: Path) -> None:
    film = make_clip(tmp_path / "film.mp4", seconds=3)
    private = {"ALLOW_PRIVATE_URLS": "true"}
    product.start_api(**private)
    product.start_worker(RUNGS="180", **private)
    with served(tmp_path) as elsewhere:
        command = (sys.executable, "-m", "tests.clients.with_vrs")
        arguments = (product.url, ADMIN_TOKEN, str(film), f"{elsewhere}/film.mp4")
        seen = json.loads(_output(*command, *arguments))

    assert [stages[-1] for stages in seen["stages"]] == ["complete", "complete"]
    assert all(size > 100 for size in seen["segments"])
    assert seen["downloads"][0] == seen["downloads"][1]
    assert seen["missing"] == [404, "There is no such video."]

    address = f"{product.url}/videos/{seen['ids'][0]}"
    whole, begun = tmp_path / "whole.webm", tmp_path / "begun.webm"
    _output("curl", "-sSfL", "-H", HEADER, "-o", str(whole), f"{address}/download")
    assert whole.stat().st_size == seen["downloads"][0]
    begun.write_bytes(whole.read_bytes()[:5000])
    _output("curl", "-sSfL", "-C", "-", "-H", HEADER, "-o", str(begun), f"{address}/download")
    assert begun.read_bytes() == whole.read_bytes()
    for path in ("", "/hls/master.m3u8", "/dash/manifest.mpd"):
        frames = tmp_path / "frames"
        source = ("-headers", f"{HEADER}\r\n", "-i", address + path)
        ffmpeg(*source, "-map", "0:v:0", "-f", "framemd5", str(frames))
        assert len([line for line in frames.read_text().splitlines() if line[0] != "#"]) == 72


def _output(*command: str) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
