"""Behind nginx below a path, configured as the README says, and with nginx's own limit of request bodies."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext
from websockets.sync.client import connect

from tests.e2e.browser import Visit
from tests.e2e.uploader import MIB, Uploader, film_like, sha256, stored_sha256
from tests.lab.nginx import documented, nginx
from tests.lab.product import ADMIN_TOKEN, REPOSITORY, Product, stop
from tests.lab.server import free_port

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("film_upload")]
"""All share the process, and so the product, of the tests that play the film."""

PATH = "/vod"
CAPTIONS = b"WEBVTT\n\n00:00.000 --> 00:30.000\nBelow a path\n"


@pytest.fixture(scope="module")
def below(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Product]]:
    """The product below a path: as the README says, and with the path removed and nginx's limit of 1 MiB."""
    port = free_port()
    api = product.start_api(port, ROOT_PATH=PATH)
    kept = documented()
    removed = kept.replace(":3000;", ":3000/;").replace("client_max_body_size 0;", "")
    with nginx(tmp_path_factory.mktemp("nginx"), port, kept, removed) as ports:
        names = ("kept", "removed")
        yield {name: replace(product, port=one, path=PATH) for name, one in zip(names, ports, strict=True)}
    stop(api)


@pytest.fixture(params=["kept", "removed"])
def server(below: dict[str, Product], request: pytest.FixtureRequest) -> Product:
    return below[request.param]


def test_every_address_that_the_api_gives_leads_below_the_path(server: Product, video: str) -> None:
    with server.client() as client:
        client.post(f"/api/videos/{video}/captions/en", content=CAPTIONS).raise_for_status()
        playback = client.get(f"/api/videos/{video}/playback").json()
        (captions,) = playback["captions"]
        links = [playback[kind] for kind in ("hls", "dash", "webm", "poster", "storyboard")]
        paths = [*links, captions["url"], f"/vod/videos/{video}", f"/vod/videos/{video}/hls/master.m3u8"]
        paths += [f"/vod/hls/{video}/index.m3u8", f"/vod/videos/{video}/poster.jpg"]
        for path in paths:
            assert path.startswith("/vod/")
            answer = client.get(f"{server.url}{path.removeprefix('/vod')}", follow_redirects=True)
            assert answer.status_code == 200, path
            ours = [one.url for one in answer.history if one.url.port == server.port]
            assert all(url.path.startswith("/vod/") for url in ours)
        client.delete(f"/api/videos/{video}/captions/en").raise_for_status()
        assert [client.get(path).text for path in ("/healthz", "/readyz")] == ["ok", "ok"]
        assert client.get("/schema/openapi.json").json()["servers"] == [{"url": "/vod"}]
        missing = client.get("/api/nowhere")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert client.get(f"http://127.0.0.1:{server.port}/vod").headers["location"] == f"{server.url}/"


def test_the_site_works_below_the_path(
    server: Product, video: str, context: BrowserContext, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    film = film_like(tmp_path / f"below {server.port}.mp4", 5 * MIB)
    visit = Visit(context.new_page(), server)
    page, root = visit.page, f"{server.url}/"
    addresses: list[str] = []
    refused: list[int] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("response", lambda answer: refused.append(answer.status) if answer.status == 413 else None)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.sign_in()
    assert [cookie["path"] for cookie in context.cookies()] == [PATH]

    uploader = Uploader(visit)
    uploader.choose(film)
    uploader.start()
    uploaded = uploader.watch_link()
    assert stored_sha256(server, uploaded) == sha256(film)
    assert bool(refused) == (request.node.callspec.params["server"] == "removed")
    page.get_by_role("link", name="Watch", exact=True).click()
    page.get_by_role("heading", name=film.stem).wait_for()
    assert page.url == f"{root}watch/{uploaded}"
    visit.open(f"/embed/{video}?autoplay=1&muted=1")
    visit.until_playing()
    visit.open(f"/watch/{video}")
    visit.until_playing()
    page.get_by_text("DASH", exact=True).click()
    visit.until(lambda: page.url.endswith("?format=dash"))
    page.reload()
    visit.until_playing()
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == f"{root}watch/{video}"
    page.get_by_role("button", name="Done").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download WebM").click()
    assert download.value.suggested_filename == "Big Buck Bunny.webm"
    page.get_by_role("link", name="vodbucket").click()
    page.get_by_role("heading", name="Your videos").wait_for()
    assert page.url == root
    with server.client() as client:
        client.delete(f"/api/videos/{uploaded}").raise_for_status()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("dialog").wait_for()
    assert context.cookies() == []
    visit.open(f"/embed/{video}")
    page.get_by_text("This video isn’t available here.").wait_for()
    visit.open("/nowhere")
    page.get_by_role("heading", name="Page not found").wait_for()

    paths = [url.path for url in map(urlsplit, addresses) if url.port == server.port]
    assert [path for path in paths if not path.startswith("/vod/")] == []
    played = {path.rpartition("/")[2] for path in paths if path.startswith("/vod/play/")}
    assert played >= {"master.m3u8", "manifest.mpd", "storyboard.vtt", "poster.jpg"}
    assert visit.script_errors == visit.foreign_requests == []


def test_changes_are_pushed_through_the_proxy(server: Product, video: str) -> None:
    """Though nginx collects answers until they are complete."""
    token = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    with (
        server.client() as client,
        client.stream("GET", f"/api/videos/{video}/events") as answer,
        connect(f"{server.url.replace('http', 'ws')}/api/ws", additional_headers=token) as socket,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "event: video"
        title = client.get(f"/api/videos/{video}").json()["title"]
        client.patch(f"/api/videos/{video}", json={"title": "Through the proxy"}).raise_for_status()
        assert next(line for line in lines if "Through the proxy" in line)
        while json.loads(socket.recv(timeout=30)).get("title") != "Through the proxy":
            pass
        client.patch(f"/api/videos/{video}", json={"title": title}).raise_for_status()


def test_the_command_line_uploads_below_the_path(below: dict[str, Product], tmp_path: Path) -> None:
    """Through nginx's limit of request bodies too."""
    server = below["removed"]
    film = film_like(tmp_path / "from the shell.mp4", 5 * MIB)
    done = subprocess.run(
        [sys.executable, "-m", "vodbucket", "upload", film],
        env={**server.environment, "VODBUCKET_URL": server.url},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    address = done.stdout.split()[-1]
    assert address.startswith(f"{server.url}/watch/")
    video_id = address.rpartition("/")[2]
    assert stored_sha256(server, video_id) == sha256(film)
    with server.client() as client:
        client.delete(f"/api/videos/{video_id}").raise_for_status()
