"""Every rung and every seam in every codec, decoded by common players: Shaka Player, hls.js and dash.js."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e.conftest import EarlyViewing
from tests.e2e.moments import moments
from tests.e2e.viewer import Viewer
from tests.lab.product import Product
from tests.worker.media_lab import H264, ffmpeg
from tests.worker.units.numbered import beeps, pictures, write_pictures

pytestmark = pytest.mark.heavy

RUNGS = {360: 640, 720: 1280, 1080: 1920}
PLAYED_SECONDS = 0.5
FPS, NUMBERED_SECONDS = 24, 42
SEAMS = (12, 20, 32)
"""Where the chunks of a film of that length meet, in seconds."""
AROUND_SECONDS, AROUND_FRAMES = 0.75, 4
EACH_PLAYER = pytest.mark.parametrize(
    ("player", "manifest"), [("shaka", "hls"), ("shaka", "dash"), ("hlsjs", "hls"), ("dashjs", "dash")]
)
EACH_CODEC = pytest.mark.parametrize("codec", ["av1", "h264"])


@pytest.fixture(scope="module")
def playback(product: Product, video: str) -> dict[str, str]:
    with product.client() as client:
        found: dict[str, str] = client.get(f"/api/videos/{video}/playback").json()
    return found


@pytest.fixture(scope="module")
def numbered(product: Product, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The manifests of a film of numbered frames that was encoded in four chunks, and in no rung copied."""
    directory = tmp_path_factory.mktemp("numbered")
    film, raw = directory / "film.mp4", directory / "pictures"
    write_pictures(raw, FPS * NUMBERED_SECONDS)
    shown = ("-vf", "scale=640:360", *H264, "-g", "384", "-sc_threshold", "0", "-c:a", "aac")
    ffmpeg(*pictures(raw, str(FPS)), *beeps(NUMBERED_SECONDS), *shown, str(film))
    video = product.upload(film)
    product.wait_for(video, status="done", seconds=300)
    divided = [line for line in product.log_of("worker").splitlines() if '"job_divided"' in line]
    assert [json.loads(line)["chunks"] for line in divided if video in line] == [len(SEAMS) + 1]
    with product.client() as client:
        found: dict[str, str] = client.get(f"/api/videos/{video}/playback").json()
    return found


@pytest.fixture
def viewers(context: BrowserContext) -> Iterator[list[Viewer]]:
    """The viewers that a test opens. Fails at the end if any had a problem."""
    opened: list[Viewer] = []
    yield opened
    assert [problem for viewer in opened for problem in viewer.problems()] == []


@EACH_CODEC
@EACH_PLAYER
def test_every_rung_can_be_chosen_and_decoded(
    product: Product,
    site: str,
    playback: dict[str, str],
    context: BrowserContext,
    viewers: list[Viewer],
    player: str,
    manifest: str,
    codec: str,
) -> None:
    viewer = Viewer(context, site, player)
    viewers.append(viewer)
    viewer.open(product.url + playback[manifest], codec)
    viewer.until_it_advances(PLAYED_SECONDS)
    assert sorted(viewer.heights(codec)) == sorted(RUNGS)

    for height in (360, 1080, 720):
        before = viewer.position()
        viewer.choose(codec, height)
        viewer.until(lambda height=height: viewer.size() == (RUNGS[height], height))
        viewer.loaded.clear()  # of the rung before, something may have been under way
        viewer.until_it_advances(PLAYED_SECONDS)

        assert set(viewer.loaded) - {"aac"} <= {f"{codec}-{height}p"}
        assert viewer.position() > before
    assert viewer.decoded_sound_bytes() > 0


@EACH_CODEC
@EACH_PLAYER
def test_every_seam_is_played_and_each_frame_around_it_shown(
    product: Product,
    site: str,
    numbered: dict[str, str],
    context: BrowserContext,
    viewers: list[Viewer],
    player: str,
    manifest: str,
    codec: str,
) -> None:
    viewer = Viewer(context, site, player)
    viewers.append(viewer)
    viewer.open(product.url + numbered[manifest], codec)
    viewer.until_it_advances(PLAYED_SECONDS)

    for seam in SEAMS:
        first, last = seam - AROUND_SECONDS, seam + AROUND_SECONDS
        decoded = viewer.decoded_frames()
        viewer.jump(first)
        viewer.until(lambda last=last: viewer.position() > last)
        assert viewer.decoded_frames() - decoded >= AROUND_SECONDS * FPS  # at least what follows the seam
        assert [begin for begin, end in viewer.played() if begin < first + 0.1 and end > last] != []
        for number in range(seam * FPS - AROUND_FRAMES, seam * FPS + AROUND_FRAMES):
            at, shown = viewer.frame_near((number + 0.5) / FPS, 0.7 / FPS)
            assert (pytest.approx(at * FPS, abs=0.1), shown) == (number, number)
        viewer.page.evaluate("() => video.play()")


def test_hls_js_plays_the_first_look_to_the_end_without_a_break(early: EarlyViewing) -> None:
    viewer = early.viewer
    viewer.until(viewer.ended, 90)

    assert early.status_at_first_frame == "processing"
    (stretch,) = viewer.played()
    assert stretch[0] < 0.1
    assert stretch[1] > 29
    seen = moments(viewer.page)
    assert seen.duration_then == pytest.approx(30, abs=0.5)
    assert seen.stalls == []
    assert viewer.problems() == []
