"""Signing in, uploading, editing and deleting on the page, and the layout on a phone."""

from pathlib import Path

import pytest
from playwright.sync_api import Route

from tests.e2e.browser import RESULTS, Visit
from tests.e2e.uploader import MIB, Uploader, film_like
from tests.lab.product import ADMIN_TOKEN

pytestmark = pytest.mark.heavy


def test_the_sign_in_link_signs_in_and_removes_the_token_from_the_address(visit: Visit) -> None:
    visit.sign_in()

    assert visit.page.url == f"{visit.product.url}/"
    assert visit.page.evaluate("() => history.length") <= 2
    visit.page.reload()
    visit.page.get_by_role("button", name="Sign out").wait_for()


def test_a_wrong_token_is_rejected_and_signing_out_asks_for_it_again(visit: Visit) -> None:
    page = visit.page
    visit.open("/")
    page.get_by_label("Token").fill("wrong-token-0123456789")
    page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    page.get_by_text("That isn’t a valid token.").wait_for()

    page.get_by_label("Token").fill(ADMIN_TOKEN)
    page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").click()

    page.get_by_role("dialog").wait_for()
    assert page.locator(".grid li").count() == 0


def test_a_file_that_is_not_a_video_fails_with_a_clear_reason(visit: Visit, tmp_path: Path) -> None:
    visit.sign_in()
    page = visit.page
    uploader = Uploader(visit)

    uploader.choose(film_like(tmp_path / "noise.mp4", MIB))
    uploader.start()
    page.get_by_role("link", name="Watch", exact=True).click()

    alert = page.get_by_role("alert").filter(has_text="This video couldn’t be processed.")
    alert.wait_for(timeout=120_000)
    assert len(alert.get_by_role("paragraph").inner_text()) > 20
    assert alert.get_by_role("button", name="Try again").count() == 0
    assert page.locator("video").count() == 0


def test_a_failed_video_can_be_retried(visit: Visit, tmp_path: Path) -> None:
    video = visit.product.upload(film_like(tmp_path / "noise.mp4", MIB))
    visit.product.wait_for(video, status="error", seconds=120)
    visit.sign_in()
    page = visit.page
    # As if the machine was at fault. The page offers no second try of a file that is not a video.
    page.route(f"**/api/videos/{video}/status", _blame_the_machine)
    page.route(f"**/api/videos/{video}/events", lambda route: route.abort())  # then it asks for the status
    visit.open(f"/watch/{video}")
    alert = page.get_by_role("alert").filter(has_text="This video couldn’t be processed.")
    alert.wait_for()
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / "failed.png")

    with page.expect_response(f"**/api/videos/{video}/transcodes") as answered:
        alert.get_by_role("button", name="Try again").click()

    assert answered.value.status == 202
    page.get_by_role("progressbar").first.wait_for()
    alert.wait_for(timeout=120_000)
    with visit.product.client() as client:
        status = client.get(f"/api/videos/{video}/status").json()
    assert status["request"] == f"{video}.1"


def _blame_the_machine(route: Route) -> None:
    answer = route.fetch()
    status = answer.json()
    if status["error"] is not None:
        status["error"]["code"] = "attempt_failed"
    route.fulfill(response=answer, json=status)


def test_the_page_rejects_an_empty_file(visit: Visit, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    visit.sign_in()

    Uploader(visit).choose(empty)

    visit.page.get_by_role("alert").filter(has_text=f"“{empty.name}” is empty.").wait_for()


def test_a_video_can_be_renamed_made_public_and_deleted(visit: Visit, short_film: Path) -> None:
    video = visit.product.upload(short_film, title="Draft")
    visit.sign_in()
    page = visit.page
    page.locator(".grid").get_by_role("link", name="Draft").click()

    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Title", exact=True).fill("Final")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("heading", name="Final").wait_for()
    page.get_by_role("button", name="Public").click()
    page.get_by_text("Anyone with the link can watch.").wait_for()
    with visit.product.client() as client:
        record = client.get(f"/api/videos/{video}").json()
        assert (record["title"], record["visibility"]) == ("Final", "public")

        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        page.get_by_role("heading", name="Your videos").wait_for()
        assert client.get(f"/api/videos/{video}").status_code == 404
    visit.open(f"/watch/{video}")
    page.get_by_text("This video doesn’t exist.").wait_for()


def test_an_unknown_address_shows_page_not_found(visit: Visit) -> None:
    visit.open("/nowhere")

    visit.page.get_by_role("heading", name="Page not found").wait_for()


CONTROLS_FIT = """() => {
    const time = document.querySelector('.growing-time');
    time.textContent = '1:02:03 / 1:45:00';
    const bar = time.parentElement;
    const left = (element) => element.getBoundingClientRect().left;
    return time.scrollWidth <= time.clientWidth && left(bar.firstElementChild) >= left(bar);
}"""
"""Also the times of a long film."""


def test_pages_fit_a_phone_and_play(phone: Visit, video: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    phone.sign_in()
    for name, path in {"home": "/", "watch": f"/watch/{video}", "missing": "/nowhere"}.items():
        phone.open(path)
        phone.page.locator("h1").first.wait_for(state="attached")
        if name == "home":
            card = phone.page.locator(f".grid a[href='watch/{video}']")
            card.scroll_into_view_if_needed()  # pictures load when they come into view
            card.locator("img").wait_for()
        if name == "watch":
            phone.until_playing()
            assert phone.page.evaluate(CONTROLS_FIT)
        phone.page.screenshot(path=RESULTS / f"phone-{name}.png")
        assert phone.page.evaluate("() => document.documentElement.scrollWidth") == 390
