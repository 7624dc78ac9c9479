"""Upload links in the browser: a stranger sends a video, and the owner ends it when they like."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.e2e.accessibility import violations
from tests.e2e.browser import RESULTS, Visit
from tests.e2e.conftest import PHONE
from tests.e2e.uploader import MIB, Uploader, film_like, sha256, stored_sha256
from tests.lab.product import Product, site_on
from tests.lab.relay import Relay
from tests.lab.server import StoreServer

pytestmark = pytest.mark.heavy

SIZE = 30 * MIB
SLOW = 5 * MIB


@pytest.fixture(scope="module")
def product(rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product without a worker, so that sources stay as uploaded."""
    with site_on(rgw_server, tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture
def line(product: Product) -> Iterator[Relay]:
    with Relay(product.port) as line:
        yield line


@pytest.fixture
def stranger(product: Product, line: Relay, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport=PHONE, color_scheme="dark")
    visit = Visit(context.new_page(), replace(product, port=line.port))
    yield visit
    context.close()
    assert visit.script_errors == []
    assert visit.foreign_requests == []


def _make_link(owner: Visit, title: str) -> str:
    """Make a link on the page, and return its path."""
    page = owner.page
    page.get_by_role("button", name="Upload links").click()
    page.get_by_label("Title").fill(title)
    page.get_by_label("Message to guests").fill("Please send us\nwhat you filmed.")
    page.get_by_label("GB each").fill("2")
    page.get_by_role("button", name="Make link").click()
    path = page.get_by_label("The link", exact=True).input_value().removeprefix(owner.product.url)
    assert violations(page) == []
    _shoot(page.context, f"guests-owner-{title}")
    return path


def _shoot(context: BrowserContext, name: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    page = context.pages[0]
    page.screenshot(path=RESULTS / f"{name}.png", full_page=True)
    size = page.viewport_size
    assert size is not None
    assert page.evaluate("() => document.documentElement.scrollWidth") == size["width"]


def test_a_stranger_sends_a_video_with_a_note_and_resumes_after_a_reload(
    visit: Visit, stranger: Visit, line: Relay, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "dance.mp4", SIZE)
    visit.sign_in()
    link = _make_link(visit, "Our wedding")
    stranger.open(link)
    page, uploader = stranger.page, Uploader(stranger)
    page.get_by_role("heading", name="Our wedding").wait_for()
    page.get_by_text("Up to 10 videos, each up to 2.00 GB").wait_for()
    page.get_by_label("A note with your videos").fill("Congratulations!\nBen")
    line.bytes_per_second = SLOW
    uploader.choose(film)
    _shoot(page.context, "guests-chosen")
    assert violations(page) == []
    uploader.start()
    uploader.until_percent(40)

    page.reload()

    stranger.until(lambda: uploader.resumed_at)
    line.bytes_per_second = None
    page.get_by_text("“dance” has arrived. Thank you!").wait_for()
    assert uploader.resumed_at[0] > SIZE // 5
    _shoot(page.context, "guests-arrived")
    with visit.product.client() as client:
        (video,) = client.get("/api/videos").json()["videos"]
    assert stored_sha256(visit.product, video["id"]) == sha256(film)
    assert page.get_by_role("link", name="Watch").count() == 0

    visit.open(f"/watch/{video['id']}")
    visit.page.get_by_text("From a guest: Congratulations!").wait_for()
    visit.open("/")
    visit.page.get_by_role("link", name="dance").get_by_text("From a guest").wait_for()
    visit.page.get_by_role("button", name="Upload links").click()
    visit.page.get_by_text("1 of 10 used").wait_for()


def test_a_stranger_is_told_when_the_link_is_withdrawn_while_in_use(
    visit: Visit, stranger: Visit, line: Relay, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "late.mp4", 200 * MIB)
    visit.sign_in()
    link = _make_link(visit, "Too late")
    stranger.open(link)
    uploader = Uploader(stranger)
    line.bytes_per_second = SLOW
    uploader.choose(film)
    uploader.start()
    uploader.until_percent(3)

    visit.page.get_by_role("button", name="Withdraw Too late").click()

    told = stranger.page.get_by_role("heading", name="This upload link no longer works")
    told.wait_for()
    assert violations(stranger.page) == []
    _shoot(stranger.page.context, "guests-withdrawn")
    stranger.page.reload()
    told.wait_for()
    with visit.product.client() as client:
        videos = client.get("/api/videos").json()["videos"]
    assert [video for video in videos if video["title"] == "late"] == []


def test_a_wrong_link_leads_to_the_same_page(stranger: Visit) -> None:
    stranger.open(f"/upload/{'A' * 22}")
    stranger.page.get_by_role("heading", name="This upload link no longer works").wait_for()
