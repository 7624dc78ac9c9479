"""All errors have the same response body."""

import json
import re
from pathlib import Path

import httpx
import pytest
import structlog

from backend.core import keys
from backend.core.errors import StoreUnavailable
from backend.core.store.interface import LIST_PAGE, Buckets, Listing
from backend.openapi import describe
from tests.backend.conftest import BEARER, MAX_UPLOAD_BYTES, upload
from tests.lab.memory_store import MemoryStore


def _assert_error(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"error", "code"}
    assert body["code"] == code
    assert body["error"]
    return str(body["error"])


async def test_routing(admin: httpx.AsyncClient) -> None:
    _assert_error(await admin.get("/api/nothing"), 404, "not_found")
    answer = await admin.put("/api/videos")
    _assert_error(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


async def test_authentication(anyone: httpx.AsyncClient) -> None:
    _assert_error(await anyone.get("/api/videos"), 401, "unauthorized")
    _assert_error(await anyone.get("/play/forged/hls/master.m3u8"), 403, "grant_rejected")


async def test_validation_errors_name_the_field(admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    bad = [
        await admin.get("/api/videos", params={"limit": 0}),
        await admin.get("/api/videos", params={"limit": "many"}),
        await admin.patch(f"/api/videos/{video}", json={"visibility": "secret"}),
        await admin.patch(f"/api/videos/{video}", json={"owner": "me"}),
        await admin.patch(f"/api/videos/{video}", json={"title": "x" * 301}),
    ]
    named = ["limit", "limit", "visibility", "owner", "title"]
    for answer, field in zip(bad, named, strict=True):
        assert field in _assert_error(answer, 400, "invalid_request")


async def test_validation_errors_name_no_types_of_python(admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    path = f"/api/videos/{video}"
    for answer, sentence in (
        (await admin.patch(path), "The request needs a JSON body."),
        (await admin.patch(path, json=[]), "The JSON body must be an object."),
        (await admin.post("/api/videos?crf=99", content=b"x"), "crf: must be <= 63"),
        (await admin.get("/api/videos?limit=0"), "limit: must be >= 1"),
    ):
        assert _assert_error(answer, 400, "invalid_request") == sentence


async def test_malformed_bodies(admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    broken = await admin.patch(
        f"/api/videos/{video}", content=b"{", headers={"content-type": "application/json"}
    )
    _assert_error(broken, 400, "bad_request")
    large = await admin.patch(f"/api/videos/{video}", json={"title": "x" * 70_000})
    _assert_error(large, 413, "body_too_large")


async def test_domain_errors(admin: httpx.AsyncClient) -> None:
    unknown = "01a1fc1e-4080-7de7-b002-86fdab5d11a8"
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/status"),
        ("GET", "/playback"),
    ):
        answer = await admin.request(
            method, f"/api/videos/{unknown}{path}", json={} if method == "PATCH" else None
        )
        _assert_error(answer, 404, "video_not_found")
    _assert_error(await admin.get("/api/videos/Not_An_Id!"), 400, "invalid_id")
    _assert_error(await admin.get("/api/videos?cursor=x"), 400, "invalid_id")
    video = await upload(admin)
    _assert_error(await admin.get(f"/api/videos/{video}/playback"), 409, "not_ready")


async def test_uploads(admin: httpx.AsyncClient) -> None:
    _assert_error(await admin.post("/api/videos"), 400, "empty_upload")
    large = await admin.post("/api/videos", content=b"x" * (MAX_UPLOAD_BYTES + 1))
    _assert_error(large, 413, "upload_too_large")
    _assert_error(await admin.post("/api/upload", content=b"x"), 400, "bad_request")
    _assert_error(await admin.post("/api/upload", files={"other": b"x"}), 400, "missing_file")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/videos"),
        ("POST", "/api/upload"),
        ("POST", "/api/uploads"),
        ("HEAD", "/api/uploads/{upload_id}"),
        ("PATCH", "/api/uploads/{upload_id}"),
        ("DELETE", "/api/uploads/{upload_id}"),
    ],
)
def test_docs_list_the_same_upload_errors_as_openapi(method: str, path: str) -> None:
    documentation = (Path(__file__).resolve().parents[2] / "docs/api.md").read_text()
    section = documentation.partition(f"### `{method} {path}`\n")[2].partition("\n### ")[0]
    responses = json.loads(describe())["paths"][path][method.lower()]["responses"]
    of_any_route = {"400", "401", "412", "429", "503"}
    refusals = {status for status in responses if status >= "400"}
    assert set(re.findall(r"\b[45]\d\d\b", section)) - of_any_route == refusals - of_any_route


class _Broken(MemoryStore):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        if prefix == keys.SIGNING_KEYS and isinstance(self._error, KeyError):
            return await super().list_page(prefix)  # the server would not start
        raise self._error


class TestWithAStoreThatIsDown:
    @pytest.fixture
    def buckets(self) -> Buckets:
        return Buckets(raw=MemoryStore(), video=_Broken(StoreUnavailable("the store at 10.0.0.1 is silent")))

    async def test_responds_503_with_retry_after(self, anyone: httpx.AsyncClient) -> None:
        for path in ("/readyz", "/api/videos"):
            answer = await anyone.get(path, headers=BEARER)
            _assert_error(answer, 503, "store_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert (await anyone.get("/healthz")).text == "ok"


class TestWithADefect:
    @pytest.fixture
    def buckets(self) -> Buckets:
        return Buckets(raw=MemoryStore(), video=_Broken(KeyError("a secret detail")))

    async def test_crash_response_contains_only_the_log_id(self, admin: httpx.AsyncClient) -> None:
        with structlog.testing.capture_logs() as logs:
            sentence = _assert_error(await admin.get("/api/videos"), 500, "internal_error")
        assert "secret detail" not in sentence
        crash = next(event for event in logs if event["event"] == "crash")
        assert crash["crash"] in sentence
