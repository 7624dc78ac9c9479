"""The first look in a browser: the whole length at once, any place at once, and no reload while it plays."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e.accessibility import violations
from tests.e2e.browser import RESULTS, Visit
from tests.e2e.moments import moments
from tests.e2e.slow_look import SECONDS, SEGMENT_SECONDS, SlowLook, package, slow_look
from tests.e2e.viewer import Viewer
from tests.lab.product import Product

pytestmark = pytest.mark.heavy

ENCODER_SECONDS = 1.0
"""Of a modelled worker for a segment of four seconds."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return package(tmp_path_factory.mktemp("look"))


@pytest.fixture
def look(product: Product, files: dict[str, bytes]) -> Iterator[SlowLook]:
    with slow_look(product, files, ENCODER_SECONDS) as started:
        yield started


@pytest.mark.parametrize(
    ("player", "manifest"), [("shaka", "hls"), ("shaka", "dash"), ("hlsjs", "hls"), ("dashjs", "dash")]
)
def test_players_jump_to_what_is_not_made_yet(
    product: Product, site: str, look: SlowLook, context: BrowserContext, player: str, manifest: str
) -> None:
    with product.client() as client:
        playback = client.get(f"/api/videos/{look.video_id}/playback").json()
    viewer = Viewer(context, site, player)
    viewer.open(product.url + playback[manifest])
    viewer.until_it_advances(SEGMENT_SECONDS + 0.5)

    place = SECONDS * 0.9
    viewer.page.evaluate("seconds => { video.currentTime = seconds }", place)
    viewer.until(lambda: viewer.position() > place + 0.5)

    seen = moments(viewer.page)
    assert seen.duration_then == pytest.approx(SECONDS, abs=0.2)
    assert (seen.stalls, seen.loads) == ([], 1)
    assert len(look.made) < SECONDS // SEGMENT_SECONDS
    assert viewer.problems() == []


def test_the_page_plays_the_whole_length_and_loads_the_higher_quality_at_a_pause(
    visit: Visit, look: SlowLook
) -> None:
    visit.sign_in()
    page = visit.page
    visit.open(f"/watch/{look.video_id}")
    visit.until_playing()
    page.get_by_text("You can already watch the whole video.").wait_for()
    page.mouse.move(600, 300)
    visit.until(lambda: (page.locator(".growing-time").text_content() or "").endswith(" / 1:40"))
    assert visit.ready_share() == 1
    assert page.get_by_text("Live", exact=True).count() == 0
    assert page.get_by_text("DASH", exact=True).is_visible()
    _take_pictures(visit, "first-look")

    visit.seek(SECONDS * 0.4)
    visit.until(lambda: visit.position() > SECONDS * 0.4 + 0.5)
    look.publish()
    page.get_by_text("A higher quality is ready.").wait_for()
    page.get_by_role("region", name="Encoding progress").wait_for(state="detached")
    before = visit.position()
    visit.until(lambda: visit.position() > before + 1)
    assert moments(page).loads == 1
    assert violations(page) == []
    _take_pictures(visit, "higher-quality")

    page.evaluate("() => document.querySelector('video').pause()")
    visit.until(lambda: moments(page).loads == 2)
    page.get_by_text("A higher quality is ready.").wait_for(state="detached")
    visit.until(lambda: visit.position() > before)
    assert page.evaluate("() => document.querySelector('video').paused")
    assert moments(page).stalls == []


def _take_pictures(visit: Visit, name: str) -> None:
    page = visit.page
    RESULTS.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for device, width in {"phone": 390, "desktop": 1280}.items():
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=RESULTS / f"{name}-{scheme}-{device}.png", full_page=True)
            assert page.evaluate("() => document.documentElement.scrollWidth") == width
