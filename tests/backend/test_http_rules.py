"""What holds for every route: HEAD, OPTIONS, 405, Host, cross-site requests, readiness."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from litestar import Litestar
from structlog.testing import capture_logs

from backend.core.settings import ApiSettings
from backend.core.store.interface import LIST_PAGE, Buckets, Listing
from backend.web import readiness
from backend.web.access_log import AccessLog
from backend.web.auth import COOKIE
from tests.backend.conftest import TOKEN, add_published, links_of, upload
from tests.lab.asgi import client_of
from tests.lab.memory_store import MemoryStore


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/api/videos", "/schema/openapi.json", "/", "/login"]
)
async def test_head_is_get_without_the_body(admin: httpx.AsyncClient, path: str) -> None:
    whole, head = await admin.get(path), await admin.head(path)
    assert (whole.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers == whole.headers


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/api/videos", "GET, HEAD, OPTIONS, POST"),
        ("/api/videos/x", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/api/videos/x/captions/en/", "DELETE, OPTIONS, POST"),
        ("/watch/x", "GET, HEAD, OPTIONS"),
    ],
)
async def test_anybody_may_ask_which_methods_exist(anyone: httpx.AsyncClient, path: str, allow: str) -> None:
    answer = await anyone.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allow, b"")
    refused = await anyone.request("TRACE", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "HEAD", "POST", "PUT", "TRACE"])
@pytest.mark.parametrize("path", ["/api/nothing", "/schema/swagger", "/metrics"])
async def test_unknown_paths_of_the_api_are_404(anyone: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await anyone.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert method == "HEAD" or answer.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 201), ("none", 201)]
)
async def test_a_write_without_origin_must_not_come_from_another_site(
    anyone: httpx.AsyncClient, site: str, status: int
) -> None:
    await anyone.post("/api/session", json={"token": TOKEN})
    assert COOKIE in anyone.cookies
    answer = await anyone.post("/api/videos", content=b"x", headers={"sec-fetch-site": site})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "asked", ["x-request-id", "x-requested-with,baggage,sentry-trace,traceparent,tracestate", "x-any-thing"]
)
async def test_listed_origins_may_send_the_headers_of_trackers(anyone: httpx.AsyncClient, asked: str) -> None:
    preflight = {"access-control-request-method": "PATCH", "access-control-request-headers": asked}
    friend = await anyone.options("/api/videos/x", headers={"origin": "https://friend.example", **preflight})
    assert friend.status_code == 204
    allowed = friend.headers["access-control-allow-headers"].split(", ")
    assert set(asked.split(",")) <= set(allowed)
    stranger = await anyone.options("/api/videos/x", headers={"origin": "https://evil.example", **preflight})
    assert (stranger.status_code, stranger.json()["code"]) == (403, "foreign_origin")


class Counting(MemoryStore):
    lists = 0

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        self.lists += 1
        await asyncio.sleep(0)
        return await super().list_page(prefix, start_after=start_after, limit=limit)


class TestReadiness:
    @pytest.fixture
    def buckets(self) -> Buckets:
        return Buckets(raw=Counting(), video=Counting())

    async def test_many_questions_cost_one_look(
        self, anyone: httpx.AsyncClient, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = await asyncio.gather(*(anyone.get("/readyz") for _ in range(50)))
        assert {answer.text for answer in answers} == {"ok"}
        await anyone.get("/readyz")
        assert isinstance(buckets.raw, Counting)
        assert buckets.raw.lists == 1
        monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
        await anyone.get("/readyz")
        assert buckets.raw.lists == 2


class TestBelowARootPath:
    """A proxy offers us at /vod, and may or may not remove that from the path."""

    @pytest.fixture
    def settings(self, settings: ApiSettings) -> ApiSettings:
        return settings.model_copy(update={"root_path": "/vod"})

    @pytest.fixture(params=["/vod", ""])
    async def admin(self, app: Litestar, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
        base = f"http://vod.example{request.param}"
        async with client_of(app, base, {"authorization": f"Bearer {TOKEN}"}) as client:
            yield client

    async def test_links_begin_with_it(self, admin: httpx.AsyncClient) -> None:
        created = await admin.post("/api/videos", content=b"x")
        body = created.json()
        video_id = body.pop("id")
        assert all(url.startswith("/vod/") for url in body.values())
        assert created.headers["location"] == f"/vod/api/videos/{video_id}"
        assert (await admin.get(f"http://vod.example{body['status_url']}")).status_code == 200

    async def test_the_description_names_it(self, admin: httpx.AsyncClient) -> None:
        assert (await admin.get("/schema/openapi.json")).json()["servers"] == [{"url": "/vod"}]

    async def test_resumable_uploads_work_below_it(self, admin: httpx.AsyncClient) -> None:
        tus = {"tus-resumable": "1.0.0"}
        created = await admin.post("/api/uploads", headers={**tus, "upload-length": "5"})
        location = created.headers["location"]
        assert location.startswith("/vod/api/uploads/")
        body = {**tus, "content-type": "application/offset+octet-stream", "upload-offset": "0"}
        sent = await admin.patch(f"http://vod.example{location}", headers=body, content=b"12345")
        assert (sent.status_code, sent.headers["tus-resumable"]) == (204, "1.0.0")
        assert "video-id" in sent.headers

    async def test_the_cookie_is_for_it_alone(self, admin: httpx.AsyncClient) -> None:
        answer = await admin.post("/api/session", json={"token": TOKEN})
        assert "Path=/vod;" in answer.headers["set-cookie"]

    async def test_the_page_finds_its_files_by_its_base(
        self, admin: httpx.AsyncClient, site_dir: Path
    ) -> None:
        assert '<head><base href="/vod/">' in (await admin.get("/watch/x")).text
        site_dir.mkdir()
        (site_dir / "index.html").write_text('<html><head><script src="./a.js"></script></head></html>')
        answer = await admin.get("/watch/x")
        assert '<head><base href="/vod/"><script src="./a.js">' in answer.text
        assert "base-uri 'self'" in answer.headers["content-security-policy"]

    @pytest.mark.parametrize("base", ["/vod", ""])
    async def test_only_failures_of_players_are_logged(
        self, app: Litestar, buckets: Buckets, base: str
    ) -> None:
        transport = httpx.ASGITransport(AccessLog(app))
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            transport=transport, base_url=f"http://vod.example{base}", headers=headers
        ) as admin:
            video_id = await add_published(admin, buckets)
            links = await links_of(admin, video_id)
            path = links["hls"].removeprefix("/vod")
            with capture_logs() as lines:
                assert (await admin.get(path, follow_redirects=True)).status_code == 200
                assert (await admin.get("/play/forged/hls/master.m3u8")).status_code == 403
        assert [line["status"] for line in lines if line["event"] == "request"] == [403]

    async def test_other_paths_that_contain_it_stay_as_they_are(self, admin: httpx.AsyncClient) -> None:
        video_id = await upload(admin)
        assert (await admin.get(f"/api/videos/{video_id}/vod/status")).status_code == 404
        assert (await admin.get("http://vod.example/vodka/api/videos")).status_code == 200  # a page
