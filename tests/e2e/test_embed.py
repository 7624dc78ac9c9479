"""The player on pages of another site, where it is a third party to browsers; slugs, /login, /logout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Page

from tests.e2e.accessibility import violations
from tests.e2e.browser import RESULTS, Visit
from tests.lab.clips import make_clip
from tests.lab.folder import served
from tests.lab.product import Product, site_on
from tests.lab.server import StoreServer

pytestmark = pytest.mark.heavy


@dataclass(frozen=True, slots=True)
class OtherSite:
    """A page of another site than ours: browsers compare host names, not addresses."""

    folder: Path
    origin: str

    def show(self, context: BrowserContext, html: str) -> Page:
        """Open a page with this HTML."""
        head = '<!doctype html><html lang="en"><title>Another site</title><link rel="icon" href="data:,">'
        (self.folder / "page.html").write_text(f"{head}<main><h1>Another site</h1>{html}</main>")
        page = context.new_page()
        page.goto(f"{self.origin}/page.html")
        page.bring_to_front()  # else Chromium may not draw frames of other sites
        return page


@pytest.fixture(scope="module")
def other_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherSite]:
    folder = tmp_path_factory.mktemp("other")
    with served(folder) as address:
        yield OtherSite(folder, f"http://localhost:{urlsplit(address).port}")


@pytest.fixture(scope="module")
def product(
    rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory, other_site: OtherSite
) -> Iterator[Product]:
    """A product whose videos only the other site may embed."""
    settings = {"RENDITION_CODECS": "h264", "RUNGS": "180", "EMBED_ORIGINS": other_site.origin}
    with site_on(rgw_server, tmp_path_factory.mktemp("logs"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def clip(product: Product, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A private video."""
    video = product.upload(
        make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=60), title="Harbour"
    )
    product.drain()
    return video


@pytest.fixture
def owner(product: Product, browser: Browser) -> Iterator[BrowserContext]:
    """A browser that is signed in."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    Visit(context.new_page(), product).sign_in()
    yield context
    context.close()


def _change(product: Product, video: str, **change: str) -> None:
    with product.client() as client:
        client.patch(f"/api/videos/{video}", json=change).raise_for_status()


def _iframe(product: Product, path: str) -> str:
    source = f"{product.url}/embed/{path}"
    return f'<iframe src="{source}" width="640" height="360" allow="autoplay; fullscreen"></iframe>'


def _frame(page: Page) -> Frame:
    (frame,) = page.frames[1:]
    return frame


def _shoot(page: Page, state: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / f"embed-{state}.png", full_page=True)


def _until_playing(page: Page, from_seconds: float = 0) -> None:
    """Wait until the frame has played a second from there."""
    video = _frame(page).locator("video")
    for _ in range(600):
        if video.evaluate("video => video.currentTime") > from_seconds + 1:
            return
        page.wait_for_timeout(50)
    raise AssertionError(_frame(page).locator("body").inner_text())


def test_the_snippet_of_a_public_video_plays_elsewhere_until_it_is_private(
    product: Product, clip: str, owner: BrowserContext, other_site: OtherSite, browser: Browser
) -> None:
    _change(product, clip, visibility="public")
    ours = Visit(owner.new_page(), product)
    ours.open(f"/watch/{clip}")
    ours.until_playing()
    ours.page.get_by_label("Address", exact=True).fill("Old Harbour")
    ours.page.get_by_role("button", name="Save address").click()
    ours.until(lambda: ours.page.url == f"{product.url}/watch/old-harbour")
    _shoot(ours.page, "slug")
    ours.page.get_by_role("button", name="Share").click()
    snippet = ours.page.get_by_label("Paste this into the HTML").input_value()
    ours.page.get_by_role("heading", name="Embed").scroll_into_view_if_needed()
    _shoot(ours.page, "dialog")
    assert violations(ours.page) == []
    assert f'src="{product.url}/embed/old-harbour"' in snippet

    stranger = browser.new_context()
    page = other_site.show(stranger, snippet)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    frame = _frame(page)
    frame.locator("video[poster]").wait_for()
    page.wait_for_timeout(500)
    assert frame.locator("video").evaluate("video => video.paused && video.currentTime === 0")
    _shoot(page, "before")
    frame.locator(".shaka-big-buttons-container button").click()
    _until_playing(page)
    _shoot(page, "playing")
    assert violations(page) == []
    _change(product, clip, visibility="private")
    frame.get_by_text("This video is no longer available.").wait_for()
    assert frame.locator("video").count() == 0
    _shoot(page, "withdrawn")
    assert errors == ours.script_errors == []
    stranger.close()
    _change(product, clip, slug="")


def test_a_frame_of_another_site_is_not_signed_in_and_a_code_opens_it(
    product: Product, clip: str, owner: BrowserContext, other_site: OtherSite
) -> None:
    page = other_site.show(owner, _iframe(product, clip))
    _frame(page).get_by_text("This video isn’t available here.").wait_for()
    _shoot(page, "private")
    with product.client() as client:
        wish = {"media_items": [{"media_slug": clip}], "passphrase": "open sesame"}
        made = client.post("/api/access-codes", json=wish).json()

    page = other_site.show(
        owner, _iframe(product, f"{clip}?access_code={made['code']}&autoplay=1&muted=1&t=10")
    )
    frame = _frame(page)
    frame.get_by_label("Passphrase").wait_for()
    _shoot(page, "passphrase")
    frame.get_by_label("Passphrase").fill("open sesame")
    frame.get_by_role("button", name="Watch").click()
    frame.locator("video").wait_for()
    _until_playing(page, 10)
    with product.client() as client:
        client.delete(f"/api/access-codes/{made['id']}").raise_for_status()
    frame.get_by_text("This video is no longer available.").wait_for()


def test_other_origins_may_only_embed_what_a_code_lets_them(
    product: Product, clip: str, other_site: OtherSite, context: BrowserContext
) -> None:
    stranger = OtherSite(other_site.folder, other_site.origin.replace("localhost", "127.0.0.1"))
    _change(product, clip, visibility="public")
    page = stranger.show(context, _iframe(product, clip))
    assert _frame(page).url == "chrome-error://chromewebdata/"
    _change(product, clip, visibility="private")
    with product.client() as client:
        wish = {"media_items": [{"media_slug": clip}], "frame_ancestors": [stranger.origin]}
        code = client.post("/api/access-codes", json=wish).json()["code"]

    page = stranger.show(context, _iframe(product, f"{clip}?access_code={code}&autoplay=1&muted=1"))
    _frame(page).locator("video").wait_for()
    _until_playing(page)
    page = other_site.show(context, _iframe(product, f"{clip}?access_code={code}"))
    assert _frame(page).url == "chrome-error://chromewebdata/"


def test_login_and_logout_are_pages(visit: Visit) -> None:
    visit.sign_in()
    visit.open("/login")
    visit.page.get_by_role("heading", name="Your videos").wait_for()
    visit.open("/logout")
    visit.page.get_by_role("heading", name="Sign out?").wait_for()
    _shoot(visit.page, "logout")
    visit.page.get_by_role("button", name="Sign out of this browser").click()
    visit.page.get_by_role("heading", name="You’re signed out").wait_for()
    assert visit.page.context.cookies() == []
    visit.page.get_by_role("main").get_by_role("link", name="Sign in").click()
    visit.page.get_by_role("dialog").wait_for()
    _shoot(visit.page, "login")


def test_unknown_videos_say_so(visit: Visit, product: Product) -> None:
    for path in ("/embed/no-such-video", "/embed/Not%20a%20name"):
        answer = visit.page.goto(product.url + path)
        assert answer is not None
        assert answer.status == 404
        visit.page.get_by_role("alert").wait_for()
