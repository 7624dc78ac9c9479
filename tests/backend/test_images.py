"""Images: upload, list, edit and delete them, and who may see them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import httpx
import pytest
from litestar import Litestar
from PIL import Image

from backend.core import keys
from backend.core.access.people import Role
from backend.core.ids import new_id
from backend.core.store.interface import Buckets
from backend.images.rewriting import MAX_IMAGE_BYTES, ImagesUnavailable, Rewriter
from backend.routes import images
from tests.backend.conftest import BEARER, api_process, stored_keys
from tests.lab.asgi import client_of

URL = "http://vod.example"


def _png() -> bytes:
    out = BytesIO()
    Image.new("RGB", (6, 4), (200, 10, 10)).save(out, "PNG")
    return out.getvalue()


PNG = _png()


async def add(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    answer = await client.post("/api/images", content=PNG, params=query)
    assert answer.status_code == 201, answer.text
    item: dict[str, Any] = answer.json()
    return item


@asynccontextmanager
async def _person(app: Litestar, role: Role) -> AsyncIterator[httpx.AsyncClient]:
    people = app.state.services.people
    token = await people.issue_token((await people.add("Ada", role)).id)
    async with client_of(app, URL, {"authorization": f"Bearer {token}"}) as client:
        yield client


async def test_an_image_is_uploaded_as_the_body(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/api/images", content=PNG, params={"filename": "My photo.png"})

    item = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/images/{item['id']}"
    assert (
        item.items()
        >= {
            "title": "My photo",
            "format": "png",
            "width": 6,
            "height": 4,
            "visibility": "private",
            "owner": None,
            "url": f"/images/{item['id']}",
        }.items()
    )
    assert (await admin.get(f"/api/images/{item['id']}")).json() == item


async def test_an_image_is_uploaded_in_a_form(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/api/images", files={"file": ("a.png", PNG)}, data={"title": "Of a form"})

    assert (answer.status_code, answer.json()["title"]) == (201, "Of a form")


async def test_the_address_leads_to_the_picture_in_the_bucket(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    image = await add(admin)
    await admin.patch(f"/api/images/{image['id']}", json={"visibility": "public"})

    answer = await anyone.get(image["url"])

    key = keys.picture(image["id"], "png")
    assert answer.status_code == 307
    assert key in answer.headers["location"]
    assert answer.headers["cache-control"] == "no-store"
    with_token = await admin.get(image["url"])  # which must not reach the store
    assert (with_token.status_code, with_token.headers["content-type"]) == (200, "image/png")
    assert with_token.content == (await buckets.video.get(key)).body


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_upload"),
        (b"not an image", 415, "unsupported_image"),
        (b"x" * (MAX_IMAGE_BYTES + 1), 413, "image_too_large"),
    ],
    ids=["empty", "text", "large"],
)
async def test_what_is_no_image_is_refused_and_leaves_nothing(
    admin: httpx.AsyncClient, buckets: Buckets, body: bytes, status: int, code: str
) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        yield body

    for sent in (body, unannounced()):
        answer = await admin.post("/api/images", content=sent)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await stored_keys(buckets) == []


async def test_a_form_without_a_file_is_refused(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/api/images", files={"title": (None, "x")})

    assert (answer.status_code, answer.json()["code"]) == (400, "missing_file")


async def test_a_machine_that_cannot_process_images_says_so(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ImagesUnavailable

    monkeypatch.setattr(Rewriter, "rewrite", fail)
    answer = await admin.post("/api/images", content=PNG)

    assert (answer.status_code, answer.json()["code"]) == (503, "images_unavailable")
    assert "retry-after" in answer.headers


async def test_a_client_that_sends_too_slowly_gives_its_place_to_others(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield PNG[:20]
        await asyncio.Event().wait()

    monkeypatch.setattr(images, "RECEIVE_SECONDS", 0.0)
    answers = await asyncio.gather(*(admin.post("/api/images", content=endless()) for _ in range(9)))
    assert {(one.status_code, one.json()["code"]) for one in answers} == {(400, "incomplete_upload")}

    monkeypatch.undo()
    assert await add(admin)


async def test_the_api_answers_while_an_image_is_rewritten(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    run = Rewriter._run

    async def held(self: Rewriter, body: bytes) -> tuple[int, bytes, str]:
        begun.set()
        await may_end.wait()
        return await run(self, body)

    monkeypatch.setattr(Rewriter, "_run", held)
    uploads = [asyncio.create_task(add(admin)) for _ in range(9)]
    await begun.wait()

    assert (await anyone.get("/healthz")).status_code == 200
    may_end.set()
    assert len({image["id"] for image in await asyncio.gather(*uploads)}) == 9


async def test_a_list_has_pages_newest_first(admin: httpx.AsyncClient) -> None:
    ids = [(await add(admin))["id"] for _ in range(3)]

    first = (await admin.get("/api/images", params={"limit": 2})).json()
    rest = (await admin.get("/api/images", params={"cursor": first["next_cursor"]})).json()

    listed = [image["id"] for page in (first, rest) for image in page["images"]]
    assert listed == sorted(ids, reverse=True)
    assert rest["next_cursor"] is None
    assert keys.thumbnail(listed[0]) in first["images"][0]["thumbnail"]


async def test_an_image_is_deleted_with_all_that_belongs_to_it(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    image = await add(admin)
    path = f"/api/images/{image['id']}"
    await admin.patch(path, json={"visibility": "public", "title": "T"})
    assert (await anyone.get(image["url"])).status_code == 307

    assert (await admin.delete(path)).status_code == 204

    assert (await anyone.get(image["url"])).status_code == 401
    assert await stored_keys(buckets) == []
    assert (await admin.get("/api/images")).json()["images"] == []
    for answer in (await admin.get(path), await admin.delete(path), await admin.get(image["url"])):
        assert (answer.status_code, answer.json()["code"]) == (404, "image_not_found")


async def test_who_may_see_and_change_an_image(app: Litestar, anyone: httpx.AsyncClient) -> None:
    async with (
        _person(app, Role.UPLOADER) as owner,
        _person(app, Role.UPLOADER) as other,
        _person(app, Role.VIEWER) as viewer,
        client_of(app, URL, BEARER) as admin,
    ):
        image = await add(owner)
        path = f"/api/images/{image['id']}"
        for visibility, seen_by_people, seen_by_anyone in (
            ("private", (404, 404, 404), 401),
            ("internal", (200, 200, 403), 401),
            ("public", (200, 200, 403), 307),
        ):
            assert (await owner.patch(path, json={"visibility": visibility})).status_code == 200
            for person in (other, viewer):
                change = 403 if person is viewer else seen_by_people[2]
                assert (await person.get(path)).status_code == seen_by_people[0]
                assert (await person.get(image["url"])).status_code == seen_by_people[1]
                assert (await person.patch(path, json={"title": "x"})).status_code == change
                assert (await person.delete(path)).status_code == change
                listed = (await person.get("/api/images")).json()["images"]
                assert bool(listed) == (seen_by_people[0] == 200)
            assert (await anyone.get(image["url"])).status_code == seen_by_anyone
            assert (await anyone.get(path)).status_code == 401
            assert (await admin.get(image["url"])).status_code == 200
        assert (await viewer.post("/api/images", content=PNG)).status_code == 403
        assert (await anyone.post("/api/images", content=PNG)).status_code == 401
        assert (await owner.delete(path)).status_code == 204


async def test_an_image_that_is_withdrawn_elsewhere_is_gone_within_seconds(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, settings: Any, buckets: Buckets, clock: Any
) -> None:
    image = await add(admin)
    await admin.patch(f"/api/images/{image['id']}", json={"visibility": "public"})
    assert (await anyone.get(image["url"])).status_code == 307
    async with api_process(settings, buckets, clock) as process, client_of(process, URL, BEARER) as elsewhere:
        await elsewhere.patch(f"/api/images/{image['id']}", json={"visibility": "private"})

    clock.unix += 11

    assert (await anyone.get(image["url"])).status_code == 401


async def test_unknown_and_malformed_ids_are_told_apart_from_nothing(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    assert (await anyone.get(f"/images/{new_id()}")).status_code == 401
    assert (await admin.get(f"/images/{new_id()}")).status_code == 404
    assert (await admin.get("/api/images/..%2f..")).status_code == 404
    assert (await admin.delete("/api/images/x")).json()["code"] == "invalid_id"


async def test_an_image_can_be_named_by_its_slug(admin: httpx.AsyncClient, anyone: httpx.AsyncClient) -> None:
    first, second = [await add(admin) for _ in range(2)]
    path = f"/api/images/{first['id']}"
    answer = await admin.patch(path, json={"slug": "team-photo", "visibility": "public"})
    assert answer.json()["slug"] == "team-photo"
    assert (await anyone.get("/images/team-photo")).status_code == 307

    taken = await admin.patch(f"/api/images/{second['id']}", json={"slug": "team-photo"})
    assert (taken.status_code, taken.json()["code"]) == (409, "slug_taken")

    await admin.patch(path, json={"title": "T"})
    assert (await admin.get(path)).json()["slug"] == "team-photo"
    await admin.delete(path)
    moved = await admin.patch(f"/api/images/{second['id']}", json={"slug": "team-photo"})
    assert moved.status_code == 200
    assert (await anyone.get("/images/team-photo")).status_code == 401
    assert (await admin.get("/images/team-photo")).status_code == 200
    await admin.patch(f"/api/images/{second['id']}", json={"slug": ""})
    assert (await admin.get("/images/team-photo")).status_code == 404


async def test_an_access_code_opens_its_image_and_no_other(
    app: Litestar, admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    image, other = [await add(admin) for _ in range(2)]
    item = {"media_type": "image", "media_slug": image["id"]}
    made = (await admin.post("/api/access-codes", json={"media_items": [item]})).json()
    query = {"access_code": made["code"]}

    assert (await anyone.get(image["url"], params=query)).status_code == 307
    rejected = await anyone.get(other["url"], params=query)
    assert (rejected.status_code, rejected.json()["code"]) == (403, "access_code_rejected")
    wrong = await anyone.get(image["url"], params={"access_code": "vc_" + "A" * 22})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "access_code_rejected")

    await admin.delete(f"/api/access-codes/{made['id']}")
    assert (await anyone.get(image["url"], params=query)).status_code == 403


async def test_only_who_manages_an_image_makes_codes_for_it(app: Litestar, admin: httpx.AsyncClient) -> None:
    image = await add(admin)
    body = {"media_items": [{"media_type": "image", "media_slug": image["id"]}]}
    async with _person(app, Role.UPLOADER) as other:
        assert (await other.post("/api/access-codes", json=body)).json()["code"] == "image_not_found"
        await admin.patch(f"/api/images/{image['id']}", json={"visibility": "public"})
        app.state.services.images.forget(image["id"])
        assert (await other.post("/api/access-codes", json=body)).json()["code"] == "forbidden"
    unknown = {"media_items": [{"media_type": "image", "media_slug": "nothing"}]}
    assert (await admin.post("/api/access-codes", json=unknown)).json()["code"] == "image_not_found"
