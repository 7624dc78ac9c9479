"""Pushed status under uvicorn: server-sent events of one video, and the WebSocket for all."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
import pytest
from litestar import Litestar

from backend.core import keys
from backend.core.access.people import Role
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import StoreUnavailable
from backend.core.events import feed
from backend.core.records import Stage, Status
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets, Listing, ObjectInfo, StoredObject
from backend.following import changes, places, videos
from backend.routes import following
from backend.routes.services import Services
from backend.web.auth import COOKIE
from backend.web.server.web_socket import MAX_MESSAGE_BYTES
from tests.backend.conftest import BEARER, TOKEN, Clock, add_published, api_process, begin_run, upload
from tests.backend.raw_http import SECONDS, serving
from tests.lab.memory_store import MemoryStore

ORIGIN = {"origin": "https://evil.example"}


class CountedStore(MemoryStore):
    """Counts reads, and can be away."""

    reads = 0
    is_away = False

    async def get(self, key: str) -> StoredObject:
        self._read()
        return await super().get(key)

    async def head(self, key: str) -> ObjectInfo:
        self._read()
        return await super().head(key)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        self._read()
        return await super().list_page(prefix, start_after=start_after, limit=limit)

    def _read(self) -> None:
        self.reads += 1
        if self.is_away:
            raise StoreUnavailable


@pytest.fixture
def buckets() -> Buckets:
    return Buckets(raw=CountedStore(), video=CountedStore())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "WAKE_SECONDS", 0.02)
    monkeypatch.setattr(changes, "WAKE_SECONDS", 0.02)
    monkeypatch.setattr(feed, "LOOK_SECONDS", 0.02)
    for name in ("EAGER_SECONDS", "BUSY_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(videos, name, 0.02)


@dataclass
class Stream:
    """Server-sent events, as a client receives them."""

    answer: aiohttp.ClientResponse

    async def next(self) -> tuple[str, dict[str, Any]] | None:
        """Return type and data of the next event but pings. None: the stream has ended."""
        while True:
            event = await self._next()
            if event is None or event[0] != "ping":
                return event

    async def _next(self) -> tuple[str, dict[str, Any]] | None:
        fields: dict[str, str] = {}
        async with asyncio.timeout(SECONDS):
            async for raw in self.answer.content:
                name, colon, value = raw.decode().rstrip("\r\n").partition(": ")
                if colon:
                    fields[name] = value
                elif fields:
                    return fields["event"], json.loads(fields["data"])
        return None


@dataclass
class Site:
    """An API process on a port."""

    app: Litestar
    url: str
    stop: Any
    client: aiohttp.ClientSession
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def stream(self, video: str, headers: dict[str, str] = BEARER, query: str = "") -> Stream:
        url = f"{self.url}/api/videos/{video}/events{query}"
        answer = await self.stack.enter_async_context(self.client.get(url, headers=headers))
        assert answer.status == 200, await answer.text()
        return Stream(answer)

    async def socket(self, headers: dict[str, str] = BEARER) -> aiohttp.ClientWebSocketResponse:
        return await self.stack.enter_async_context(
            self.client.ws_connect(f"{self.url}/api/ws", headers=headers)
        )

    async def session(self, token: str = TOKEN) -> dict[str, str]:
        async with self.client.post(f"{self.url}/api/session", json={"token": token}) as answer:
            return {"cookie": f"{COOKIE}={answer.cookies[COOKIE].value}"}


@asynccontextmanager
async def _site(app: Litestar) -> AsyncIterator[Site]:
    async with (
        serving(app, on_stop=lambda: app.state.services.end_waiting()) as server,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        ) as client,
    ):
        site = Site(app, f"http://127.0.0.1:{server.port}", server.stop, client)
        async with site.stack:
            yield site


@pytest.fixture
async def site(app: Litestar) -> AsyncIterator[Site]:
    async with _site(app) as running:
        yield running


@pytest.fixture
async def elsewhere(settings: ApiSettings, buckets: Buckets, clock: Clock) -> AsyncIterator[Site]:
    """Another process of the API."""
    async with api_process(settings, buckets, clock) as app, _site(app) as running:
        yield running


async def _token_of(site: Site, role: Role) -> tuple[str, dict[str, str]]:
    person = await site.services.people.add("Ada", role)
    token = await site.services.people.issue_token(person.id)
    return person.id, {"authorization": f"Bearer {token}"}


async def _progress(buckets: Buckets, video: str, progress: float) -> None:
    stored = await buckets.video.get(keys.status(video))
    await buckets.video.put(
        keys.status(video), Status.from_json(stored.body).replace(progress=progress).to_json()
    )


async def _message(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """Return the next message but pings."""
    while True:
        message: dict[str, Any] = await socket.receive_json(timeout=SECONDS)
        if message["type"] != "ping":
            return message


async def _closes(socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str | None]:
    """Return code and reason."""
    while (message := await socket.receive(SECONDS)).type is aiohttp.WSMsgType.TEXT:
        pass
    return message.data, message.extra


# One video


async def test_a_subscriber_sees_a_video_from_the_queue_to_its_deletion(
    site: Site, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin, title="My film")
    stream = await site.stream(video)
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    assert stream.answer.headers.getall("cache-control") == ["no-store, no-transform"]
    assert stream.answer.headers["x-accel-buffering"] == "no"

    event = await stream.next()

    assert event is not None
    assert (event[0], event[1]["title"], event[1]["status"]["stage"]) == ("video", "My film", "queued")
    await begin_run(buckets, video)
    assert (await stream.next() or ())[1]["status"]["playable"] is True
    await _progress(buckets, video, 0.5)
    assert (await stream.next() or ())[1]["status"]["progress"] == 0.5
    await admin.patch(f"/api/videos/{video}", json={"title": "Other"})
    assert (await stream.next() or ())[1]["title"] == "Other"
    await admin.delete(f"/api/videos/{video}")
    assert (await stream.next() or ())[1]["code"] == "video_not_found"
    assert await stream.next() is None
    assert site.services.followed._followed == {}


async def test_silence_is_broken_by_pings(
    site: Site, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PING_SECONDS", 0)
    stream = await site.stream(await upload(admin))
    socket = await site.socket()

    assert [(await stream._next() or ())[0] for _ in range(2)] == ["video", "ping"]
    assert await socket.receive_json(timeout=SECONDS) == {"type": "ping"}


async def test_another_process_notices_changes_and_deletions(
    site: Site, elsewhere: Site, admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    """`site` changes the video; the clocks of its caches stand still."""
    video = await add_published(admin, buckets)
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    mine, guests = await elsewhere.stream(video), await elsewhere.stream(video, {})
    await mine.next()
    seen = (await guests.next() or ())[1]
    assert (seen["visibility"], seen["status"]["outputs"]) == (None, None)

    await admin.patch(f"/api/videos/{video}", json={"visibility": "private"})

    assert (await mine.next() or ())[1]["visibility"] == "private"
    assert (await guests.next() or ())[1]["code"] == "unauthorized"
    assert await guests.next() is None
    await admin.delete(f"/api/videos/{video}")
    assert (await mine.next() or ())[1]["code"] == "video_not_found"


async def test_subscribers_are_told_when_their_own_right_ends(site: Site, admin: httpx.AsyncClient) -> None:
    video = await upload(admin)
    await admin.patch(f"/api/videos/{video}", json={"visibility": "internal"})
    person, token = await _token_of(site, Role.VIEWER)
    signed_in = await site.session()
    by_token, by_session = await site.stream(video, token), await site.stream(video, signed_in)
    socket, session_socket = await site.socket(token), await site.socket(signed_in)
    await by_token.next(), await by_session.next()

    await site.services.people.revoke(person)
    site.services.principals.forget_all()  # as after `CACHED_SECONDS`

    assert (await by_token.next() or ())[1]["code"] == "unauthorized"
    assert await _closes(socket) == (4401, "unauthorized")
    async with site.client.delete(f"{site.url}/api/session", headers=signed_in) as answer:
        assert answer.status == 204
    assert (await by_session.next() or ())[1]["code"] == "unauthorized"
    assert await _closes(session_socket) == (4401, "unauthorized")


async def test_who_has_an_access_code_is_told_when_it_is_withdrawn(
    site: Site, admin: httpx.AsyncClient
) -> None:
    video = await upload(admin)
    answer = await admin.post("/api/access-codes", json={"media_items": [{"media_slug": video}]})
    code = answer.json()
    stream = await site.stream(video, {}, f"?access_code={code['code']}")
    assert (await stream.next() or ())[1]["visibility"] is None

    assert (await admin.delete(f"/api/access-codes/{code['id']}")).is_success

    assert (await stream.next() or ())[1]["code"] == "access_code_rejected"


async def test_only_those_who_may_watch_can_subscribe(
    site: Site, admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    private, unknown = await upload(admin), "01980000-0000-7000-8000-000000000000"
    _, viewer = await _token_of(site, Role.VIEWER)
    for video in (private, unknown):
        url = f"/api/videos/{video}/events"
        assert (await anyone.get(url)).status_code == 401
        assert (await anyone.get(url, headers=viewer)).status_code == 404
    assert (await admin.get(f"/api/videos/{unknown}/events")).status_code == 404
    assert (await admin.get("/api/videos/X/events")).status_code == 400
    head = await admin.head(f"/api/videos/{private}/events")
    assert (head.status_code, head.content) == (200, b"")


async def test_200_subscribers_cost_the_store_one_reader(
    site: Site, admin: httpx.AsyncClient, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EAGER_SECONDS", "BUSY_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(videos, name, 3600)  # it looks when told
    store = buckets.video
    assert isinstance(store, CountedStore)
    reads = []
    for subscribers in (1, 200):
        video = await upload(admin)
        streams = await gather_or_cancel(site.stream(video) for _ in range(subscribers))
        await gather_or_cancel(stream.next() for stream in streams)
        before = store.reads
        for progress in (0.25, 0.5):
            await _progress(buckets, video, progress)
            site.services.followed.hurry(video)
            events = await gather_or_cancel(stream.next() for stream in streams)
            assert [(event or ())[1]["status"]["progress"] for event in events] == [progress] * subscribers
        reads.append(store.reads - before)

    assert reads[0] == reads[1] < 20


async def test_a_slow_subscriber_skips_to_the_newest_state(
    site: Site, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    async with aclosing(site.services.followed.follow(video)) as slow:
        await anext(slow)
        fast = await site.stream(video)
        await fast.next()
        for progress in (0.1, 0.2, 0.3):
            await _progress(buckets, video, progress)
            await fast.next()

        item = await anext(slow)

    assert item is not None
    assert item.status.progress == 0.3


async def test_streams_outlast_an_outage_of_the_store(
    site: Site, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    stream = await site.stream(video)
    await stream.next()
    store = buckets.video
    assert isinstance(store, CountedStore)
    store.is_away = True
    began = store.reads
    async with asyncio.timeout(SECONDS):
        while store.reads < began + 2:  # noqa: ASYNC110  # a store has no events
            await asyncio.sleep(0.005)
    site.services.rights.forget(video)
    store.is_away = False

    await _progress(buckets, video, 0.5)

    assert (await stream.next() or ())[1]["status"]["progress"] == 0.5


async def test_streams_end_when_the_server_stops(site: Site, admin: httpx.AsyncClient) -> None:
    stream, socket = await site.stream(await upload(admin)), await site.socket()
    await stream.next()

    site.stop()

    assert await stream.next() is None
    assert (await _closes(socket))[0] in (1001, 1012)


async def test_places_are_bounded_and_given_back(
    site: Site, admin: httpx.AsyncClient, anyone: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MAX_FOLLOWERS", 2)
    monkeypatch.setattr(places, "MAX_GUESTS", 1)
    video = await upload(admin)
    await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
    stream = await site.stream(video, {})
    await stream.next()
    assert (await anyone.get(f"/api/videos/{video}/events")).json()["code"] == "too_many_followers"
    other = await site.stream(video)
    await other.next()
    assert (await admin.get(f"/api/videos/{video}/events")).status_code == 503
    assert await _closes(await site.socket()) == (4503, "too_many_followers")

    other.answer.close()

    async with asyncio.timeout(SECONDS):
        while site.services.follower_places._taken > 1:  # noqa: ASYNC110  # the server learns of it by itself
            await asyncio.sleep(0.005)
    await (await site.stream(video)).next()


# All videos


async def test_a_websocket_tells_what_one_may_see(
    site: Site, admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    _, viewer = await _token_of(site, Role.VIEWER)
    mine, theirs = await site.socket(), await site.socket(viewer)
    video = await upload(admin, title="A")
    first = await _message(mine)
    assert (first["type"], first["id"], first["title"]) == ("video", video, "A")
    assert await _message(theirs) == {"type": "all"}  # it was unknown whether they could see it before

    await admin.patch(f"/api/videos/{video}", json={"visibility": "internal"})
    assert (await _message(theirs))["visibility"] == "internal"
    await admin.patch(f"/api/videos/{video}", json={"visibility": "private"})
    assert await _message(theirs) == {"type": "gone", "id": video}
    await admin.patch(f"/api/videos/{video}", json={"title": "B"})
    await admin.delete(f"/api/videos/{video}")
    other = await upload(admin)
    await admin.patch(f"/api/videos/{other}", json={"visibility": "public"})

    told: list[dict[str, Any]] = []
    while not told or told[-1].get("id") != other:
        told.append(await _message(theirs))

    assert video not in [message.get("id") for message in told]
    titles = []
    while (message := await _message(mine))["type"] != "gone":
        titles.append(message["title"])
    assert (titles[-1], message["id"]) == ("B", video)


async def test_a_websocket_follows_jobs_of_other_processes(
    site: Site, elsewhere: Site, admin: httpx.AsyncClient, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`site` uploads, a worker works, and the WebSocket is elsewhere."""
    monkeypatch.setattr(changes, "JOBS_SECONDS", 0.02)
    socket = await elsewhere.socket()
    video = await upload(admin)
    assert (await _message(socket))["status"]["stage"] == "queued"
    await begin_run(buckets, video)
    await buckets.raw.put(f"{keys.LEASES}{video}/0", b"")

    assert (await _message(socket))["status"]["stage"] == Stage.TRANSCODING
    await _progress(buckets, video, 0.25)
    assert (await _message(socket))["status"]["progress"] == 0.25
    await admin.delete(f"/api/videos/{video}")
    assert (await _message(socket))["type"] == "gone"


async def test_pages_of_other_sites_cannot_use_a_session(site: Site) -> None:
    session = await site.session()
    own = {**session, "origin": site.url}
    assert await _closes(await site.socket(session | ORIGIN)) == (4403, "foreign_origin")
    assert await _closes(await site.socket(ORIGIN)) == (4401, "unauthorized")
    assert await _closes(await site.socket({"authorization": "Bearer wrong"})) == (4401, "unauthorized")
    site.services.changes.note("01980000-0000-7000-8000-000000000000")
    socket = await site.socket(own)
    site.services.changes.note("01980000-0000-7000-8000-000000000000")
    assert await _message(socket) == {"type": "all"}
    friend = await site.socket(session | {"origin": "https://friend.example"})  # CORS_ORIGINS names it
    site.services.changes.note("01980000-0000-7000-8000-000000000000")
    assert await _message(friend) == {"type": "all"}


async def test_what_clients_send_means_nothing_and_is_bounded(site: Site) -> None:
    socket = await site.socket()
    await socket.send_str("hello")
    site.services.changes.note("01980000-0000-7000-8000-000000000000")
    assert await _message(socket) == {"type": "all"}
    await socket.send_str("x" * (MAX_MESSAGE_BYTES + 1))
    assert (await _closes(socket))[0] == 1009


async def test_a_slow_subscriber_of_all_is_told_to_list_them(
    site: Site, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_INBOX", 1)
    inbox = changes._Inbox()
    for video in ("a", "b", "c"):
        inbox.put(video, changes.Change(None, None))
    assert inbox.take() == {}
    inbox.put("a", changes.Change(None, None))
    assert list(inbox.take()) == ["a"]
