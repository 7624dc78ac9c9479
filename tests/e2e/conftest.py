"""A real browser on the real product: API and worker as processes, Ceph RGW as the store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.e2e.browser import FLAGS, Visit, chromium
from tests.e2e.viewer import Viewer, foreign_site
from tests.lab.clips import big_buck_bunny
from tests.lab.missing import missing
from tests.lab.product import REPOSITORY, Product, product_on
from tests.lab.server import StoreServer

SITE = REPOSITORY / "frontend" / "dist"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def product(rgw_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    if not (SITE / "index.html").is_file():
        missing("the site is not built: make build")
    logs = tmp_path_factory.mktemp("logs")
    with product_on(
        rgw_server.endpoint_url, rgw_server.access_key, rgw_server.secret_key, logs, SITE_DIR=str(SITE)
    ) as running:
        running.start_api()
        running.start_worker()
        yield running


@pytest.fixture(scope="session")
def clip() -> Path:
    """A 30-second 1080p film."""
    film = big_buck_bunny()
    if not film.is_file():
        missing("no film: make e2e installs it")
    return film


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The URL of a third-party site that plays our videos."""
    with foreign_site() as url:
        yield url


@dataclass(frozen=True, slots=True)
class EarlyViewing:
    """A viewer who started watching during encoding and is still watching."""

    video_id: str
    viewer: Viewer
    status_at_first_frame: object


@pytest.fixture(scope="session")
def early(product: Product, site: str, browser: Browser, clip: Path) -> Iterator[EarlyViewing]:
    """The film, watched with hls.js from its first segments on while it is being encoded."""
    video_id = product.upload(clip, title="Big Buck Bunny")
    context = browser.new_context()
    with product.client() as client:
        viewer = Viewer(context, site, "hlsjs")
        viewer.until(lambda: client.get(f"/api/videos/{video_id}/status").json()["playable"], 120)
        viewer.open(product.url + client.get(f"/api/videos/{video_id}/playback").json()["hls"])
        viewer.until_it_advances(0.5)
        status = client.get(f"/api/videos/{video_id}/status").json()["status"]
    yield EarlyViewing(video_id, viewer, status)
    context.close()


@pytest.fixture(scope="session")
def video(product: Product, early: EarlyViewing) -> str:
    """The encoded film, in 360p, 720p and 1080p."""
    product.wait_for(early.video_id, status="done", seconds=300)
    return early.video_id


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    fresh = browser.new_context(viewport={"width": 1280, "height": 900})
    yield fresh
    fresh.close()


@pytest.fixture
def visit(product: Product, context: BrowserContext) -> Iterator[Visit]:
    """A browser that is not signed in. Fails at the end on script errors or requests to other hosts."""
    yield from _visit(context.new_page(), product)


@pytest.fixture
def phone(product: Product, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
    yield from _visit(context.new_page(), product)
    context.close()


def _visit(page: Page, product: Product) -> Iterator[Visit]:
    visit = Visit(page, product)
    yield visit
    assert visit.script_errors == []
    assert visit.foreign_requests == []
