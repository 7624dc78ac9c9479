"""Videos and uploads belong to the person who sent them, and nobody else gets hold of them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from litestar import Litestar

from backend.core.access.people import Role
from backend.core.library.videos import read_video
from backend.core.store.interface import Buckets
from tests.backend.conftest import upload
from tests.lab.asgi import client_of

TUS = {"tus-resumable": "1.0.0"}
FINGERPRINT = "/api/resumptions/" + "a" * 64


@dataclass
class Someone:
    id: str
    client: httpx.AsyncClient


async def _someone(app: Litestar, role: Role) -> AsyncIterator[Someone]:
    people = app.state.services.people
    person = await people.add("Someone", role)
    bearer = {"authorization": f"Bearer {await people.issue_token(person.id)}"}
    async with client_of(app, "http://vod.example", bearer) as client:
        yield Someone(person.id, client)


@pytest.fixture
async def anna(app: Litestar) -> AsyncIterator[Someone]:
    async for someone in _someone(app, Role.UPLOADER):
        yield someone


@pytest.fixture
async def ben(app: Litestar) -> AsyncIterator[Someone]:
    async for someone in _someone(app, Role.UPLOADER):
        yield someone


@pytest.fixture
async def viewer(app: Litestar) -> AsyncIterator[Someone]:
    async for someone in _someone(app, Role.VIEWER):
        yield someone


async def _tus(client: httpx.AsyncClient, body: bytes, **headers: str) -> httpx.Response:
    length = (
        {"upload-length": str(len(body)), "content-type": "application/offset+octet-stream"} if body else {}
    )
    return await client.post("/api/uploads", content=body, headers=TUS | length | headers)


async def _listed(client: httpx.AsyncClient, limit: int = 50) -> list[str]:
    ids, cursor = list[str](), None
    while True:
        query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/videos", params=query)).json()
        ids += [video["id"] for video in page["videos"]]
        if (cursor := page["next_cursor"]) is None:
            return ids


async def test_every_way_to_upload_makes_the_sender_the_owner(
    anna: Someone, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    client = anna.client
    pieces = [
        (await _tus(client, body, **{"upload-concat": "partial"})).headers["location"]
        for body in (b"a", b"b")
    ]
    answers = [
        await client.post("/api/videos", content=b"a video"),
        await client.post("/api/upload", files={"file": b"a video"}),
        await client.post("/upload/remote", json={"url": "https://cdn.example/v.mp4"}),
        await client.post("/download/yt-dlp", json={"url": "https://site.example/v"}),
    ]
    resumed = [
        await _tus(client, b"a video"),
        await _tus(client, b"", **{"upload-concat": "final;" + " ".join(pieces)}),
    ]
    ids = [answer.json()["id"] for answer in answers] + [answer.headers["video-id"] for answer in resumed]

    assert {(await read_video(buckets, video)).owner for video in ids} == {anna.id}
    assert (await read_video(buckets, await upload(admin))).owner is None


async def test_the_library_shows_ones_own_videos_and_those_that_are_not_private(
    anna: Someone, ben: Someone, viewer: Someone, admin: httpx.AsyncClient
) -> None:
    private, internal, public, closed = [await upload(anna.client) for _ in range(4)]
    for video, visibility in (
        (internal, "internal"),
        (public, "public"),
        (closed, "public"),
        (closed, "private"),
    ):
        answer = await anna.client.patch(f"/api/videos/{video}", json={"visibility": visibility})
        assert answer.status_code == 200
    bens, admins = await upload(ben.client), await upload(admin)

    for limit in (1, 2, 50):
        assert await _listed(anna.client, limit) == [closed, public, internal, private]
        assert await _listed(ben.client, limit) == [bens, public, internal]
        assert await _listed(viewer.client, limit) == [public, internal]
        assert await _listed(admin, limit) == [admins, bens, closed, public, internal, private]


async def test_a_deleted_video_leaves_no_trace_in_the_indexes(anna: Someone, buckets: Buckets) -> None:
    video = await upload(anna.client)
    await anna.client.patch(f"/api/videos/{video}", json={"visibility": "internal"})

    assert (await anna.client.delete(f"/api/videos/{video}")).status_code == 204

    found = [info.key async for info in buckets.video.list_all("")]
    assert [key for key in found if key.startswith(("owned/", "shared/", "catalog/"))] == []


async def test_uploaders_follow_the_jobs_of_their_own_videos(
    anna: Someone, ben: Someone, admin: httpx.AsyncClient
) -> None:
    video = await upload(anna.client)
    for client, jobs in ((anna.client, [video]), (ben.client, []), (admin, [video])):
        overview = (await client.get("/api/jobs")).json()
        assert [job["video_id"] for job in overview["jobs"]] == jobs
        assert overview["counts"]["queued"] == len(jobs)


async def test_pieces_of_somebody_elses_upload_cannot_be_joined(anna: Someone, ben: Someone) -> None:
    piece = (await _tus(anna.client, b"a video", **{"upload-concat": "partial"})).headers["location"]

    answer = await _tus(ben.client, b"", **{"upload-concat": f"final;{piece}"})

    assert (answer.status_code, answer.json()["code"]) == (404, "upload_not_found")
    assert (await _tus(anna.client, b"", **{"upload-concat": f"final;{piece}"})).status_code == 201


async def test_each_person_has_notes_of_their_own(
    anna: Someone, ben: Someone, admin: httpx.AsyncClient
) -> None:
    for name, client in (("anna", anna.client), ("ben", ben.client), ("admin", admin)):
        await client.put(FINGERPRINT, json={"upload_url": name})
    await ben.client.delete(FINGERPRINT)

    assert (await anna.client.get(FINGERPRINT)).json()["upload_url"] == "anna"
    assert (await ben.client.get(FINGERPRINT)).status_code == 404
    assert (await admin.get(FINGERPRINT)).json()["upload_url"] == "admin"


async def test_only_administrators_import_objects(anna: Someone) -> None:
    answer = await anna.client.post("/upload/remote", json={"url": "s3://bucket/v.mp4"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
