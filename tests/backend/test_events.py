"""The routes for events and webhooks."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from backend.core import keys
from backend.core.event_records import WebhookState
from backend.core.events import feed, webhooks
from backend.core.events.delivering import DeliveryLease
from backend.core.store.interface import Buckets
from backend.core.store.prefixes import keys_below
from tests.backend.conftest import upload


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (feed, webhooks):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)


async def _read(admin: httpx.AsyncClient, **query: int) -> tuple[list[tuple[int, str, str]], int]:
    answer = await admin.get("/api/events", params=query)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    events = [(event["number"], event["type"], event["data"]["id"]) for event in found["events"]]
    return events, found["after"]


async def test_events_of_a_video_are_listed(admin: httpx.AsyncClient) -> None:
    video = await upload(admin, title="Harbour", filename="harbour.mp4")
    await admin.delete(f"/api/videos/{video}")

    answer = (await admin.get("/api/events")).json()

    created, deleted = answer["events"]
    assert (created["number"], created["id"], created["type"]) == (1, f"{video}-0-created", "video.created")
    assert {name: created["data"][name] for name in ("id", "request", "filename", "size_bytes")} == {
        "id": video,
        "request": video,
        "filename": "harbour.mp4",
        "size_bytes": 7,
    }
    assert (deleted["number"], deleted["type"], deleted["data"]["title"]) == (2, "video.deleted", "Harbour")
    assert answer["after"] == 2


async def test_readers_continue_where_they_were(admin: httpx.AsyncClient) -> None:
    videos = [await upload(admin) for _ in range(5)]

    first, after = await _read(admin, after=0, limit=2)
    rest, end = await _read(admin, after=after)
    latest, _ = await _read(admin, limit=1)
    none, still = await _read(admin, after=end)

    assert [video for _, _, video in first + rest] == videos
    assert [number for number, _, _ in first + rest] == [1, 2, 3, 4, 5]
    assert (latest, none, still) == (rest[-1:], [], 5)


async def test_readers_wait_for_an_event(admin: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(_read(admin, after=0, wait=25))
    video = await upload(admin)

    events, _ = await waiting

    assert events == [(1, "video.created", video)]


async def test_an_event_that_never_was_is_refused(admin: httpx.AsyncClient) -> None:
    beyond = await admin.get("/api/events", params={"after": 1})
    nonsense = await admin.get("/api/events", params={"after": "x"})

    assert (beyond.status_code, beyond.json()["code"]) == (400, "unknown_event")
    assert (nonsense.status_code, nonsense.json()["code"]) == (400, "invalid_request")


async def test_events_require_authentication(anyone: httpx.AsyncClient) -> None:
    answers = [
        await anyone.get("/api/events"),
        await anyone.get("/api/webhooks"),
        await anyone.post("/api/webhooks/test"),
    ]

    assert [answer.status_code for answer in answers] == [401] * 3


async def test_without_webhooks_there_is_nothing_to_test(admin: httpx.AsyncClient) -> None:
    listed = await admin.get("/api/webhooks")
    tested = await admin.post("/api/webhooks/test")

    assert listed.json() == {"webhooks": []}
    assert (tested.status_code, tested.json()["code"]) == (409, "no_webhooks")


async def _put(buckets: Buckets, endpoint: str, **state: object) -> None:
    record = WebhookState.model_validate({"address": f"https://{endpoint}", "position": 0, **state})
    await buckets.video.put(keys.webhook_state(endpoint), record.to_json())


async def test_webhooks_are_listed_with_how_they_are_doing(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    await upload(admin)
    await DeliveryLease(buckets.video, "worker", ["good", "bad"], 60).take()
    now = datetime.now(UTC)
    await _put(buckets, "good", position=1, delivered_at=now)
    await _put(buckets, "bad", failing_since=now, failures=3, error="It answered 503.", due_at=now)
    await _put(buckets, "former")

    good, bad = (await admin.get("/api/webhooks")).json()["webhooks"]

    assert (good["address"], good["waiting"], good["error"]) == ("https://good", 0, None)
    assert (bad["address"], bad["waiting"], bad["error"]) == ("https://bad", 1, "It answered 503.")


async def test_a_test_says_where_it_arrived(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    await DeliveryLease(buckets.video, "worker", ["good", "bad"], 60).take()
    for endpoint in ("good", "bad"):
        await _put(buckets, endpoint, failures=1, error="An earlier failure.")
    testing = asyncio.create_task(admin.post("/api/webhooks/test"))
    while not await keys_below(buckets.video, keys.EVENTS):  # noqa: ASYNC110  # the route has its own clock
        await asyncio.sleep(0)
    await _put(buckets, "good", position=1)
    await _put(buckets, "bad", failures=2, error="It answered 503.", due_at=datetime.now(UTC) + timedelta(1))

    tests = (await testing).json()["tests"]

    assert tests == [
        {"address": "https://good", "delivered": True, "error": None},
        {"address": "https://bad", "delivered": False, "error": "It answered 503."},
    ]
