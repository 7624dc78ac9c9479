"""Strangers get a link to a video, and lose it again while they watch."""

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.accessibility import violations
from tests.e2e.browser import RESULTS, Visit
from tests.e2e.conftest import PHONE
from tests.lab.clips import make_clip
from tests.lab.product import Product, site_on
from tests.lab.server import StoreServer

pytestmark = pytest.mark.heavy

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def product(rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    settings = {"RENDITION_CODECS": "h264", "RUNGS": "360"}
    with site_on(rgw_server, tmp_path_factory.mktemp("logs"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def private_video(product: Product, tmp_path_factory: pytest.TempPathFactory) -> str:
    clip = make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=20)
    video = product.upload(clip, title="Birthday")
    product.drain()
    return video


@pytest.fixture
def stranger(product: Product, browser: Browser) -> Iterator[Visit]:
    """Another browser, on a phone."""
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True)
    visit = Visit(context.new_page(), product)
    yield visit
    assert visit.script_errors == []
    assert visit.foreign_requests == []
    context.close()


def _flaws(page: Page, state: str) -> list[str]:
    """Take pictures of the page, and return what breaks rules of accessibility."""
    RESULTS.mkdir(exist_ok=True)
    found = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.screenshot(path=RESULTS / f"sharing-{scheme}-{state.replace(' ', '-')}.png")
        found += [f"{state}, {scheme}: {rule}" for rule in violations(page)]
    return found


def _make_link(visit: Visit, name: str, passphrase: str = "") -> str:
    """Make a private link on the page of a video that plays, and return it."""
    page = visit.page
    page.get_by_role("button", name="Share").click()
    page.get_by_label("For (optional").fill(name)
    page.get_by_label("Passphrase").fill(passphrase)
    page.get_by_role("button", name="Make link").click()
    return page.get_by_label("Copy it now").input_value()


def test_a_stranger_watches_by_a_link_with_a_passphrase_until_it_is_withdrawn(
    visit: Visit, stranger: Visit, private_video: str
) -> None:
    flaws = []
    visit.sign_in()
    visit.open(f"/watch/{private_video}")
    visit.until_playing()
    link = _make_link(visit, "Grandma", "open sesame")
    visit.page.get_by_text("Expires").first.scroll_into_view_if_needed()
    flaws += _flaws(visit.page, "link made")
    assert f"/watch/{private_video}?access_code=vc_" in link
    visit.page.get_by_label("Start at").check()
    assert "&t=" in visit.page.get_by_label("Copy it now").input_value()

    page = stranger.page
    page.goto(link)
    page.get_by_role("heading", name="This video needs a passphrase").wait_for()
    flaws += _flaws(page, "passphrase")
    page.get_by_label("Passphrase").fill("open barley")
    page.get_by_role("button", name="Watch").click()
    page.get_by_text("That isn’t the passphrase.").wait_for()
    flaws += _flaws(page, "wrong passphrase")
    page.get_by_label("Passphrase").fill("open sesame")
    page.get_by_role("button", name="Watch").click()
    stranger.until_playing()
    page.get_by_role("heading", name="Birthday").wait_for()
    flaws += _flaws(page, "guest watching")
    page.reload()
    stranger.until_playing()  # it does not ask again

    visit.page.get_by_role("button", name="Done").click()
    visit.page.get_by_role("button", name="Share").click()
    visit.page.get_by_text("last used").wait_for()
    flaws += _flaws(visit.page, "list")
    visit.page.get_by_role("button", name="Withdraw: Grandma").click()
    visit.page.get_by_text("Grandma").wait_for(state="detached")

    page.get_by_role("heading", name="This link no longer works").wait_for()
    assert page.locator("video").count() == 0
    flaws += _flaws(page, "withdrawn")
    page.reload()
    page.get_by_role("heading", name="This link no longer works").wait_for()
    assert flaws == []


def test_a_link_without_a_passphrase_plays_at_once_and_where_it_says(
    visit: Visit, stranger: Visit, private_video: str
) -> None:
    visit.sign_in()
    visit.open(f"/watch/{private_video}")
    visit.until_playing()
    link = _make_link(visit, "")

    stranger.page.goto(f"{link}&t=5")
    stranger.until_playing()

    assert stranger.position() > 5
    assert stranger.page.get_by_role("button", name="Share").count() == 0
    assert stranger.page.get_by_role("button", name="Delete").count() == 0
