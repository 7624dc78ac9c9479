"""Videos from a link that somebody pastes: downloaded, played, cancelled, tried again."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import RESULTS, Visit
from tests.e2e.conftest import PHONE
from tests.lab.clips import make_clip
from tests.lab.folder import ENDLESS, served
from tests.lab.product import Product, site_on
from tests.lab.server import StoreServer

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def product(rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product that may fetch from this machine."""
    settings = {"ALLOW_PRIVATE_URLS": "true", "RUNGS": "180"}
    with site_on(rgw_server, tmp_path_factory.mktemp("logs"), **settings) as running:
        running.start_worker()
        yield running


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("elsewhere")
    make_clip(folder / "harbour.mp4", seconds=4)
    with served(folder) as address:
        yield address


def _paste(visit: Visit, link: str) -> None:
    visit.page.get_by_label("Or paste a link to a video").fill(link)
    visit.page.get_by_role("button", name="Add", exact=True).click()


def test_a_pasted_link_is_downloaded_and_plays(visit: Visit, elsewhere: str) -> None:
    visit.sign_in()
    _paste(visit, f"{elsewhere}/harbour.mp4")
    visit.page.get_by_role("region", name="Unfinished").get_by_role("link", name="harbour").click()
    visit.until_playing(120)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_a_download_is_cancelled_and_tried_again(
    product: Product, browser: Browser, elsewhere: str, scheme: str, device: str
) -> None:
    RESULTS.mkdir(exist_ok=True)
    size = PHONE if device == "phone" else {"width": 1280, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    visit = Visit(context.new_page(), product)
    page = visit.page

    def shoot(state: str) -> None:
        page.screenshot(path=RESULTS / f"link-{device}-{scheme}-{state}.png", full_page=True)
        assert page.evaluate("() => document.documentElement.scrollWidth") == size["width"]

    visit.sign_in()
    _paste(visit, "not a link")
    page.get_by_role("alert").filter(has_text="This isn’t a link to a file.").wait_for()
    shoot("wrong")
    _paste(visit, f"{elsewhere}{ENDLESS}")
    row = (
        page.get_by_role("region", name="Unfinished").get_by_role("listitem").filter(has_text="endless").first
    )
    row.get_by_text("Downloading ·").wait_for()
    shoot("downloading")
    row.get_by_role("link").click()
    page.get_by_role("region", name="Encoding progress").get_by_text("Downloading").first.wait_for()
    shoot("watching")
    page.get_by_role("button", name="Cancel").click()
    alert = page.get_by_role("alert").filter(has_text="This video was cancelled.")
    alert.wait_for()
    shoot("cancelled")
    alert.get_by_role("button", name="Try again").click()
    page.get_by_role("region", name="Encoding progress").get_by_text("Downloading").first.wait_for()
    visit.open("/")
    row.get_by_role("button", name="Cancel endless").click()
    row.get_by_role("button", name="Try again: endless").wait_for()
    shoot("list")
    context.close()
    assert visit.script_errors == []
    assert visit.foreign_requests == []
