"""Uploads on the page: they resume after any interruption, and every byte is right."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.e2e.browser import FLAGS, RESULTS, Visit, chromium
from tests.e2e.conftest import PHONE
from tests.e2e.uploader import MIB, Uploader, film_like, sha256, stored_sha256
from tests.faults.clients import harm
from tests.lab.nginx import documented, nginx
from tests.lab.product import ADMIN_TOKEN, Product, site_on
from tests.lab.proxy import FaultProxy
from tests.lab.relay import Relay
from tests.lab.server import StoreServer
from vodbucket.client.local_file import fingerprint

pytestmark = pytest.mark.heavy

SIZE = 40 * MIB
SLOW = 5 * MIB
OFFLINE_MS = 20_000
RECORDING_MS = 2_000
LARGE_SIZE = 208 * MIB
KILLS = 5
TUS = {"Tus-Resumable": "1.0.0"}


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
def uploader(product: Product, line: Relay, context: BrowserContext) -> Iterator[Uploader]:
    with _signed_in(product, line, context) as uploader:
        yield uploader


@contextmanager
def _signed_in(product: Product, line: Relay, context: BrowserContext) -> Iterator[Uploader]:
    """Yield a signed-in page that is reached through that relay."""
    uploader = Uploader(Visit(context.new_page(), replace(product, port=line.port)))
    uploader.visit.sign_in()
    yield uploader
    assert uploader.visit.script_errors == []
    assert uploader.visit.foreign_requests == []


def _send_slowly(uploader: Uploader, line: Relay, film: Path, *, until_percent: float) -> None:
    """Start a slow upload and wait until it has come this far."""
    line.bytes_per_second = SLOW
    uploader.choose(film)
    uploader.start()
    uploader.until_percent(until_percent)


def test_an_upload_resumes_after_a_reload(uploader: Uploader, line: Relay, tmp_path: Path) -> None:
    film = film_like(tmp_path / "reloaded.mp4", SIZE)
    _send_slowly(uploader, line, film, until_percent=50)

    uploader.page.reload()

    assert uploader.warnings == ["beforeunload"]
    uploader.visit.until(lambda: uploader.resumed_at)
    line.bytes_per_second = None
    video_id = uploader.watch_link()
    assert uploader.created == 1
    assert uploader.resumed_at[0] > SIZE // 4
    assert stored_sha256(uploader.visit.product, video_id) == sha256(film)


def test_an_upload_resumes_after_the_browser_is_closed_and_reopened(
    browser: Browser, product: Product, line: Relay, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "closed.mp4", SIZE)
    here = replace(product, port=line.port)
    with _browser_of(tmp_path / "profile", browser) as before:
        uploader = Uploader(Visit(before.new_page(), here))
        uploader.visit.sign_in()
        _send_slowly(uploader, line, film, until_percent=50)

    with _browser_of(tmp_path / "profile", browser) as after:
        again = Uploader(Visit(after.new_page(), here))
        again.visit.open("/")
        again.visit.until(lambda: again.resumed_at)
        line.bytes_per_second = None
        video_id = again.watch_link()

    assert again.created == 0
    assert again.resumed_at[0] > SIZE // 4
    assert stored_sha256(product, video_id) == sha256(film)


def _browser_of(profile: Path, browser: Browser) -> BrowserContext:
    """Start a separate browser with its profile on disk."""
    kind = browser.browser_type
    return kind.launch_persistent_context(profile, executable_path=chromium(), args=list(FLAGS))


def test_an_upload_resumes_once_a_file_the_browser_lost_is_chosen_again(
    uploader: Uploader, line: Relay, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "forgotten.mp4", SIZE)
    page = uploader.page
    _send_slowly(uploader, line, film, until_percent=50)
    uploader.forget_files()

    page.reload()
    page.get_by_role("button", name="Choose again").click()
    uploader.choose(film)
    line.bytes_per_second = None

    video_id = uploader.watch_link()
    assert uploader.created == 1
    assert uploader.resumed_at[0] > SIZE // 4
    assert stored_sha256(uploader.visit.product, video_id) == sha256(film)


def test_a_reload_starts_nothing_if_nothing_was_uploading(uploader: Uploader, tmp_path: Path) -> None:
    page = uploader.page
    rejected, chosen = (film_like(tmp_path / name, 3 * MIB) for name in ("rejected.mp4", "chosen.mp4"))
    with rejected.open("r+b") as file:
        file.write(b"%PDF-1.7\n")
    uploader.choose(rejected)
    uploader.start()
    page.get_by_role("alert").filter(has_text="This isn’t a video or audio file.").wait_for()
    page.get_by_role("button", name="Add more files").click()
    uploader.choose(chosen)
    uploader.until_remembered(2)

    page.reload()

    page.get_by_text("Your files are still here. Press the button to continue.").wait_for()
    assert uploader.created == 1


def test_an_upload_waits_while_the_browser_is_offline(
    uploader: Uploader, line: Relay, context: BrowserContext, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "offline.mp4", SIZE)
    _send_slowly(uploader, line, film, until_percent=50)

    context.set_offline(True)
    line.break_down()
    uploader.page.get_by_role("alert").filter(has_text="You’re offline.").wait_for()
    uploader.page.wait_for_timeout(OFFLINE_MS)
    assert uploader.resumed_at == []
    line.mend()
    context.set_offline(False)
    line.bytes_per_second = None

    video_id = uploader.watch_link()
    assert uploader.created == 1
    assert uploader.resumed_at[0] > SIZE // 4
    assert stored_sha256(uploader.visit.product, video_id) == sha256(film)


def test_another_browser_resumes_the_upload_of_the_same_file(
    uploader: Uploader, line: Relay, browser: Browser, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "moved.mp4", SIZE)
    _send_slowly(uploader, line, film, until_percent=50)
    uploader.page.close()

    renamed = film.rename(tmp_path / "other name.mp4")
    elsewhere = browser.new_context()
    other = Uploader(Visit(elsewhere.new_page(), uploader.visit.product))
    other.visit.sign_in()
    other.choose(renamed)
    other.give_title(renamed, "Moved house")
    other.start()
    video_id = other.watch_link()
    elsewhere.close()

    assert other.created == 0
    assert other.resumed_at[0] > SIZE // 4
    assert stored_sha256(uploader.visit.product, video_id) == sha256(renamed)
    with uploader.visit.product.client() as client:
        assert client.get(f"/api/videos/{video_id}").json()["title"] == "Moved house"


@pytest.mark.parametrize("pieces", [1, 4])
def test_an_upload_started_elsewhere_resumes_and_one_whose_video_was_deleted_starts_over(
    uploader: Uploader, product: Product, tmp_path: Path, pieces: int
) -> None:
    film = film_like(tmp_path / f"started_in_{pieces}.mp4", SIZE)
    note = f"/api/resumptions/{fingerprint(film, SIZE)}"
    with product.client() as client:
        started = _send_half(client, film.read_bytes(), pieces)
        noted = {"upload_url": started[0]} if pieces == 1 else {"parallel_upload_urls": started}
        client.put(note, json=noted)

        uploader.choose(film)
        uploader.start()
        first = uploader.watch_link()
        assert (uploader.created, uploader.resumed_at) == (0, [SIZE // pieces // 2] * pieces)
        assert stored_sha256(product, first) == sha256(film)
        uploader.visit.until(lambda: client.get(note).status_code == 404)

        # As if the response to the last request was lost, so the note remains.
        client.put(note, json=noted)
        client.delete(f"/api/videos/{first}")
        uploader.page.reload()
        uploader.choose(film)
        uploader.start()
        assert stored_sha256(product, uploader.watch_link()) == sha256(film)
        uploader.visit.until(lambda: client.get(note).status_code == 404)
    assert uploader.created == pieces


def _send_half(client: httpx.Client, film: bytes, pieces: int) -> list[str]:
    """Send the first half of each part. Return the parts' URLs."""
    size = len(film) // pieces
    partial = {"Upload-Concat": "partial"} if pieces > 1 else {}
    addresses = []
    for begin in range(0, len(film), size):
        announced = {**TUS, **partial, "Upload-Length": str(size)}
        addresses.append(client.post("/api/uploads", headers=announced).headers["location"])
        headers = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        client.patch(addresses[-1], headers=headers, content=film[begin : begin + size // 2])
    return addresses


def test_a_file_that_changes_during_upload_must_be_chosen_again(
    uploader: Uploader, line: Relay, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "edited.mp4", SIZE)
    _send_slowly(uploader, line, film, until_percent=20)

    line.break_down()
    uploader.page.get_by_text("Connection lost.").wait_for()
    with film.open("ab") as file:
        file.write(b"edited")
    line.mend()

    uploader.page.get_by_role("alert").filter(has_text="This file was changed or moved.").wait_for()
    line.bytes_per_second = None
    uploader.page.get_by_role("button", name="Add more files").click()
    uploader.choose(film)
    uploader.start()
    assert stored_sha256(uploader.visit.product, uploader.watch_link()) == sha256(film)


def test_a_large_file_survives_pauses_and_a_reload(uploader: Uploader, line: Relay, tmp_path: Path) -> None:
    film = film_like(tmp_path / "large.mp4", LARGE_SIZE)
    page = uploader.page
    line.bytes_per_second = 10 * MIB
    uploader.choose(film)
    uploader.start()
    uploader.until_percent(20)
    for _ in range(3):
        page.get_by_role("button", name="Pause", exact=True).click()
        page.get_by_role("button", name="Resume", exact=True).click()
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("status").filter(has_text="Paused.").wait_for()
    page.get_by_role("button", name="Resume", exact=True).click()
    uploader.until_percent(40)
    resumed = len(uploader.resumed_at)
    page.reload()
    uploader.visit.until(lambda: len(uploader.resumed_at) > resumed)
    line.bytes_per_second = None

    video_id = uploader.watch_link(120)

    assert uploader.created == 1
    assert stored_sha256(uploader.visit.product, video_id) == sha256(film)


def test_an_upload_survives_kills_of_the_api_while_the_store_fails(
    rgw_server: StoreServer, context: BrowserContext, tmp_path: Path
) -> None:
    with (
        FaultProxy(rgw_server) as wire,
        site_on(wire.server, tmp_path) as product,
        Relay(product.port) as line,
        _signed_in(product, line, context) as uploader,
    ):
        struck = harm(wire)
        film = film_like(tmp_path / "killed.mp4", LARGE_SIZE)
        moments = random.Random(5)
        line.bytes_per_second = LARGE_SIZE / KILLS / 20
        uploader.choose(film)
        uploader.start()
        uploader.until_percent(1)

        for kill in range(KILLS):
            uploader.page.wait_for_timeout(moments.uniform(200, 3000))
            if kill == KILLS // 2:
                uploader.page.get_by_role("button", name="Pause", exact=True).click()
                uploader.page.get_by_role("status").filter(has_text="Paused.").wait_for()
            product.processes[-1].kill()
            product.processes[-1].wait()
            product.start_api()
            if kill == KILLS // 2:
                uploader.page.get_by_role("button", name="Resume", exact=True).click()
        assert uploader.page.get_by_role("link", name="Watch", exact=True).count() == 0
        line.bytes_per_second = None

        video_id = uploader.watch_link(180)
        assert uploader.created == 1
        assert stored_sha256(product, video_id) == sha256(film)
    assert struck() > KILLS


def test_cancelling_an_upload_deletes_everything(uploader: Uploader, line: Relay, tmp_path: Path) -> None:
    film = film_like(tmp_path / "cancelled.mp4", LARGE_SIZE)
    page = uploader.page
    made: list[str] = []
    page.on(
        "response",
        lambda one: made.extend(urlsplit(url).path for url in [one.headers.get("location")] if url),
    )
    line.bytes_per_second = 10 * MIB
    uploader.choose(film)
    uploader.start()
    uploader.until_percent(10)

    page.locator(".uppy-StatusBar").get_by_role("button", name="Cancel").click()

    page.get_by_text("Drop videos here").wait_for()
    assert len(made) == 1
    note = f"/api/resumptions/{fingerprint(film, LARGE_SIZE)}"
    with uploader.visit.product.client() as client:
        uploader.visit.until(lambda: client.get(note).status_code == 404)
        uploader.visit.until(lambda: all(client.head(url, headers=TUS).status_code == 404 for url in made))


def test_an_upload_resumes_after_the_session_expired(
    uploader: Uploader, line: Relay, context: BrowserContext, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "expired.mp4", SIZE)
    page = uploader.page
    _send_slowly(uploader, line, film, until_percent=50)
    context.clear_cookies()
    line.break_down()
    page.get_by_text("Connection lost.").wait_for()
    line.mend()
    line.bytes_per_second = None

    page.get_by_role("dialog").get_by_role("button", name="Not now").click()
    page.get_by_text("Your session has expired.").wait_for()
    page.get_by_role("main").get_by_role("button", name="Sign in").first.click()
    page.get_by_label("Token").fill(ADMIN_TOKEN)
    page.get_by_role("dialog").get_by_role("button", name="Sign in").click()

    video_id = uploader.watch_link()
    assert uploader.created == 1
    assert stored_sha256(uploader.visit.product, video_id) == sha256(film)


@pytest.mark.parametrize(
    "limit",
    ['if ($http_content_length ~ "^[0-9]{8}") { return 444; }', "client_max_body_size 10m;"],
    ids=["reset", "413"],
)
def test_an_upload_passes_a_proxy_that_limits_bodies(
    product: Product, context: BrowserContext, tmp_path: Path, limit: str
) -> None:
    """One closes the connection, which nginx does for 444. The other answers 413."""
    film = film_like(tmp_path / "limited.mp4", SIZE)
    location = documented().replace("/vod/", "/").replace("client_max_body_size 0;", limit)
    with nginx(tmp_path, product.port, location) as (port,):
        uploader = Uploader(Visit(context.new_page(), replace(product, port=port)))
        uploader.visit.sign_in()
        uploader.choose(film)
        uploader.start()
        video_id = uploader.watch_link(120)
        learned = len(re.findall('" 4(?:13|44) ', (tmp_path / "access.log").read_text()))

    assert uploader.created == 1
    assert 0 < learned < 40
    assert stored_sha256(product, video_id) == sha256(film)


def test_another_title_makes_a_second_video_of_a_finished_upload(
    uploader: Uploader, product: Product, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "twice.mp4", 3 * MIB)
    note = f"/api/resumptions/{fingerprint(film, film.stat().st_size)}"
    page = uploader.page
    with product.client() as client:
        with page.expect_request(lambda one: one.method == "PUT" and one.url.endswith(note)) as noted:
            uploader.choose(film)
            uploader.give_title(film, "First")
            uploader.start()
        first = uploader.watch_link()
        uploader.visit.until(lambda: client.get(note).status_code == 404)
        # As if the response to the last request was lost, so the note remains.
        client.put(note, json=noted.value.post_data_json).raise_for_status()
        uploader.until_remembered_as_ended()

        page.reload()
        uploader.choose(film)
        uploader.give_title(film, "Second")
        uploader.start()
        second = uploader.watch_link()

        assert second != first
        titles = {one: client.get(f"/api/videos/{one}").json()["title"] for one in (first, second)}
    assert titles == {first: "First", second: "Second"}


def test_a_file_that_is_not_a_video_is_rejected_at_once(
    uploader: Uploader, line: Relay, tmp_path: Path
) -> None:
    scan = film_like(tmp_path / "scan.mp4", SIZE)
    with scan.open("r+b") as file:
        file.write(b"%PDF-1.7\n")
    uploader.choose(scan)
    uploader.start()

    uploader.page.get_by_role("alert").filter(has_text="This isn’t a video or audio file.").wait_for()
    RESULTS.mkdir(exist_ok=True)
    uploader.page.screenshot(path=RESULTS / "upload-rejected.png")
    assert uploader.page.get_by_role("link", name="Watch", exact=True).count() == 0


def test_a_file_that_is_too_large_is_rejected_before_it_is_sent(
    product: Product, context: BrowserContext, tmp_path: Path
) -> None:
    uploader = Uploader(Visit(context.new_page(), product))
    with uploader.page.expect_request_finished(lambda request: request.method == "OPTIONS"):
        uploader.visit.sign_in()
    film = tmp_path / "endless.mp4"
    with film.open("wb") as file, product.client() as client:
        file.truncate(int(client.options("/api/uploads").headers["tus-max-size"]) + 1)

    uploader.choose(film)

    refusal = uploader.page.get_by_role("alert").filter(has_text="The server accepts files up to")
    refusal.wait_for()
    assert uploader.created == 0


def test_several_titled_files_upload_one_by_one_while_other_pages_are_open(
    uploader: Uploader, line: Relay, tmp_path: Path
) -> None:
    page = uploader.page
    first, second = (film_like(tmp_path / name, 8 * MIB) for name in ("first.mp4", "second_take.mov"))
    uploader.choose(first, second)
    uploader.give_title(first, "The beginning")
    line.bytes_per_second = SLOW
    uploader.start(2)

    page.get_by_role("link", name="Watch", exact=True).click()
    page.get_by_role("heading", name="The beginning").wait_for()
    page.get_by_role("link", name="vodbucket").click()
    expect(page.get_by_role("link", name="Watch", exact=True)).to_have_count(2, timeout=60_000)

    with uploader.visit.product.client() as client:
        titles = {video["title"] for video in client.get("/api/videos").json()["videos"]}
    assert {"The beginning", "second take"} <= titles


@pytest.mark.parametrize(
    ("source", "start"), [("Camera", "Start recording"), ("Screen", "Start screen recording")]
)
def test_a_recording_is_uploaded(uploader: Uploader, source: str, start: str) -> None:
    page = uploader.page
    page.get_by_role("tab", name=source).click()
    page.get_by_role("button", name=start).click()
    page.wait_for_timeout(RECORDING_MS)
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / f"upload-recording-{source.lower()}.png")
    page.get_by_role("button", name="Stop recording").click()
    page.get_by_role("button", name="Use this recording").click()
    uploader.start()

    video_id = uploader.watch_link()

    with uploader.visit.product.client() as client:
        video = client.get(f"/api/videos/{video_id}").json()
    assert video["title"].startswith("Recording from ")
    assert video["content_type"].startswith("video/")
    assert video["size_bytes"] > 1000


def test_an_insecure_page_uploads_but_offers_no_recording(
    product: Product, context: BrowserContext, tmp_path: Path
) -> None:
    film = film_like(tmp_path / "plain.mp4", 3 * MIB)
    uploader = Uploader(Visit(context.new_page(), product))
    page = uploader.page
    page.goto(f"http://vodbucket.test:{product.port}/#token={ADMIN_TOKEN}")
    page.get_by_text("Drop videos here").wait_for()
    assert page.evaluate("() => isSecureContext") is False
    assert page.get_by_role("tab").count() <= 1

    uploader.choose(film)
    uploader.start()

    assert stored_sha256(product, uploader.watch_link()) == sha256(film)
    assert uploader.visit.script_errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_the_panel_fits_the_screen_in_every_state(
    product: Product, line: Relay, browser: Browser, tmp_path: Path, scheme: str, device: str
) -> None:
    RESULTS.mkdir(exist_ok=True)
    files = [film_like(tmp_path / name, 8 * MIB) for name in ("Holidays in the mountains.mp4", "concert.mkv")]
    size = PHONE if device == "phone" else {"width": 1280, "height": 900}
    context = browser.new_context(
        viewport=size, color_scheme=scheme, is_mobile=device == "phone", has_touch=device == "phone"
    )
    uploader = Uploader(Visit(context.new_page(), replace(product, port=line.port)))
    uploader.visit.sign_in()
    page = uploader.page

    def shoot(state: str) -> None:
        page.screenshot(path=RESULTS / f"upload-{device}-{scheme}-{state}.png")
        assert page.evaluate("() => document.documentElement.scrollWidth") == size["width"]

    page.get_by_text("Drop videos here").wait_for()
    shoot("empty")
    uploader.choose(*files)
    page.get_by_role("button", name="Upload 2 files", exact=True).wait_for()
    shoot("waiting")
    page.get_by_role("button", name="Edit the title of concert.mkv").click()
    page.get_by_label("Title", exact=True).wait_for()
    shoot("title")
    page.get_by_role("button", name="Save", exact=True).click()
    line.bytes_per_second = 2 * MIB
    uploader.start(2)
    uploader.until_percent(40)
    shoot("under-way")
    line.bytes_per_second = None
    expect(page.get_by_role("link", name="Watch", exact=True)).to_have_count(2, timeout=60_000)
    shoot("done")
    context.close()
    assert uploader.visit.script_errors == []
    assert uploader.visit.foreign_requests == []
