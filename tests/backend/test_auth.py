"""Authentication on every route."""

import json

import httpx
import pytest
from litestar import Litestar
from litestar._parsers import parse_cookie_string
from litestar.routes import HTTPRoute

from backend.core.access.signing_keys import SigningKeys
from backend.core.errors import StoreUnavailable
from backend.core.ids import new_id
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.web.attempts import BY_ADDRESS
from backend.web.auth import COOKIE
from tests.backend.conftest import BEARER, TOKEN, Clock, add_published, api_process, upload
from tests.backend.raw_http import serving
from tests.lab.asgi import client_of

PUBLIC_ROUTES = {
    "/",
    "/{path}",
    "/api/oidc",
    "/api/oidc/callback",
    "/api/oidc/sign-in",
    "/api/oidc/sign-out",
    "/api/session",
    "/api/videos/{video_id}/events",
    "/api/videos/{video_id}/playback",
    "/embed",
    "/embed/{name}",
    "/health",
    "/healthz",
    "/hls/{video_id}/{asset}",
    "/images/{image_id}",
    "/oembed",
    "/play/{grant}/{path}",
    "/readyz",
    "/schema",
    "/schema/openapi.json",
    "/schema/{path}",
    "/videos/{video_id}",
    "/videos/{video_id}/dash/{asset}",
    "/videos/{video_id}/download",
    "/videos/{video_id}/hls/{asset}",
    "/videos/{video_id}/media/{asset}",
    "/videos/{video_id}/poster.jpg",
    "/watch",
    "/watch/{name}",
}


# It says which methods exist, and is the same for everybody.
PUBLIC_METHOD = "OPTIONS"


def _routes(app: Litestar) -> list[tuple[str, str]]:
    return [
        (method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
    ]


async def test_all_routes_except_public_ones_require_a_token(
    app: Litestar, anyone: httpx.AsyncClient
) -> None:
    guarded = [
        (method, path)
        for method, path in _routes(app)
        if path not in PUBLIC_ROUTES and method != PUBLIC_METHOD
    ]
    assert len(guarded) > 8
    for method, path in guarded:
        answer = await anyone.request(method, path.replace("{video_id}", "x"))
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("actual", ["OPTIONS", "HEAD", "GET", "POST"])
async def test_guard_checks_the_overriding_method(anyone: httpx.AsyncClient, actual: str) -> None:
    url, override = "/api/uploads/x", {"x-http-method-override": "DELETE"}
    assert (await anyone.request(actual, url, headers=override)).status_code == 401
    foreign = {**await _signed_in(anyone), **override, "origin": "https://evil.example"}
    assert (await anyone.request(actual, url, headers=foreign)).status_code == 403


async def test_private_and_unknown_videos_get_the_same_401(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    private = await upload(admin)
    unknown = private[:-4] + "0000"
    for video in (private, unknown):
        for path in (f"/api/videos/{video}/playback", f"/videos/{video}", f"/videos/{video}/hls/master.m3u8"):
            assert (await anyone.get(path)).status_code == 401


@pytest.mark.parametrize(
    "authorization", ["Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x", "Bearer \xe9"]
)
async def test_rejects_wrong_authorization(anyone: httpx.AsyncClient, authorization: str) -> None:
    headers = {"authorization": authorization.encode("latin-1")}
    answer = await anyone.get("/api/videos", headers=headers)
    assert answer.status_code == 401


async def _signed_in(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.post("/api/session", json={"token": TOKEN})
    assert answer.status_code == 204
    return {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


async def test_session_cookie_is_closed_to_scripts_and_other_sites(
    anyone: httpx.AsyncClient,
) -> None:
    answer = await anyone.post("/api/session", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert TOKEN not in cookie


async def test_session_cookie_is_secure_on_https(app: Litestar) -> None:
    async with client_of(app, "https://vod.example") as client:
        answer = await client.post("/api/session", json={"token": TOKEN})
    assert "Secure" in answer.headers["set-cookie"]


async def test_wrong_token_does_not_sign_in(anyone: httpx.AsyncClient) -> None:
    for wrong in ("wrong", "", TOKEN + "x", TOKEN[:-1], "\x00", "\udc80", "\ud800", "é" * 9999):
        answer = await anyone.post("/api/session", content=json.dumps({"token": wrong}))
        assert answer.status_code in (400, 401)
        assert "set-cookie" not in answer.headers


async def test_session_is_valid_until_it_expires(anyone: httpx.AsyncClient, clock: Clock) -> None:
    cookie = await _signed_in(anyone)
    assert (await anyone.get("/api/session", headers=cookie)).status_code == 200
    assert (await anyone.get("/api/videos", headers=cookie)).status_code == 200
    clock.unix += 2_592_001
    anyone.cookies.clear()
    assert (await anyone.get("/api/videos", headers=cookie)).status_code == 401


async def test_other_cookies_are_neither_parsed_nor_kept(anyone: httpx.AsyncClient) -> None:
    ours = (await _signed_in(anyone))["cookie"]
    anyone.cookies.clear()
    kept = parse_cookie_string.cache_info().currsize
    # a server at the root of the same site has the same cookie, and browsers send it last
    sent = f'a; =b; "c={COOKIE}=no; {ours}; {COOKIE}=of-another-server'
    assert (await anyone.get("/api/session", headers={"cookie": sent})).status_code == 200
    assert (await anyone.get("/api/session", headers={"cookie": f"x{ours}"})).status_code == 401
    assert parse_cookie_string.cache_info().currsize == kept


async def test_a_browser_signs_in_whatever_port_it_names(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.post("/api/session", json={"token": TOKEN}, headers={"host": "a:99999"})
    assert answer.status_code == 204


async def test_guesses_are_limited_however_they_are_made(app: Litestar, clock: Clock) -> None:
    async with client_of(app, "http://vod.example", address="198.51.100.1") as guesser:
        statuses = []
        for number in range(30):
            wrong = f"wrong-{number}"
            if number % 3 == 0:
                answer = await guesser.post("/api/session", json={"token": wrong})
            else:
                path = ("/api/videos", f"/api/videos/{new_id()}/playback")[number % 3 - 1]
                answer = await guesser.get(path, headers={"authorization": f"Bearer {wrong}"})
            statuses.append(answer.status_code)
        assert statuses == [401] * BY_ADDRESS.burst + [429] * (30 - BY_ADDRESS.burst)
        assert answer.json()["code"] == "too_many_attempts"
        assert 0 < int(answer.headers["retry-after"]) <= BY_ADDRESS.seconds
        right = await guesser.post("/api/session", json={"token": TOKEN})
        assert right.status_code == 429  # or the limit would not slow guesses down

    async with client_of(app, "http://vod.example", address="192.0.2.1") as owner:
        assert (await owner.post("/api/session", json={"token": TOKEN})).status_code == 204


async def test_address_behind_a_proxy_is_the_one_that_the_proxy_saw(app: Litestar) -> None:
    async with serving(app) as server:
        connection = await server.connect()

        async def guess(forwarded_for: str) -> int:
            headers = (f"X-Forwarded-For: {forwarded_for}", "Authorization: Bearer wrong")
            await connection.send_head("GET /api/videos", *headers)
            return (await connection.answer())[0]

        made_up = [f"203.0.113.{number}, 198.51.100.1" for number in range(BY_ADDRESS.burst + 1)]
        assert [await guess(one) for one in made_up] == [401] * BY_ADDRESS.burst + [429]
        assert await guess("198.51.100.2") == 401
        connection.disconnect()


async def test_guesses_do_not_disturb_sessions_and_guests(
    app: Litestar, admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets)
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    cookie = await _signed_in(anyone)
    anyone.cookies.clear()
    for _ in range(BY_ADDRESS.burst + 1):
        answer = await anyone.get("/api/videos", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 429

    assert (await anyone.get("/api/videos", headers=cookie)).status_code == 200
    assert (await anyone.get(f"/api/videos/{video}/playback")).status_code == 200


async def test_other_schemes_and_unknown_cookies_are_not_guesses(anyone: httpx.AsyncClient) -> None:
    for _ in range(BY_ADDRESS.burst + 1):
        for headers in ({"authorization": "Basic eDp5"}, {"cookie": f"{COOKIE}=expired"}, {}):
            assert (await anyone.get("/api/videos", headers=headers)).status_code == 401
    assert (await anyone.post("/api/session", json={"token": TOKEN})).status_code == 204


async def test_sign_out_removes_the_cookie(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.delete("/api/session")
    assert answer.status_code == 204
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 201),
        ("http://vod.example", 201),
        ("https://friend.example", 201),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
async def test_session_allows_changes_only_from_own_and_allowed_origins(
    anyone: httpx.AsyncClient, origin: str | None, status: int
) -> None:
    headers = await _signed_in(anyone)
    if origin is not None:
        headers["origin"] = origin
    answer = await anyone.post("/api/videos", content=b"x", headers=headers)
    assert answer.status_code == status
    assert status == 201 or answer.json()["code"] == "foreign_origin"


async def test_cors_allows_only_listed_origins(anyone: httpx.AsyncClient) -> None:
    preflight = {"access-control-request-method": "POST"}
    friend = await anyone.options("/api/videos", headers={"origin": "https://friend.example", **preflight})
    stranger = await anyone.options("/api/videos", headers={"origin": "https://evil.example", **preflight})
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    assert friend.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in stranger.headers


async def test_the_admin_token_counts_before_there_is_a_signing_key(
    settings: ApiSettings, buckets: Buckets, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: SigningKeys) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(SigningKeys, "reload", fail)
    async with (
        api_process(settings, buckets, clock) as app,
        client_of(app, "http://vod.example", BEARER) as client,
    ):
        await upload(client)
        assert (await client.post("/api/session", json={"token": TOKEN})).status_code == 503
