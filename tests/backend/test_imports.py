"""Importing objects of the same store, and hints that the inbox has changed."""

import asyncio

import httpx
import pytest
from litestar import Litestar
from pydantic import SecretStr

from backend.core import keys
from backend.core.errors import BucketMissing, StoreDenied, StoreUnavailable
from backend.core.records import FetchKind, Job
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets, ObjectInfo
from backend.core.uploads.inbox import InboxWatch
from backend.web.attempts import BY_ADDRESS
from tests.backend.conftest import MAX_UPLOAD_BYTES
from tests.lab.memory_store import MemoryStore

INBOX_TOKEN = "a-token-of-the-store-0123"


class Films(MemoryStore):
    async def head(self, key: str) -> ObjectInfo:
        for name, error in {
            "denied": StoreDenied,
            "no-bucket": BucketMissing,
            "away": StoreUnavailable,
        }.items():
            if key.startswith(name):
                raise error
        return await super().head(key)


@pytest.fixture
def films() -> MemoryStore:
    return Films()


@pytest.fixture
def buckets(films: MemoryStore) -> Buckets:
    return Buckets(raw=MemoryStore(), video=MemoryStore(), imports={"films": films})


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"inbox_token": SecretStr(INBOX_TOKEN)})


async def test_an_object_becomes_a_video(
    admin: httpx.AsyncClient, buckets: Buckets, films: MemoryStore
) -> None:
    await films.put("2026/a%20b ä?.mp4", b"\0" * 100)
    answer = await admin.post("/upload/remote", json={"url": "s3://films/2026/a%20b ä?.mp4"})

    assert answer.status_code == 202
    video = answer.json()["id"]
    job = Job.from_json((await buckets.raw.get(keys.marker(video, keys.FETCHED))).body)
    assert job.fetch is not None
    assert (job.fetch.kind, job.fetch.address) == (
        FetchKind.S3,
        "s3://films/2026/a%2520b%20%C3%A4%3F.mp4",
    )
    shown = (await admin.get(f"/api/videos/{video}")).json()
    assert (shown["title"], shown["filename"]) == ("a%20b ä?", "a%20b ä?.mp4")


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("s3://films/missing.mp4", 404, "fetch_not_found"),
        ("s3://films/no-bucket.mp4", 404, "fetch_not_found"),
        ("s3://films/denied.mp4", 403, "fetch_denied"),
        ("s3://films/away.mp4", 503, "store_unavailable"),
        ("s3://films/large.mp4", 413, "upload_too_large"),
        ("s3://films/empty.mp4", 400, "empty_upload"),
        ("s3://films/page.mp4", 415, "unsupported_type"),
        ("s3://other/film.mp4", 400, "address_refused"),
        ("s3://vodbucket-raw/queue/x", 400, "address_refused"),
        ("s3:/inbox/film.mp4", 400, "invalid_address"),
        ("s3:///film.mp4", 400, "invalid_address"),
        ("s3://films/", 400, "invalid_address"),
        ("s3://films", 400, "invalid_address"),
        (f"s3://films/{'é' * 600}", 400, "invalid_address"),
    ],
)
async def test_what_cannot_be_imported_is_refused_at_once(
    admin: httpx.AsyncClient, buckets: Buckets, films: MemoryStore, url: str, status: int, code: str
) -> None:
    await films.put("large.mp4", b"\0" * (MAX_UPLOAD_BYTES + 1))
    await films.put("empty.mp4", b"")
    await films.put("page.mp4", b"<!DOCTYPE html><html><body>sign in</body></html>")
    answer = await admin.post("/upload/remote", json={"url": url})

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not (await buckets.raw.list_page("")).objects
    assert not (await buckets.video.list_page(keys.VIDEOS)).objects


@pytest.fixture
def hints(app: Litestar, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    heard = list[None]()
    monkeypatch.setattr(InboxWatch, "hint", lambda _: heard.append(None))
    return heard


async def test_a_store_may_say_that_the_inbox_has_changed(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, hints: list[None]
) -> None:
    event = {"Records": [{"s3": {"object": {"key": "inbox/film.mp4"}}}]}
    answers = [
        await admin.post("/api/inbox/events", json=event),
        await anyone.post(f"/api/inbox/events?token={INBOX_TOKEN}", content=b"not even JSON"),
        await anyone.post("/api/inbox/events?token=wrong", json=event),
        await anyone.post("/api/inbox/events", json=event),
    ]

    assert [answer.status_code for answer in answers] == [204, 204, 401, 401]
    assert len(hints) == 2


async def test_guesses_of_the_inbox_token_are_limited_apart_from_those_of_the_admin_token(
    anyone: httpx.AsyncClient, admin: httpx.AsyncClient, hints: list[None]
) -> None:
    path = "/api/inbox/events?token="
    answers = [await anyone.post(f"{path}guess-{number}") for number in range(BY_ADDRESS.burst)]
    answers += [await anyone.post(path + INBOX_TOKEN), await admin.get("/jobs")]

    assert [answer.status_code for answer in answers] == [401] * BY_ADDRESS.burst + [429, 200]
    assert not hints


async def test_a_deleted_video_takes_its_file_out_of_the_inbox(
    admin: httpx.AsyncClient, app: Litestar, buckets: Buckets
) -> None:
    await buckets.raw.put("inbox/film.mp4", b"\0" * 100)
    watch: InboxWatch = app.state.services.inbox
    watch.inbox.settle_seconds = 0
    await watch.inbox.look()
    (item,) = (await admin.get("/api/videos")).json()["videos"]

    assert (await admin.delete(f"/api/videos/{item['id']}")).status_code == 204
    assert (await watch.inbox.look()).added == 0
    assert not (await buckets.raw.list_page("")).objects


@pytest.mark.parametrize("seconds", [0, 0.001])
async def test_a_look_follows_a_hint_and_the_clock(app: Litestar, buckets: Buckets, seconds: float) -> None:
    """The watch looks until the inbox is empty, and tells workers of what it has added."""
    added = asyncio.Event()
    watch = InboxWatch(app.state.services.inbox.inbox, seconds, added.set)
    watch.inbox.settle_seconds = 0
    await buckets.raw.put("inbox/film.mp4", b"\0" * 100)
    async with watch.looking():
        if not seconds:
            watch.hint()
        await asyncio.wait_for(added.wait(), 30)
    assert (await buckets.raw.list_page(keys.QUEUE)).objects
