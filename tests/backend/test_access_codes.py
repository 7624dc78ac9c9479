"""Access codes: guests watch what a code opens, until it ends, and guess in vain."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from litestar import Litestar

from backend.core import keys
from backend.core.access.codes import made_up
from backend.core.access.people import PersonEdit, Role
from backend.core.access.principals import CACHED_SECONDS
from backend.core.ids import new_id
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.routes.services import Services
from backend.web.attempts import BY_ADDRESS
from tests.backend.conftest import Clock, add_published, api_process, links_of
from tests.lab.asgi import client_of

CODES = "/api/access-codes"


@pytest.fixture
async def video(admin: httpx.AsyncClient, buckets: Buckets) -> str:
    return await add_published(admin, buckets)


@pytest.fixture
async def elsewhere(
    settings: ApiSettings, buckets: Buckets, clock: Clock
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another API process, without credentials."""
    async with api_process(settings, buckets, clock) as app, client_of(app, "http://vod.example") as client:
        yield client


async def _share(client: httpx.AsyncClient, *videos: str, **fields: Any) -> dict[str, Any]:
    items = [{"media_type": "video", "media_slug": video} for video in videos]
    answer = await client.post(CODES, json={"media_items": items, **fields})
    assert answer.status_code == 201, answer.text
    shared: dict[str, Any] = answer.json()
    return shared


async def _playback(
    client: httpx.AsyncClient, video: str, code: str, passphrase: str | None = None
) -> httpx.Response:
    headers = {} if passphrase is None else {"access-passphrase": passphrase}
    return await client.get(f"/api/videos/{video}/playback", params={"access_code": code}, headers=headers)


async def _outcome(client: httpx.AsyncClient, video: str, code: str, passphrase: str | None = None) -> str:
    answer = await _playback(client, video, code, passphrase)
    return "plays" if answer.status_code == 200 else str(answer.json()["code"])


async def test_a_code_opens_its_videos_wherever_they_are_played(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, video: str
) -> None:
    second, other = await add_published(admin, buckets), await add_published(admin, buckets)
    code = (await _share(admin, video, second))["code"]

    links = (await _playback(anyone, video, code)).json()

    assert (await anyone.get(links["hls"], follow_redirects=True)).text == "#EXTM3U\n"
    assert await _outcome(anyone, second, code) == "plays"
    assert await _outcome(anyone, other, code) == "access_code_rejected"
    for path in ("", "/download", "/hls/master.m3u8", "/dash/manifest.mpd", "/media/1.m4s"):
        for one, status in ((video, 307), (other, 403)):
            answer = await anyone.get(f"/videos/{one}{path}", params={"access_code": code})
            assert answer.status_code == status, path
        assert (await anyone.get(f"/videos/{video}{path}")).status_code == 401


async def test_a_code_opens_nothing_but_playback(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, video: str
) -> None:
    query = {"access_code": (await _share(admin, video))["code"]}
    for path in (f"/api/videos/{video}", "/api/videos", f"/api/videos/{video}/captions", CODES):
        assert (await anyone.get(path, params=query)).status_code == 401
    assert (await anyone.delete(f"/api/videos/{video}", params=query)).status_code == 401


async def test_wrong_expired_and_withdrawn_codes_and_those_of_missing_videos_look_the_same(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, clock: Clock, video: str
) -> None:
    deleted, other = await add_published(admin, buckets), await add_published(admin, buckets)
    soon = datetime.fromtimestamp(clock.unix + 60, UTC).isoformat()
    codes = {
        "expired": (await _share(admin, video, expires_at=soon))["code"],
        "withdrawn": (withdrawn := await _share(admin, video))["code"],
        "of another video": (await _share(admin, other))["code"],
        "wrong": made_up(),
        "wrong and chosen": "summer party",
        "too long": "x" * 201,
        "empty": "",
    }
    of_deleted = (await _share(admin, deleted))["code"]
    assert (await admin.delete(f"{CODES}/{withdrawn['id']}")).status_code == 204
    assert (await admin.delete(f"/api/videos/{deleted}")).status_code == 204
    clock.unix += 60

    answers = {name: await _playback(anyone, video, code) for name, code in codes.items()}
    answers["of a deleted video"] = await _playback(anyone, deleted, of_deleted)
    answers["of no video"] = await _playback(anyone, new_id(), of_deleted)

    bodies = {(answer.status_code, answer.text) for answer in answers.values()}
    assert len(bodies) == 1, answers
    assert answers["wrong"].json()["code"] == "access_code_rejected"


async def test_a_passphrase_is_asked_for_and_checked(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, video: str
) -> None:
    shared = await _share(admin, video, passphrase="sésame, öffne dich")
    code = shared["code"]
    assert shared["needs_passphrase"] is True
    assert "sésame" not in str(shared)

    assert await _outcome(anyone, video, code) == "passphrase_required"
    assert await _outcome(anyone, video, code, "sesam") == "passphrase_wrong"
    assert await _outcome(anyone, video, code, "x" * 300) == "passphrase_wrong"
    assert await _outcome(anyone, video, code, "s%C3%A9same%2C%20%C3%B6ffne%20dich") == "plays"


async def test_links_end_when_their_code_is_withdrawn(
    admin: httpx.AsyncClient,
    anyone: httpx.AsyncClient,
    elsewhere: httpx.AsyncClient,
    buckets: Buckets,
    clock: Clock,
    video: str,
) -> None:
    shared, other = await _share(admin, video), await _share(admin, video)
    links = (await _playback(anyone, video, shared["code"])).json()
    others = (await _playback(anyone, video, other["code"])).json()
    for client in (anyone, elsewhere):
        assert (await client.get(links["webm"])).status_code == 307

    assert (await admin.delete(f"{CODES}/{shared['id']}")).status_code == 204

    assert (await anyone.get(links["webm"])).json()["code"] == "grant_rejected"
    assert await _outcome(anyone, video, shared["code"]) == "access_code_rejected"
    clock.unix += CACHED_SECONDS
    assert (await elsewhere.get(links["webm"])).json()["code"] == "grant_rejected"
    assert await _outcome(elsewhere, video, shared["code"]) == "access_code_rejected"
    assert (await elsewhere.get(others["webm"])).status_code == 307


async def test_links_end_when_their_code_expires(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, clock: Clock, video: str
) -> None:
    soon = datetime.fromtimestamp(clock.unix + 3, UTC).isoformat()
    code = (await _share(admin, video, expires_at=soon))["code"]
    links = (await _playback(anyone, video, code)).json()
    assert (await anyone.get(links["webm"])).status_code == 307

    clock.unix += 3

    assert (await anyone.get(links["webm"])).json()["code"] == "grant_rejected"


async def test_codes_of_a_person_end_with_their_access_and_are_theirs_alone(
    app: Litestar, admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    services: Services = app.state.services
    people = [await services.people.add(name, Role.UPLOADER) for name in ("Anna", "Bob")]
    bearers = [f"Bearer {await services.people.issue_token(person.id)}" for person in people]
    async with (
        client_of(app, "http://vod.example", {"authorization": bearers[0]}) as anna,
        client_of(app, "http://vod.example", {"authorization": bearers[1]}) as bob,
    ):
        video, hidden = await add_published(anna, buckets), await add_published(admin, buckets)
        shared = await _share(anna, video, description="for the family")
        of_admin = await _share(admin, video)

        async def listed(client: httpx.AsyncClient) -> list[str]:
            return [code["id"] for code in (await client.get(CODES)).json()["access_codes"]]

        assert shared["owner"] == people[0].id
        assert (await listed(anna), await listed(bob)) == ([shared["id"]], [])
        assert sorted(await listed(admin)) == sorted([shared["id"], of_admin["id"]])
        assert (await bob.delete(f"{CODES}/{shared['id']}")).json()["code"] == "access_code_not_found"
        assert (await anna.delete(f"{CODES}/{of_admin['id']}")).json()["code"] == "access_code_not_found"
        for client, item in ((bob, video), (anna, hidden), (admin, new_id())):
            answer = await client.post(CODES, json={"media_items": [{"media_slug": item}]})
            assert answer.json()["code"] == "video_not_found"
        await admin.patch(f"/api/videos/{hidden}", json={"visibility": "internal"})
        answer = await anna.post(CODES, json={"media_items": [{"media_slug": hidden}]})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    links = (await _playback(anyone, video, shared["code"])).json()
    await services.people.edit(people[0].id, PersonEdit(role=Role.VIEWER))
    services.principals.forget_all()
    assert await _outcome(anyone, video, shared["code"]) == "access_code_rejected"
    assert (await anyone.get(links["webm"])).json()["code"] == "grant_rejected"
    assert await _outcome(anyone, video, of_admin["code"]) == "plays"


async def test_the_list_tells_what_a_code_opens_and_when_it_was_used_but_not_the_code(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, video: str
) -> None:
    other = await add_published(admin, buckets)
    shared = await _share(admin, video, code="summer party", frame_ancestors=["https://Friend.example/"])
    await _share(admin, other)
    assert shared["last_used_on"] is None
    await _outcome(anyone, video, "summer party")

    answer = await admin.get(CODES, params={"media_id": video})

    assert "summer party" not in answer.text
    [listed] = answer.json()["access_codes"]
    assert listed["id"] == shared["id"]
    assert listed["media_items"] == [{"media_type": "video", "media_slug": video, "id": video}]
    assert listed["frame_ancestors"] == ["https://friend.example"]
    assert listed["last_used_on"] is not None
    first_use = (await buckets.video.head(keys.used_access_code(shared["id"]))).modified
    await _outcome(anyone, video, "summer party")
    assert (await buckets.video.head(keys.used_access_code(shared["id"]))).modified == first_use


async def test_a_code_is_not_asked_for_where_somebody_may_watch_without(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, video: str
) -> None:
    assert await _outcome(admin, video, "wrong code") == "plays"
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    assert await _outcome(anyone, video, "wrong code") == "plays"
    assert (await links_of(anyone, video))["title"]


async def test_what_cannot_be_shared_is_refused_with_a_reason(admin: httpx.AsyncClient, video: str) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"media_items": []}, "media_items"),
        ({"media_items": [{"media_type": "person", "media_slug": "x"}]}, "media_type"),
        ({"code": "short"}, "code"),
        ({"code": "      x      "}, "code"),
        ({"code": made_up()}, "code"),
        ({"passphrase": "12345"}, "passphrase"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2050-01-01T00:00:00"}, "expires_at"),
        ({"frame_ancestors": ["https://friend.example/page"]}, "frame_ancestors"),
        ({"owner": "somebody"}, "owner"),
    )
    for fields, word in refused:
        answer = await admin.post(CODES, json={"media_items": [{"media_slug": video}], **fields})
        assert answer.status_code == 400, fields
        assert word in answer.json()["error"]


async def test_a_chosen_code_that_was_in_use_is_refused(admin: httpx.AsyncClient, video: str) -> None:
    shared = await _share(admin, video, code="summer party")
    for _ in range(2):
        answer = await admin.post(
            CODES, json={"media_items": [{"media_slug": video}], "code": "summer party"}
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "access_code_taken")
        await admin.delete(f"{CODES}/{shared['id']}")


async def test_guessing_codes_is_limited_and_locks_nobody_out_of_anything_else(
    app: Litestar, admin: httpx.AsyncClient, anyone: httpx.AsyncClient, video: str
) -> None:
    chosen = (await _share(admin, video, code="summer party"))["code"]
    invented = (await _share(admin, video))["code"]

    outcomes = [await _outcome(anyone, video, f"guess number {n}") for n in range(BY_ADDRESS.burst + 2)]

    assert outcomes == ["access_code_rejected"] * BY_ADDRESS.burst + ["too_many_attempts"] * 2
    answer = await _playback(anyone, video, chosen)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
    assert int(answer.headers["retry-after"]) > 0
    assert await _outcome(anyone, video, invented) == "plays"
    assert (await admin.get(CODES)).status_code == 200
    async with client_of(app, "http://vod.example", address="192.0.2.7") as other:
        assert await _outcome(other, video, chosen) == "plays"


async def test_guessing_a_passphrase_is_limited_for_its_code_alone(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, video: str
) -> None:
    first, second = [(await _share(admin, video, passphrase="open sesame"))["code"] for _ in range(2)]

    outcomes = [await _outcome(anyone, video, first, f"guess {n}") for n in range(BY_ADDRESS.burst + 1)]

    assert outcomes == ["passphrase_wrong"] * BY_ADDRESS.burst + ["too_many_attempts"]
    assert await _outcome(anyone, video, first, "open%20sesame") == "too_many_attempts"
    assert await _outcome(anyone, video, second, "open%20sesame") == "plays"
