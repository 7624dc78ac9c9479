"""What pages show and keep: accessibility of every state, sign-outs, deletions, the place in the list."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route

from tests.e2e.accessibility import violations
from tests.e2e.browser import RESULTS, Visit
from tests.e2e.uploader import MIB, Uploader, film_like
from tests.lab.clips import make_clip
from tests.lab.product import ADMIN_TOKEN, Product, site_on
from tests.lab.relay import Relay
from tests.lab.server import StoreServer

pytestmark = pytest.mark.heavy

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
VIDEOS = 26
"""Two pages of the list, and a part of a third."""
VISIBLE = "() => document.dispatchEvent(new Event('visibilitychange'))"
FOCUSED = "() => document.activeElement.textContent.trim()"


@pytest.fixture(scope="module")
def product(rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product whose worker runs only when a test asks for it."""
    with site_on(rgw_server, tmp_path_factory.mktemp("logs"), RENDITION_CODECS="h264") as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=6)


@pytest.fixture(scope="module")
def encoded(product: Product, clip: Path) -> dict[str, str]:
    """The ids of encoded videos, by title. Encoded at once, before tests upload what no worker encodes."""
    videos = {title: product.upload(clip, title=title) for title in ("Finished", "Doomed")}
    product.drain()
    return videos


@pytest.fixture
def finished(encoded: dict[str, str]) -> str:
    return encoded["Finished"]


def _upload(product: Product, title: str) -> str:
    """Upload what no worker ever encodes."""
    with product.client() as client:
        answer = client.post(
            "/api/videos", params={"filename": "a.mp4", "title": title}, content=b"\1" * 9000
        )
    video_id: str = answer.json()["id"]
    return video_id


def _look(visit: Visit) -> None:
    """Let the page believe that it was hidden and is visible again, so that it looks for changes at once."""
    visit.page.evaluate(VISIBLE)


def test_no_page_breaks_a_rule_of_accessibility(
    visit: Visit, context: BrowserContext, finished: str, tmp_path: Path
) -> None:
    page = visit.page
    found: dict[str, list[str]] = {}

    def check(state: str, page: Page = page) -> None:
        RESULTS.mkdir(exist_ok=True)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.screenshot(path=RESULTS / f"axe-{scheme}-{state.replace(' ', '-')}.png")
            found[f"{state}, {scheme}"] = violations(page)

    visit.open("/")
    page.get_by_role("dialog").wait_for()
    check("sign-in")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    page.get_by_text("That isn’t a valid token.").wait_for()
    check("wrong token")
    page.get_by_role("button", name="Not now").click()
    check("guest")
    visit.open("/nowhere")
    page.get_by_role("heading", name="Page not found").wait_for()
    check("not found")
    visit.open(f"/watch/{finished}")
    page.get_by_role("button", name="Not now").click()
    check("private")
    with visit.product.client() as client:
        client.patch(f"/api/videos/{finished}", json={"visibility": "public"}).raise_for_status()
        visit.open(f"/watch/{finished}")
        visit.until_playing()
        check("guest watching")
        client.patch(f"/api/videos/{finished}", json={"visibility": "private"}).raise_for_status()

    with Relay(visit.product.port) as line:
        uploader = Uploader(Visit(context.new_page(), replace(visit.product, port=line.port)))
        _check_uploads(uploader, line, tmp_path, check)
        uploader.page.close()
    _check_watch_page(visit, finished, check)
    visit.open("/")
    page.locator(".grid li").first.wait_for()
    check("library")
    page.route("**/api/videos?*", lambda route: route.abort())
    _look(visit)
    page.get_by_text("Couldn’t reach the server.").wait_for()
    check("library away")
    assert {state: rules for state, rules in found.items() if rules} == {}


def _check_uploads(uploader: Uploader, line: Relay, directory: Path, check: Callable[..., None]) -> None:
    page = uploader.page
    uploader.visit.sign_in()
    page.get_by_text("Drop videos here").wait_for()
    check("home", page)
    first, second, scan = (film_like(directory / name, 4 * MIB) for name in ("a.mp4", "b.mp4", "c.mp4"))
    scan.write_bytes(b"%PDF-1.7\n" + scan.read_bytes())
    uploader.choose(first)
    page.get_by_role("button", name="Upload 1 file", exact=True).wait_for()
    check("one file", page)
    page.get_by_role("button", name=f"Edit the title of {first.name}").click()
    page.get_by_label("Title", exact=True).fill("Renamed")
    check("title", page)
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".uppy-Dashboard-Item-name").get_by_text("Renamed").wait_for()
    page.get_by_role("button", name="Add more files").click()
    uploader.choose(second, scan)
    page.get_by_role("button", name="Upload 3 files", exact=True).wait_for()
    check("three files", page)
    line.bytes_per_second = MIB // 2
    uploader.start(3)
    uploader.until_percent(10)
    check("uploading", page)
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("status").filter(has_text="Paused.").wait_for()
    check("paused", page)
    line.bytes_per_second = None
    page.get_by_role("button", name="Resume", exact=True).click()
    page.get_by_role("alert").filter(has_text="This isn’t a video or audio file.").wait_for()
    page.get_by_role("link", name="Watch", exact=True).nth(1).wait_for()
    check("rejected", page)
    assert page.get_by_role("button", name="Retry upload").count() == 0


def _check_watch_page(visit: Visit, finished: str, check: Callable[[str], None]) -> None:
    page = visit.page
    visit.sign_in()
    visit.open(f"/watch/{_upload(visit.product, 'Queued')}")
    page.get_by_role("region", name="Encoding progress").wait_for()
    check("queued")
    visit.open(f"/watch/{finished}")
    visit.until_playing()
    check("watching")
    page.mouse.move(600, 300)
    page.locator(".shaka-overflow-menu-button").click()
    check("player menu")
    page.locator(".shaka-overflow-menu .shaka-playbackrate-button").click()
    check("speed menu")
    assert page.locator(".shaka-playback-rate-preset-btn").all_text_contents()[:2] == ["1×", "1.25×"]
    page.keyboard.press("Escape")
    page.locator(".shaka-resolution-button").first.click()
    check("quality menu")
    page.keyboard.press("Escape")
    visit.until(lambda: page.evaluate("() => document.activeElement.matches('.shaka-resolution-button')"))
    page.mouse.click(300, 200, button="right")
    page.locator(".shaka-context-menu").wait_for()
    check("context menu")
    page.get_by_role("button", name="Rename").click()
    check("renaming")
    page.keyboard.press("Escape")
    page.get_by_label("Language").select_option("other")
    check("captions")
    page.get_by_role("button", name="Delete", exact=True).click()
    check("deleting")
    page.get_by_role("button", name="Cancel").click()
    visit.open("/watch/01900000-0000-7000-8000-000000000000")
    page.get_by_role("heading", name="Video unavailable").wait_for()
    check("missing video")


def test_signing_out_in_one_tab_ends_private_playback_in_the_others(
    visit: Visit, context: BrowserContext, finished: str
) -> None:
    visit.sign_in()
    visit.open(f"/watch/{finished}")
    visit.until_playing()
    elsewhere = context.new_page()
    elsewhere.goto(visit.product.url)

    elsewhere.get_by_role("button", name="Sign out").click()

    visit.page.get_by_role("heading", name="This video is private").wait_for()
    assert visit.page.locator("video").count() == 0
    assert visit.page.get_by_role("button", name="Rename").count() == 0
    visit.page.get_by_label("Token").fill(ADMIN_TOKEN)
    visit.page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    visit.until_playing()
    elsewhere.get_by_role("heading", name="Your videos").wait_for()


def test_a_session_that_ended_elsewhere_leaves_nothing_private_on_the_page(
    visit: Visit, context: BrowserContext, finished: str
) -> None:
    visit.sign_in()
    visit.open(f"/watch/{finished}")
    visit.until_playing()
    context.clear_cookies()

    visit.page.evaluate("() => window.dispatchEvent(new Event('focus'))")

    visit.page.get_by_role("heading", name="This video is private").wait_for()
    assert visit.page.locator("video").count() == 0


def test_the_list_follows_changes_made_elsewhere(visit: Visit) -> None:
    visit.sign_in()
    page = visit.page
    page.get_by_role("heading", name="Your videos").wait_for()

    cards = page.locator(".grid")  # it is also listed above them until it is done
    video = _upload(visit.product, "Made elsewhere")
    _look(visit)
    cards.get_by_text("Made elsewhere").wait_for()
    with visit.product.client() as client:
        client.patch(f"/api/videos/{video}", json={"title": "Renamed elsewhere"}).raise_for_status()
        _look(visit)
        cards.get_by_text("Renamed elsewhere").wait_for()
        client.delete(f"/api/videos/{video}").raise_for_status()
    _look(visit)
    cards.get_by_text("Renamed elsewhere").wait_for(state="detached")


def test_back_and_a_reload_return_to_the_same_place_in_the_list(visit: Visit) -> None:
    for number in range(VIDEOS):
        _upload(visit.product, f"Number {number}")
    visit.sign_in()
    page = visit.page
    cards = page.locator(".grid li")
    for before, after in ((12, 24), (24, VIDEOS)):
        page.get_by_role("button", name="Load more").click()
        visit.until(lambda after=after: cards.count() >= after)
        visit.until(lambda before=before: _title(cards.nth(before)) in page.evaluate(FOCUSED))
    shown = cards.count()
    card = page.locator(".grid a").filter(has_text="Number 3").last
    card.scroll_into_view_if_needed()
    top = page.evaluate("() => scrollY")
    assert top > 300

    card.click()
    page.get_by_role("heading", name="Number 3").wait_for()
    page.go_back()

    visit.until(lambda: abs(page.evaluate("() => scrollY") - top) < 5)
    assert cards.count() == shown
    assert "Number 3" in page.evaluate(FOCUSED)
    page.reload()
    visit.until(lambda: cards.count() == shown)
    visit.until(lambda: abs(page.evaluate("() => scrollY") - top) < 5)


def _title(card: Locator) -> str:
    return card.locator(".title").inner_text()


def test_those_who_watch_hear_of_a_deletion(
    visit: Visit, context: BrowserContext, encoded: dict[str, str]
) -> None:
    video = encoded["Doomed"]
    with visit.product.client() as client:
        client.patch(f"/api/videos/{video}", json={"visibility": "public"}).raise_for_status()
        visit.sign_in()
        visit.open(f"/watch/{video}")
        visit.until_playing()
        assert context.browser is not None
        others = context.browser.new_context()
        guest = Visit(others.new_page(), visit.product)
        guest.open(f"/watch/{video}")
        guest.until_playing()

        client.delete(f"/api/videos/{video}").raise_for_status()

        visit.page.get_by_role("heading", name="This video was deleted").wait_for()
        guest.page.get_by_role("heading", name="This video is no longer available").wait_for()
        assert visit.page.locator("video").count() == guest.page.locator("video").count() == 0
        others.close()


def test_a_failed_check_of_the_session_still_offers_to_sign_in(visit: Visit) -> None:
    visit.page.route("**/api/session", _unavailable)
    visit.open("/")

    visit.page.get_by_role("button", name="Sign in").first.wait_for()


def _unavailable(route: Route) -> None:
    route.fulfill(status=503, json={"error": "Away.", "code": "store_unavailable"})


def test_too_many_guesses_are_answered_with_the_wait(visit: Visit) -> None:
    def throttle(route: Route) -> None:
        if route.request.method == "POST":
            body = {"error": "Too many attempts.", "code": "too_many_attempts"}
            route.fulfill(status=429, headers={"retry-after": "42"}, json=body)
        else:
            route.continue_()

    visit.page.route("**/api/session", throttle)
    visit.open("/")
    visit.page.get_by_label("Token").fill("guess")
    visit.page.get_by_role("dialog").get_by_role("button", name="Sign in").click()

    visit.page.get_by_text("Too many attempts. Try again in 42 seconds.").wait_for()


def test_the_focus_returns_after_renaming(visit: Visit, finished: str) -> None:
    visit.sign_in()
    page = visit.page
    visit.open(f"/watch/{finished}")
    for key in ("Enter", "Escape"):
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("Title", exact=True).press(key)
        page.get_by_role("heading", name="Finished").wait_for()
        assert page.evaluate(FOCUSED) == "Rename"
