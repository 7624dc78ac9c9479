"""People through the API: added, changed and withdrawn by administrators, and where they are signed in."""

import httpx
import pytest

from backend.core.ids import new_id
from backend.core.store.interface import Buckets
from backend.web.auth import COOKIE
from tests.backend.conftest import TOKEN, Clock, links_of, publish

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def _add(
    admin: httpx.AsyncClient, role: str = "uploader", name: str = "Anna"
) -> tuple[str, dict[str, str]]:
    """Return a new person's id and the header with their token."""
    answer = await admin.post("/api/people", json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    added = answer.json()
    assert answer.headers["location"] == f"/api/people/{added['id']}"
    return added["id"], {"authorization": f"Bearer {added['token']}"}


async def _sign_in(client: httpx.AsyncClient, token: str, user_agent: str = FIREFOX) -> dict[str, str]:
    answer = await client.post("/api/session", json={"token": token}, headers={"user-agent": user_agent})
    client.cookies.clear()
    return {"cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


async def test_an_administrator_adds_changes_and_withdraws_people(admin: httpx.AsyncClient) -> None:
    anna, ben = (await _add(admin))[0], (await _add(admin, "viewer", " Ben\u200b "))[0]

    changed = await admin.patch(f"/api/people/{anna}", json={"role": "admin"})
    assert (changed.json()["name"], changed.json()["role"]) == ("Anna", "admin")
    assert (await admin.delete(f"/api/people/{ben}")).status_code == 204

    listed = (await admin.get("/api/people")).json()["people"]
    assert {(one["name"], one["role"], one["revoked"]) for one in listed} == {
        ("Anna", "admin", False),
        ("Ben", "viewer", True),
    }
    assert (await admin.get(f"/api/people/{ben}")).json()["revoked"] is True
    for answer in (
        await admin.patch(f"/api/people/{ben}", json={"role": "admin"}),
        await admin.post(f"/api/people/{ben}/token"),
        await admin.delete(f"/api/people/{ben}"),
        await admin.get(f"/api/people/{new_id()}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "person_not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"name": " ", "role": "viewer"},
        {"name": "Anna", "role": "owner"},
        {"name": "A" * 101, "role": "viewer"},
        {},
    ],
)
async def test_a_person_needs_a_name_and_a_role(admin: httpx.AsyncClient, body: dict[str, str]) -> None:
    assert (await admin.post("/api/people", json=body)).status_code == 400
    assert (await admin.get("/api/people")).json() == {"people": []}


async def test_who_may_no_longer_upload_keeps_watching_what_is_theirs(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    anna, bearer = await _add(admin)
    video = (await anyone.post("/api/videos", content=b"a video", headers=bearer)).json()["id"]
    await publish(buckets, video)
    await admin.patch(f"/api/people/{anna}", json={"role": "viewer"})

    assert await links_of(anyone, video, bearer)
    path = f"/api/videos/{video}"
    assert (await anyone.patch(path, json={"title": "x"}, headers=bearer)).status_code == 403
    assert (await anyone.post("/api/videos", content=b"a video", headers=bearer)).status_code == 403


async def test_a_withdrawn_person_is_signed_out_and_their_links_end(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    anna, bearer = await _add(admin)
    video = (await anyone.post("/api/videos", content=b"a video", headers=bearer)).json()["id"]
    await publish(buckets, video)
    session = await _sign_in(anyone, bearer["authorization"].removeprefix("Bearer "))
    links = [(await links_of(anyone, video, who))["hls"] for who in (bearer, session)]
    assert [(await anyone.get(link)).status_code for link in links] == [307, 307]

    await admin.delete(f"/api/people/{anna}")

    assert [(await anyone.get(link)).status_code for link in links] == [403, 403]
    for who in (bearer, session):
        assert (await anyone.get("/api/session", headers=who)).status_code == 401
    assert (await admin.get(f"/api/videos/{video}")).status_code == 200


async def test_a_new_token_replaces_the_old_one(anyone: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    anna, old = await _add(admin)
    session = await _sign_in(anyone, old["authorization"].removeprefix("Bearer "))

    token = (await admin.post(f"/api/people/{anna}/token")).json()["token"]

    for who, status in ((old, 401), (session, 401), ({"authorization": f"Bearer {token}"}, 200)):
        assert (await anyone.get("/api/session", headers=who)).status_code == status


async def test_everyone_sees_where_they_are_signed_in_and_ends_it(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, clock: Clock
) -> None:
    _, bearer = await _add(admin, "viewer")
    token = bearer["authorization"].removeprefix("Bearer ")
    first = await _sign_in(anyone, token)
    clock.unix += 60
    second = await _sign_in(anyone, token, "curl/8.5.0")
    others = await _sign_in(anyone, TOKEN)

    listed = (await anyone.get("/api/sessions", headers=first)).json()["sessions"]
    assert [(one["client"], one["is_current"]) for one in listed] == [
        ("curl", False),
        ("Firefox on Linux", True),
    ]
    assert [one["last_used_on"] is not None for one in listed] == [False, True]

    await anyone.delete(f"/api/sessions/{listed[0]['id']}", headers=others)
    assert (await anyone.get("/api/session", headers=second)).status_code == 200
    assert (await anyone.delete(f"/api/sessions/{listed[0]['id']}", headers=first)).status_code == 204
    statuses = [
        (await anyone.get("/api/session", headers=who)).status_code for who in (first, second, others)
    ]
    assert statuses == [200, 401, 200]


async def test_sessions_of_a_replaced_token_are_not_listed(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    anna, bearer = await _add(admin, "viewer")
    await _sign_in(anyone, bearer["authorization"].removeprefix("Bearer "))

    token = (await admin.post(f"/api/people/{anna}/token")).json()["token"]

    listed = await anyone.get("/api/sessions", headers={"authorization": f"Bearer {token}"})
    assert listed.json() == {"sessions": []}
