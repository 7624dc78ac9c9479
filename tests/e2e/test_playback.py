"""The watch page in Chromium: during encoding and after it, over HLS and DASH, and for guests."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route

from tests.e2e.accessibility import violations
from tests.e2e.browser import RESULTS, Visit
from tests.e2e.conftest import SHORT_FILM_SECONDS
from tests.e2e.moments import moments
from tests.e2e.uploader import Uploader
from tests.lab.product import ADMIN_TOKEN
from tests.worker.media_lab import H264, ffmpeg, picture, tone

pytestmark = pytest.mark.heavy

GROWING_SECONDS = 40


def test_a_video_uploaded_on_the_page_plays_whole_at_once_and_better_once_it_is_encoded(
    visit: Visit, short_film: Path
) -> None:
    visit.sign_in()
    page = visit.page
    uploader = Uploader(visit)
    uploader.choose(short_film)
    page.get_by_role("button", name=f"Edit the title of {short_film.name}").click()
    page.get_by_label("Title", exact=True).fill("Seen early")
    page.get_by_role("button", name="Save", exact=True).click()
    uploader.start()
    page.get_by_role("link", name="Watch", exact=True).click()
    video_id = page.url.rpartition("/")[2]

    visit.until(lambda: visit.position() > 0, 120)
    with visit.product.client() as client:
        assert client.get(f"/api/videos/{video_id}/status").json()["status"] == "processing"
    page.get_by_text("You can already watch the whole video.").wait_for()
    _check_whole_film(visit)
    visit.until(lambda: page.evaluate("() => document.querySelector('video').ended"), 60)
    seen = moments(page)
    assert seen.duration_then == pytest.approx(SHORT_FILM_SECONDS, abs=0.2)
    assert (seen.stalls, seen.loads) == ([], 1)

    page.get_by_role("link", name="Download WebM").wait_for(timeout=240_000)
    page.get_by_text("A higher quality is ready.").wait_for()
    assert moments(page).loads == 1
    visit.seek(3)
    visit.until(lambda: moments(page).loads == 2 and visit.position() >= 3)
    page.get_by_text("A higher quality is ready.").wait_for(state="detached")
    _save_times(page)
    assert page.get_by_role("region", name="Encoding progress").count() == 0
    assert page.get_by_role("heading", name="Seen early").is_visible()


def _save_times(page: Page) -> None:
    seen = moments(page)
    assert seen.uploaded is not None
    assert seen.first_frame is not None
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "first-frame.txt").write_text(
        f"seconds from the last byte of the upload to first frame {seen.first_frame - seen.uploaded:.1f}\n"
    )


def _check_whole_film(visit: Visit) -> None:
    """The seek bar shows the whole film."""
    page = visit.page
    bar = page.locator(".shaka-seek-bar")
    visit.until(lambda: bar.is_visible() or page.mouse.move(600, 300))
    visit.until(lambda: (bar.get_attribute("aria-valuetext") or "").endswith(" of 0:15"))
    assert visit.ready_share() == 1
    assert page.get_by_text("Live", exact=True).count() == 0
    assert violations(page) == []


def test_a_video_without_an_index_grows_while_it_is_encoded(visit: Visit, tmp_path: Path) -> None:
    film = tmp_path / "broadcast.ts"
    ffmpeg(
        *picture("640x360", seconds=GROWING_SECONDS), *tone(GROWING_SECONDS), *H264, "-c:a", "aac", str(film)
    )
    visit.sign_in()
    page = visit.page
    visit.open(f"/watch/{visit.product.upload(film)}")

    visit.until(lambda: visit.position() > 0, 120)
    page.get_by_text("You can already watch the part that is ready.").wait_for()
    _check_growing_film(visit)
    page.get_by_role("link", name="Download WebM").wait_for(timeout=240_000)
    visit.seek(GROWING_SECONDS - 3)
    page.evaluate("() => document.querySelector('video').play()")  # it may have been at the end
    visit.until(lambda: page.evaluate("() => document.querySelector('video').ended"))
    page.mouse.move(600, 300)
    visit.until(lambda: page.locator(".growing-time").text_content() == "0:40 / 0:40")
    # At most one reload interrupts the viewer: if a quality switch coincides with the end of the playlists,
    # Shaka takes that for the end of the video.
    assert moments(page).loads <= 2


def _check_growing_film(visit: Visit) -> None:
    """The seek bar shows a film of known length that is partly ready, not a live stream."""
    page = visit.page
    bar = page.locator(".shaka-seek-bar")
    visit.until(lambda: bar.is_visible() or page.mouse.move(600, 300))
    box = bar.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    preview = page.locator(".shaka-player-ui-thumbnail-time")
    visit.until(lambda: re.fullmatch(r"0:\d\d", preview.text_content() or ""))
    assert (bar.get_attribute("aria-valuetext") or "").endswith(" of 0:40")
    assert visit.ready_share() < 0.95


@pytest.mark.parametrize(("query", "manifest"), [("", "master.m3u8"), ("?format=dash", "manifest.mpd")])
def test_a_finished_video_plays(visit: Visit, video: str, query: str, manifest: str) -> None:
    manifests: list[str] = []
    visit.page.on("request", lambda request: manifests.append(request.url.rpartition("/")[2]))
    visit.sign_in()
    visit.open(f"/watch/{video}{query}")

    visit.until_playing()

    assert manifest in manifests
    assert visit.page.get_by_text("Playback stopped").count() == 0


def test_switching_to_dash_keeps_the_position(visit: Visit, video: str) -> None:
    visit.sign_in()
    visit.open(f"/watch/{video}?t=12")
    visit.until_playing()

    with visit.page.expect_request(re.compile(r"manifest\.mpd$")):
        visit.page.get_by_text("DASH", exact=True).click()
    visit.until(lambda: visit.position() > 14)

    assert visit.page.url.endswith("format=dash")
    assert visit.position() < 20


def test_a_link_with_a_time_starts_there(visit: Visit, video: str) -> None:
    visit.sign_in()
    visit.open(f"/watch/{video}?t=0m15s")

    visit.until(lambda: visit.position() > 0)

    assert 15 <= visit.position() < 20


def test_the_quality_picker_shows_the_rungs_and_switches_between_them(visit: Visit, video: str) -> None:
    visit.sign_in()
    visit.open(f"/watch/{video}")
    visit.until_playing()
    page = visit.page
    rungs = page.locator(".shaka-resolutions .explicit-resolution")

    def shows_every_rung() -> bool:
        return [text.split("p")[0] for text in rungs.all_text_contents()] == ["1080", "720", "360"]

    for height in (360, 1080, 720, 360):
        visit.until(shows_every_rung)
        page.mouse.move(600, 300 + height % 7)
        if not rungs.first.is_visible():
            page.locator(".shaka-resolution-button").click()
        rungs.filter(has_text=f"{height}p").click()
        visit.until(lambda height=height: visit.height() == height)


def test_a_rejected_grant_is_renewed_and_playback_continues(visit: Visit, video: str) -> None:
    events: list[str] = []

    def reject_until_playback_is_renewed(route: Route) -> None:
        number = re.search(r"(\d+)\.m4s$", route.request.url)
        if number and int(number[1]) > 2 and events[-1:] != ["renewed"]:
            events.append("rejected")
            route.fulfill(status=403, json={"error": "Expired.", "code": "grant_rejected"})
        else:
            route.continue_()

    def note_renewal(route: Route) -> None:
        if "rejected" in events:
            events.append("renewed")
        route.continue_()

    visit.sign_in()
    visit.page.route("**/play/**", reject_until_playback_is_renewed)
    visit.page.route("**/playback", note_renewal)
    visit.open(f"/watch/{video}")
    visit.until_playing()
    before = visit.position()

    visit.until(lambda: visit.position() > 14)

    assert before < 8
    assert events[-1] == "renewed"
    assert visit.page.get_by_text("Playback stopped").count() == 0


def test_a_private_video_plays_after_a_guest_signs_in(visit: Visit, video: str) -> None:
    visit.open(f"/watch/{video}")
    visit.page.get_by_label("Token").fill(ADMIN_TOKEN)
    assert visit.page.locator("video").count() == 0

    visit.page.get_by_role("dialog").get_by_role("button", name="Sign in").click()

    visit.until_playing()


def test_a_public_video_plays_for_a_guest(visit: Visit, video: str) -> None:
    with visit.product.client() as client:
        client.patch(f"/api/videos/{video}", json={"visibility": "public"}).raise_for_status()
        visit.open(f"/watch/{video}")

        visit.until_playing()

        assert visit.page.get_by_role("dialog").count() == 0
        assert visit.page.get_by_role("button", name="Delete").count() == 0
        client.patch(f"/api/videos/{video}", json={"visibility": "private"}).raise_for_status()
