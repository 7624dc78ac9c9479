"""Places of upload links: never more videos than a link allows, whatever happens to uploads and servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core import keys
from backend.core.access.upload_links import FINISH_SECONDS
from backend.core.errors import StoreError, UploadLinkUsedUp, UploadNotFound
from backend.core.library.videos import delete_video, list_videos
from backend.core.records import Guest, RecordUnreadable
from backend.core.store.interface import Buckets
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.ingest import Description, ingest
from backend.core.uploads.places import LATEST_STEPS, MOST_CHANGES, LinkPlaces, Place, Places
from backend.core.uploads.quota import Bounds, UploadRules
from backend.core.uploads.resumable.service import IDLE, ResumableUploads
from tests.core.uploads.upload_lab import HEAD, PART, Killed, Life, Mortal
from tests.core.virtual_time import in_virtual_time, utc_now
from tests.lab.memory_store import MemoryStore

LINK = "0123456789abcdef" * 2
DATA = HEAD + bytes(40)
OVER = FINISH_SECONDS + LATEST_STEPS.total_seconds()


class Server:
    """One API process, which may be killed after a number of calls to the store."""

    def __init__(self, shared: Buckets, calls: int | None = None) -> None:
        life = Life(calls)
        self.buckets = Buckets(Mortal(shared.raw, life), Mortal(shared.video, life))
        rules = UploadRules(100_000, timedelta(days=7))
        self.uploads = ResumableUploads(self.buckets, self.buckets, PartBuffers(8 * PART), rules, utc_now)
        self.places = LinkPlaces(self.buckets.video, self.uploads.evict, utc_now)

    async def begin(self, most: int) -> str:
        """Begin a resumable upload."""
        place = await self.places.take(LINK, most, resumable=True)
        await self.uploads.create(len(DATA), _said(), bounds=_bounds(place))
        return place.upload

    async def send(self, upload_id: str, at: int = 0) -> None:
        await self.uploads.append(upload_id, at, _body(DATA[at:]))

    async def send_at_once(self, most: int, seconds: float = 0) -> None:
        """Upload in a single request, which gives up when its time is over."""
        place = await self.places.take(LINK, most, resumable=False)
        try:
            async with asyncio.timeout((place.ends_at - utc_now()).total_seconds()):
                await ingest(
                    self.buckets,
                    _body(DATA, seconds),
                    _said,
                    declared_bytes=len(DATA),
                    max_bytes=1000,
                    bounds=_bounds(place),
                )
        except BaseException:  # as the route does
            await self.places.give_back(LINK, place.upload)
            raise


def _said() -> Description:
    return Description("film.mp4", guest=Guest(link=LINK))


def _bounds(place: Place) -> Bounds:
    return Bounds(place.upload, 1000, place.ends_at)


async def _body(data: bytes, seconds: float = 0) -> AsyncIterator[bytes]:
    yield data[:10]
    await asyncio.sleep(seconds)
    yield data[10:]


def _shared() -> Buckets:
    return Buckets(MemoryStore(utc_now), MemoryStore(utc_now))


async def _videos(buckets: Buckets) -> list[str]:
    return [item.video.id for item in (await list_videos(buckets, limit=100)).items]


@pytest.mark.parametrize("most", [1, 3])
@in_virtual_time
async def test_of_uploads_that_begin_at_once_no_more_get_a_place_than_there_are(most: int) -> None:
    shared = _shared()
    servers = [Server(shared) for _ in range(8)]

    results = await asyncio.gather(*(one.begin(most) for one in servers), return_exceptions=True)

    assert [type(one) for one in results if not isinstance(one, str)] == [UploadLinkUsedUp] * (8 - most)
    assert await servers[0].places.left(LINK, most) == 0


@in_virtual_time
async def test_the_place_of_a_video_is_held_until_the_video_is_deleted() -> None:
    shared = _shared()
    server = Server(shared)
    upload_id = await server.begin(1)
    await server.send(upload_id)
    await asyncio.sleep(30 * FINISH_SECONDS)
    assert await server.places.left(LINK, 1) == 0
    with pytest.raises(UploadLinkUsedUp):
        await server.begin(1)

    await delete_video(shared, upload_id)

    assert await server.places.left(LINK, 1) == 1
    await server.send(await server.begin(1))


@in_virtual_time
async def test_an_upload_that_is_refused_or_dropped_gives_its_place_back() -> None:
    server = Server(_shared())
    upload_id = await server.begin(1)
    await server.uploads.terminate(upload_id)
    await server.places.give_back(LINK, upload_id)
    assert await server.places.left(LINK, 1) == 1

    await server.send(await server.begin(1))


@in_virtual_time
async def test_an_idle_upload_loses_its_place_only_to_one_that_needs_it() -> None:
    server = Server(_shared())
    idle = await server.begin(2)
    await asyncio.sleep(IDLE.total_seconds())
    await server.send(await server.begin(2))
    assert (await server.uploads.head(idle)).offset == 0

    await server.send(await server.begin(2))

    with pytest.raises(UploadNotFound):
        await server.send(idle)


@in_virtual_time
async def test_an_upload_that_is_being_sent_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.core.uploads.places.FINISH_SECONDS", 60)
    server = Server(_shared())
    upload_id = await server.begin(1)
    sending = asyncio.create_task(server.uploads.append(upload_id, 0, _body(DATA, 4000)))
    for _ in range(3):
        await asyncio.sleep(IDLE.total_seconds())
        with pytest.raises(UploadLinkUsedUp):
            await Server(server.buckets).begin(1)
    await sending
    assert await _videos(server.buckets) == [upload_id]


@pytest.mark.parametrize("at_once", [True, False])
@in_virtual_time
async def test_a_kill_at_any_store_call_costs_a_place_for_a_day_at_most(at_once: bool) -> None:
    calls = 0
    while True:
        shared = _shared()
        try:
            mortal = Server(shared, calls)
            if at_once:
                await mortal.send_at_once(1)
            else:
                await mortal.send(await mortal.begin(1))
            killed = False
        except Killed:
            killed = True
        await asyncio.sleep(OVER)
        after = Server(shared)
        if await _videos(shared):
            with pytest.raises(UploadLinkUsedUp):
                await after.begin(1)
        else:
            await after.send(await after.begin(1))
        assert len(await _videos(shared)) == 1
        if not killed:
            break
        calls += 1
    assert calls > 5


@in_virtual_time
async def test_a_kill_while_a_place_is_taken_from_another_upload_costs_no_place_for_ever() -> None:
    for calls in range(30):
        shared = _shared()
        with suppress(Killed):
            await Server(shared, 3).send_at_once(1)
        await asyncio.sleep(OVER)
        with suppress(Killed):
            await Server(shared, calls).begin(1)
        await asyncio.sleep(OVER)

        after = Server(shared)
        await after.send(await after.begin(1))

        assert len(await _videos(shared)) == 1


@in_virtual_time
async def test_a_resumable_upload_killed_in_its_last_steps_finishes_or_makes_room() -> None:
    for calls in range(5, 60):
        shared = _shared()
        mortal, upload_id = Server(shared, calls), ""
        try:
            upload_id = await mortal.begin(1)
            await mortal.send(upload_id)
        except Killed:
            pass
        rival = Server(shared)
        with suppress(UploadLinkUsedUp):
            await asyncio.sleep(IDLE.total_seconds() + 60)
            await rival.send(await rival.begin(1))
        if upload_id:
            with suppress(UploadNotFound):
                at = (await rival.uploads.head(upload_id)).offset
                if at < len(DATA):
                    await rival.send(upload_id, at)
        assert len(await _videos(shared)) == 1


steps = st.tuples(
    st.sampled_from(["begin", "send", "send", "at once", "wait", "finish"]),
    st.integers(0, 60),
    st.sampled_from([0.0, 5.0, 1000.0, OVER]),
)


@given(schedule=st.lists(steps, max_size=25), most=st.integers(1, 2))
@settings(deadline=None, max_examples=60)
@in_virtual_time
async def test_no_order_of_uploads_kills_and_pauses_gives_more_videos(
    schedule: list[tuple[str, int, float]], most: int
) -> None:
    shared, begun, tasks = _shared(), list[str](), list[asyncio.Task[None]]()

    async def act(what: str, calls: int, seconds: float) -> None:
        server = Server(shared, calls if calls < 50 else None)
        with suppress(Killed, StoreError, UploadLinkUsedUp, UploadNotFound, TimeoutError):
            if what == "begin":
                begun.append(await server.begin(most))
            elif what == "at once":
                await server.send_at_once(most, seconds)
            elif begun and what == "send":
                await server.send(begun[calls % len(begun)])
            elif begun and what == "finish":
                await server.uploads.head(begun[calls % len(begun)])

    for what, calls, seconds in schedule:
        if what == "wait":
            await asyncio.sleep(seconds)
        else:
            tasks.append(asyncio.create_task(act(what, calls, seconds)))
            await asyncio.sleep(0 if calls % 2 else 1)
        assert len(await _videos(shared)) <= most
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(OVER)
    assert len(await _videos(shared)) <= most
    after = Server(shared)
    for _ in range(most - len(await _videos(shared))):
        await after.send(await after.begin(most))
    assert len(await _videos(shared)) == most


@in_virtual_time
async def test_uploads_that_fail_again_and_again_use_a_link_up() -> None:
    server = Server(_shared())
    await server.buckets.video.create(keys.places(LINK, MOST_CHANGES), Places().to_json())
    assert await server.places.left(LINK, 5) == 0
    with pytest.raises(UploadLinkUsedUp):
        await server.begin(5)


@pytest.mark.parametrize("name", ["0", "999999998"])
@in_virtual_time
async def test_nobody_gets_a_place_while_it_cannot_be_read_who_holds_them(name: str) -> None:
    server = Server(_shared())
    await server.buckets.video.put(keys.places_of_link(LINK) + name, b"of a newer version")
    with pytest.raises(RecordUnreadable):
        await server.begin(5)
