"""Upload links: a guest uploads for the owner, within the link's bounds, and can do nothing else."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from backend.core import keys
from backend.core.access.people import People, Role
from backend.core.access.upload_links import FINISH_SECONDS
from backend.core.store.interface import Buckets
from backend.routes import guests
from backend.web.access_log import loggable_path
from backend.web.attempts import BY_ADDRESS
from tests.backend.conftest import MAX_UPLOAD_BYTES, Clock, stored_keys, upload
from tests.backend.test_tus_protocol import BYTES, DATA, UPLOADS, V, create, offset_of, patch
from tests.lab.asgi import client_of

URL = "http://vod.example"
REJECTED = (403, "upload_link_rejected")


async def _made(client: httpx.AsyncClient, **wish: object) -> dict[str, object]:
    answer = await client.post("/api/upload-links", json={"title": "Wedding", **wish})
    assert answer.status_code == 201, answer.text
    made: dict[str, object] = answer.json()
    return made


@asynccontextmanager
async def _guest(
    app: Litestar, made: dict[str, object], address: str = "127.0.0.1"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials that adds the link to every address that has no query."""
    async with client_of(app, URL, address=address) as client:
        client.params = httpx.QueryParams({"upload_link": made["upload_link"]})
        yield client


def _problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def _only_video(admin: httpx.AsyncClient) -> dict[str, object]:
    (video,) = (await admin.get("/api/videos")).json()["videos"]
    found: dict[str, object] = video
    return found


def _encoded(**said: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in said.items())


async def test_a_link_is_made_listed_and_withdrawn(admin: httpx.AsyncClient, app: Litestar) -> None:
    made = await _made(admin, max_uploads=2, description="For\nus")
    assert made["url"] == f"/upload/{made['upload_link']}"
    assert made["max_bytes"] == MAX_UPLOAD_BYTES
    (listed,) = (await admin.get("/api/upload-links")).json()["upload_links"]
    assert listed == {name: value for name, value in made.items() if name not in {"upload_link", "url"}}
    assert (listed["uploads_left"], listed["is_open"]) == (2, True)

    async with _guest(app, made) as guest:
        seen = (await guest.get("/api/upload-link")).json()
        assert set(seen) == {"title", "description", "expires_at", "max_bytes", "uploads_left", "is_open"}
        assert (await admin.delete(f"/api/upload-links/{made['id']}")).status_code == 204
        assert _problem(await guest.get("/api/upload-link")) == REJECTED
        assert _problem(await guest.post("/api/videos", content=DATA)) == REJECTED
    assert (await admin.get("/api/upload-links")).json() == {"upload_links": []}
    again = await admin.delete(f"/api/upload-links/{made['id']}")
    assert _problem(again) == (404, "upload_link_not_found")


@pytest.mark.parametrize(
    "wish",
    [
        {"title": " \u200b"},
        {"max_uploads": 0},
        {"max_uploads": 101},
        {"max_uploads": True},
        {"max_bytes": 0},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00Z"},
        {"expires_at": "2027-01-16T00:00:00"},
        {"owner": "someone"},
    ],
)
async def test_a_link_without_bounds_is_refused(admin: httpx.AsyncClient, wish: dict[str, object]) -> None:
    answer = await admin.post("/api/upload-links", json={"title": "x", **wish})
    assert _problem(answer) == (400, "invalid_request")


async def test_the_bucket_has_nothing_that_opens_a_link(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    made = await _made(admin)
    token = str(made["upload_link"]).encode()
    for key in await stored_keys(buckets):
        if key.startswith(keys.UPLOAD_LINKS):
            assert token not in key.encode() + (await buckets.video.get(key)).body


@pytest.mark.parametrize("way", ["raw", "form", "tus", "tus at once"])
async def test_a_guest_uploads_for_the_owner_with_a_title_and_a_note(
    app: Litestar, admin: httpx.AsyncClient, buckets: Buckets, clock: Clock, way: str
) -> None:
    anna = await People(buckets.video, clock).add("Anna", Role.UPLOADER)
    token = await People(buckets.video, clock).issue_token(anna.id)
    async with client_of(app, URL, {"authorization": f"Bearer {token}"}) as owner:
        made = await _made(owner)
        said = {"title": "The dance", "note": "Hi Anna,\nthis is Ben\x00"}
        async with _guest(app, made) as guest:
            if way == "raw":
                answer = await guest.post("/api/videos", content=DATA, params={**guest.params, **said})
            elif way == "form":
                answer = await guest.post("/api/upload", files={"file": ("a.mp4", DATA)}, data=said)
            elif way == "tus":
                url = await create(guest, upload_metadata=_encoded(**said, filename="a.mp4"))
                answer = await patch(guest, url, 0, DATA)
            else:
                headers = {**BYTES, "upload-length": str(len(DATA)), "upload-metadata": _encoded(**said)}
                answer = await guest.post(UPLOADS, headers=headers, content=DATA)
            assert answer.is_success, answer.text
            assert (await guest.get("/api/upload-link")).json()["uploads_left"] == 0
        video = await _only_video(owner)
    assert (video["title"], video["owner"], video["visibility"]) == ("The dance", anna.id, "private")
    assert video["guest"] == {"link": made["id"], "note": "Hi Anna,\nthis is Ben"}
    (created,) = (await admin.get("/api/events?after=0")).json()["events"]
    assert (created["type"], created["data"]["guest"]) == ("video.created", video["guest"])


async def test_only_who_manages_a_video_reads_the_guests_note(
    app: Litestar, admin: httpx.AsyncClient, buckets: Buckets, clock: Clock
) -> None:
    async with _guest(app, await _made(admin)) as guest:
        video_id = await upload(guest, DATA)
    await admin.patch(f"/api/videos/{video_id}", json={"visibility": "internal"})
    viewer = await People(buckets.video, clock).add("Vera", Role.VIEWER)
    token = await People(buckets.video, clock).issue_token(viewer.id)
    async with client_of(app, URL, {"authorization": f"Bearer {token}"}) as client:
        assert (await _only_video(client))["guest"] is None
        assert (await client.get(f"/api/videos/{video_id}")).json()["guest"] is None
    assert (await admin.get(f"/api/videos/{video_id}")).json()["guest"]["note"] == ""


async def test_a_guest_sees_nothing_else(app: Litestar, admin: httpx.AsyncClient) -> None:
    made = await _made(admin, max_uploads=5)
    video_id = await upload(admin, DATA)
    foreign = (await create(admin)).rpartition("/")[2]
    async with _guest(app, made) as guest:
        allowed = {
            (method, route.path_format) for route, method in _routes(app) if _is_for_guests(route, method)
        }
        assert allowed == {
            ("POST", "/api/videos"),
            ("POST", "/api/upload"),
            ("POST", "/upload/multipart"),
            ("POST", "/api/uploads"),
            ("HEAD", "/api/uploads/{upload_id}"),
            ("PATCH", "/api/uploads/{upload_id}"),
            ("DELETE", "/api/uploads/{upload_id}"),
            ("GET", "/api/upload-link"),
            ("GET", "/api/resumptions/{fingerprint}"),
            ("PUT", "/api/resumptions/{fingerprint}"),
            ("DELETE", "/api/resumptions/{fingerprint}"),
        }
        assert (await guest.get(f"/api/videos/{video_id}")).status_code == 401
        for method in ("HEAD", "PATCH", "DELETE"):
            for other in (foreign, video_id):
                headers = {**BYTES, "upload-offset": "0"}
                answer = await guest.request(method, f"{UPLOADS}/{other}", headers=headers)
                assert answer.status_code == 404, (method, other)
        answer = await guest.post(UPLOADS, headers={**V, "upload-length": "5", "upload-concat": "partial"})
        assert _problem(answer) == (400, "bad_request")
    assert await offset_of(admin, f"{UPLOADS}/{foreign}") == 0


def _routes(app: Litestar) -> list[tuple[HTTPRoute, str]]:
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    return [(route, method) for route in routes for method in route.methods]


def _is_for_guests(route: HTTPRoute, method: str) -> bool:
    handler, _ = route.route_handler_map[method]  # type: ignore[index]  # methods are literals
    return bool(handler.opt.get("guests"))


async def test_one_guest_cannot_touch_what_another_sends(app: Litestar, admin: httpx.AsyncClient) -> None:
    one, other = await _made(admin), await _made(admin)
    async with _guest(app, one) as first, _guest(app, other) as second:
        url = await create(first)
        assert f"upload_link={one['upload_link']}" in url
        theirs = url.partition("?")[0]
        assert (await second.head(theirs, headers=V)).status_code == 404
        assert (await second.delete(theirs, headers=V)).status_code == 404
        key = "ab" * 32
        await first.put(f"/api/resumptions/{key}", json={"upload_url": theirs})
        assert (await second.get(f"/api/resumptions/{key}")).status_code == 404
        assert (await admin.get(f"/api/resumptions/{key}")).status_code == 404
        assert (await first.get(f"/api/resumptions/{key}")).json()["upload_url"] == theirs


async def test_location_is_all_that_a_client_needs(
    app: Litestar, admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    async with _guest(app, await _made(admin)) as guest:
        url = await create(guest)
    assert (await patch(anyone, url, 0, DATA[:100])).status_code == 204
    assert await offset_of(anyone, url) == 100
    assert (await patch(anyone, url, 100, DATA[100:])).headers["video-id"] == (await _only_video(admin))["id"]


@pytest.mark.parametrize("way", ["raw", "chunked", "form", "tus", "deferred", "tus at once"])
async def test_what_is_larger_than_the_link_allows_is_refused_and_uses_nothing_up(
    app: Litestar, admin: httpx.AsyncClient, way: str
) -> None:
    made = await _made(admin, max_bytes=len(DATA) - 1)

    async def chunks() -> AsyncIterator[bytes]:
        yield DATA

    async with _guest(app, made) as guest:
        if way == "raw":
            answer = await guest.post("/api/videos", content=DATA)
        elif way == "chunked":
            answer = await guest.post("/api/videos", content=chunks())
        elif way == "form":
            answer = await guest.post("/api/upload", files={"file": ("a.mp4", DATA)})
        elif way == "tus":
            answer = await guest.post(UPLOADS, headers={**V, "upload-length": str(len(DATA))})
        elif way == "deferred":
            url = await create(guest, None)
            answer = await patch(guest, url, 0, DATA)
            assert (await guest.delete(url, headers=V)).status_code == 204
        else:
            headers = {**BYTES, "upload-defer-length": "1"}
            answer = await guest.post(UPLOADS, headers=headers, content=DATA)
        assert _problem(answer) == (413, "upload_too_large")
        assert (await guest.get("/api/upload-link")).json()["uploads_left"] == 1
        await upload(guest, DATA[:-1])


@pytest.mark.parametrize("way", ["raw", "form", "tus", "tus at once"])
async def test_what_is_not_a_video_uses_nothing_up(app: Litestar, admin: httpx.AsyncClient, way: str) -> None:
    text = b"<html>" * 100
    async with _guest(app, await _made(admin)) as guest:
        if way == "raw":
            answer = await guest.post("/api/videos", content=text)
        elif way == "form":
            answer = await guest.post("/api/upload", files={"file": ("a.mp4", text)})
        elif way == "tus":
            answer = await patch(guest, await create(guest, len(text)), 0, text)
        else:
            answer = await guest.post(UPLOADS, headers={**BYTES, "upload-length": "600"}, content=text)
        assert _problem(answer) == (415, "unsupported_type")
        assert (await guest.get("/api/upload-link")).json()["uploads_left"] == 1
        await upload(guest, DATA)


async def test_a_link_is_used_as_often_as_it_says(app: Litestar, admin: httpx.AsyncClient) -> None:
    async with _guest(app, await _made(admin, max_uploads=3)) as guest:
        answers = await asyncio.gather(
            *(guest.post("/api/videos", content=DATA) for _ in range(3)),
            *(guest.post(UPLOADS, headers={**V, "upload-length": "9"}) for _ in range(3)),
        )
        refused = [answer for answer in answers if answer.status_code != 201]
        assert [_problem(answer) for answer in refused] == [(403, "upload_link_used_up")] * 3
        assert (await guest.get("/api/upload-link")).json()["uploads_left"] == 0


async def test_an_upload_that_has_begun_may_finish_within_a_day(
    app: Litestar, admin: httpx.AsyncClient, clock: Clock
) -> None:
    made = await _made(admin, max_uploads=5)
    clock.unix += 7 * 86_400 - 1
    async with _guest(app, made) as guest:
        url, late = await create(guest), await create(guest)
        clock.unix += 1
        assert (await guest.get("/api/upload-link")).json()["is_open"] is False
        assert _problem(await guest.post(UPLOADS, headers={**V, "upload-length": "5"})) == REJECTED
        assert _problem(await guest.post("/api/videos", content=DATA)) == REJECTED
        clock.unix += FINISH_SECONDS - 2
        assert (await patch(guest, url, 0, DATA)).status_code == 204
        clock.unix += 1
        assert (await patch(guest, late, 0, DATA)).status_code == 410
        clock.unix += 1
        assert _problem(await patch(guest, late, 0, DATA)) == REJECTED
    (listed,) = (await admin.get("/api/upload-links")).json()["upload_links"]
    assert (listed["uploads_left"], listed["is_open"]) == (3, False)


@pytest.mark.parametrize("way", ["raw", "tus"])
async def test_a_link_that_is_withdrawn_ends_what_is_being_sent(
    app: Litestar, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(guests, "CHECK_SECONDS", 0.01)
    made = await _made(admin)

    async def endless() -> AsyncIterator[bytes]:
        yield DATA
        assert (await admin.delete(f"/api/upload-links/{made['id']}")).status_code == 204
        await asyncio.Event().wait()

    async with _guest(app, made) as guest:
        if way == "raw":
            answer = await guest.post("/api/videos", content=endless())
        else:
            url = await create(guest, 2 * len(DATA))
            headers = {**BYTES, "upload-offset": "0"}
            answer = await guest.patch(url, headers=headers, content=endless())
        assert _problem(answer) == REJECTED
    assert (await admin.get("/api/videos")).json()["videos"] == []


async def test_a_link_ends_with_its_owner(
    app: Litestar, admin: httpx.AsyncClient, buckets: Buckets, clock: Clock
) -> None:
    people = People(buckets.video, clock)
    anna = await people.add("Anna", Role.UPLOADER)
    bearer = {"authorization": f"Bearer {await people.issue_token(anna.id)}"}
    async with client_of(app, URL, bearer) as owner:
        made = await _made(owner)
        ben = await people.add("Ben", Role.UPLOADER)
        others = {"authorization": f"Bearer {await people.issue_token(ben.id)}"}
        async with client_of(app, URL, others) as other:
            assert (await other.get("/api/upload-links")).json() == {"upload_links": []}
            assert (await other.delete(f"/api/upload-links/{made['id']}")).status_code == 404
        assert len((await admin.get("/api/upload-links")).json()["upload_links"]) == 1
    async with _guest(app, made) as guest:
        assert (await guest.get("/api/upload-link")).status_code == 200
        await people.revoke(anna.id)
        clock.unix += 11
        assert _problem(await guest.post("/api/videos", content=DATA)) == REJECTED


async def test_guesses_of_links_are_limited_and_lock_nobody_out(
    app: Litestar, admin: httpx.AsyncClient
) -> None:
    wrong: dict[str, object] = {"upload_link": "A" * 22}
    async with _guest(app, wrong, "198.51.100.1") as guest:
        answers = [_problem(await guest.get("/api/upload-link")) for _ in range(BY_ADDRESS.burst + 1)]
    assert answers == [REJECTED] * BY_ADDRESS.burst + [(429, "too_many_attempts")]
    async with client_of(app, URL, dict(admin.headers), address="198.51.100.1") as owner:
        assert (await owner.get("/api/videos")).status_code == 200
    async with _guest(app, await _made(admin), "192.0.2.1") as guest:
        assert (await guest.get("/api/upload-link")).status_code == 200


async def test_a_guest_does_not_choose_how_videos_are_encoded_and_kept(
    app: Litestar, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    async with _guest(app, await _made(admin)) as guest:
        query = {**guest.params, "crf": "1", "rungs": "2160", "keep_original": "true"}
        answer = await guest.post("/api/videos", content=DATA, params=query)
    video = await _only_video(admin)
    assert video["original"] is None
    marker = await buckets.raw.get(keys.marker(answer.json()["id"]))
    assert b'"crf":null' in marker.body
    assert b'"rungs":null' in marker.body


async def test_the_page_of_a_link_is_served_and_its_address_not_logged(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    made = await _made(admin)
    assert (await anyone.get(str(made["url"]))).status_code == 200
    assert (await anyone.get("/upload/unknown")).status_code == 404
    assert (await anyone.get("/upload/multipart")).status_code == 405
    assert loggable_path(str(made["url"])) == "/upload/…"
    assert loggable_path("/upload/multipart") == "/upload/multipart"
