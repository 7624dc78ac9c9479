"""Images in a browser: uploaded with location and orientation, shared with a stranger, deleted."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page

from tests.backend.images.test_rewriting import SECRET, quarters, secret_exif
from tests.e2e.accessibility import violations
from tests.e2e.browser import RESULTS, Visit

pytestmark = pytest.mark.heavy

NATURAL_SIZE = "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo taken with the camera upright, which knows where."""
    path = tmp_path / "Team photo.jpg"
    quarters(800, 600).save(path, exif=secret_exif(6))
    return path


def _images(visit: Visit, *files: Path) -> Page:
    """Open the page, and upload these."""
    visit.sign_in()
    page = visit.page
    page.get_by_role("link", name="Images").click()
    page.get_by_role("heading", name="Images", exact=True).wait_for()
    page.get_by_label("Image files").set_input_files(files)
    return page


def test_an_image_is_shared_with_somebody_without_an_account(
    visit: Visit, photo: Path, browser: Browser, context: BrowserContext
) -> None:
    page = _images(visit, photo)
    card = page.get_by_role("listitem").filter(has_text="Team photo").first
    card.get_by_text("600 × 800").wait_for()
    assert card.locator("img").evaluate(NATURAL_SIZE) == [480, 640]
    address = visit.product.url + str(
        page.get_by_role("link", name="Open Team photo").first.get_attribute("href")
    ).removeprefix(visit.product.url)
    guest = browser.new_context()
    try:
        stranger = guest.new_page()
        assert stranger.request.get(address).status == 401

        with page.expect_response(lambda answer: answer.request.method == "PATCH"):
            card.get_by_label("Who can see").select_option("Public")
        stranger.goto(address)

        assert stranger.locator("img").evaluate(NATURAL_SIZE) == [600, 800]
        assert urlsplit(stranger.url).netloc != urlsplit(address).netloc  # the bucket serves it
        stored = httpx.get(address, follow_redirects=True)
        assert stored.headers["content-type"] == "image/jpeg"
        assert SECRET.encode() not in stored.content

        card.get_by_role("button", name="Delete Team photo").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        card.wait_for(state="detached")
        assert stranger.request.get(address).status == 401
    finally:
        guest.close()


def test_files_that_are_no_images_are_named(visit: Visit, photo: Path, tmp_path: Path) -> None:
    frames = [quarters(), quarters().rotate(180)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    (tmp_path / "notes.png").write_bytes(b"not an image")

    page = _images(visit, tmp_path / "moving.png", tmp_path / "notes.png", photo)

    page.get_by_text("moving.png: Animations can’t be stored as images. Upload a video instead.").wait_for()
    page.get_by_text("notes.png: This isn’t a JPEG, PNG, WebP or AVIF image, or it’s damaged.").wait_for()
    page.get_by_text("Team photo", exact=True).first.wait_for()


def test_the_page_is_accessible_and_fits_a_phone(phone: Visit, photo: Path, tmp_path: Path) -> None:
    for number, (mode, size) in enumerate([("RGBA", (900, 300)), ("L", (300, 900)), ("RGB", (40, 40))]):
        image = Image.effect_mandelbrot(size, (-3, -2.5, 2, 2.5), 100).convert(mode)
        if mode == "RGBA":
            image.putalpha(Image.linear_gradient("L").resize(size))
        image.save(tmp_path / f"Drawing {number} with a name that is longer than its card is wide.png")
    page = _images(phone, photo, *sorted(tmp_path.glob("*.png")))
    page.get_by_text("Drawing 2", exact=False).first.wait_for()
    for image in page.locator("main img").all():
        image.evaluate(NATURAL_SIZE)
    found = dict[str, list[str]]()

    RESULTS.mkdir(exist_ok=True)
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            page.screenshot(path=RESULTS / f"images-{width}-{scheme}.png")
            found[f"{width} {scheme}"] = violations(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    assert {state: rules for state, rules in found.items() if rules} == {}
