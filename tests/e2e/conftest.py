"""A real browser on the real product: API and worker as processes, Ceph RGW as the store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.e2e.browser import FLAGS, Visit, chromium
from tests.e2e.moments import note_moments
from tests.e2e.viewer import Viewer, foreign_site
from tests.lab.clips import big_buck_bunny
from tests.lab.missing import missing
from tests.lab.product import SITE, Product
from tests.worker.media_lab import ffmpeg

SHORT_FILM_SECONDS = 15
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of one module: while it runs, no event loop of another test can."""
    executable = chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def product(site_product: Product) -> Product:
    if not (SITE / "index.html").is_file():
        missing("the site is not built: make build")
    return site_product


@pytest.fixture(scope="session")
def short_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first part of a real film in 1080p: half the work of an encoder."""
    film = big_buck_bunny()
    if not film.is_file():
        missing("no film: make e2e installs it")
    path = tmp_path_factory.mktemp("film") / "big-buck-bunny.mp4"
    ffmpeg("-i", str(film), "-t", str(SHORT_FILM_SECONDS), "-map", "0", "-c", "copy", str(path))
    return path


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


@pytest.fixture(scope="module")
def early(product: Product, film_upload: str, site: str, browser: Browser) -> Iterator[EarlyViewing]:
    """The film, watched with hls.js as soon as it can be, while it is being encoded."""
    context = browser.new_context()
    note_moments(context)
    with product.client() as client:
        viewer = Viewer(context, site, "hlsjs")
        viewer.until(lambda: client.get(f"/api/videos/{film_upload}/status").json()["playable"], 240)
        viewer.open(product.url + client.get(f"/api/videos/{film_upload}/playback").json()["hls"])
        viewer.until_it_advances(0.5)
        status = client.get(f"/api/videos/{film_upload}/status").json()["status"]
    yield EarlyViewing(film_upload, viewer, status)
    context.close()


@pytest.fixture(scope="session")
def video(product: Product, film: str) -> str:
    """The encoded film, in 360p, 720p and 1080p."""
    return film


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    fresh = browser.new_context(viewport={"width": 1280, "height": 900})
    note_moments(fresh)
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
