"""The built site, served by the API."""

from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from backend.web.static_files import Site


@pytest.fixture
def built(site_dir: Path) -> Path:
    (site_dir / "assets").mkdir(parents=True)
    (site_dir / "index.html").write_text("<!doctype html><title>site</title>")
    (site_dir / "assets/app-1a2b.js").write_text("let a = 1;\n" * 500)
    (site_dir.parent / "secret.txt").write_text("secret")
    return site_dir


@pytest.mark.usefixtures("built")
async def test_index_is_served_for_site_addresses(anyone: httpx.AsyncClient) -> None:
    for path in ("/", "/login", "/library"):
        answer = await anyone.get(path)
        assert answer.status_code == 200
        assert "<title>site" in answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert (await anyone.get(path, headers={"if-none-match": answer.headers["etag"]})).status_code == 304
        assert (await anyone.head(path)).headers["content-length"] == str(len(answer.content))


@pytest.mark.usefixtures("built")
async def test_odd_paths_do_not_affect_other_requests(app: Litestar) -> None:
    site: Site = app.state.services.site
    odd = [site.find("assets/../index.html"), site.find("index.html/.")]
    page = site.find("index.html")
    assert page is not None
    assert (page.cache_control, page.content_type) == ("no-cache", "text/html; charset=utf-8")
    assert all(one is None or one == page for one in odd)
    assert site.find("assets/../" * 30 + "index.html") is None


@pytest.mark.usefixtures("built")
async def test_hashed_assets_are_compressed_and_cached_forever(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/assets/app-1a2b.js", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.text == "let a = 1;\n" * 500


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "path",
    [
        "/assets/missing.js",
        "/favicon.ico",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/a%20.js",
    ],
)
async def test_missing_and_outside_files_are_404(anyone: httpx.AsyncClient, path: str) -> None:
    url = httpx.URL("http://vod.example/").copy_with(raw_path=path.encode())
    answer = await anyone.get(url)
    assert answer.status_code == 404
    assert "secret" not in answer.text


@pytest.mark.usefixtures("built")
async def test_unknown_api_addresses_are_404(anyone: httpx.AsyncClient) -> None:
    for path in ("/api/unknown", "/play/x", "/jobs/x/y", "/videos"):
        answer = await anyone.get(path)
        assert answer.status_code in (403, 404)
        assert set(answer.json()) == {"error", "code"}


async def test_missing_build_is_explained(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/")
    assert answer.status_code == 200
    assert "not built" in answer.text
