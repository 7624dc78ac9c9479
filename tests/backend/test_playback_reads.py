"""What never changes is not read again: viewers cost the store nothing, or as much as one viewer."""

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

from backend.core import keys
from backend.core.errors import ObjectNotFound, VideoNotFound
from backend.core.library.captions import store_captions
from backend.core.library.videos import delete_video
from backend.core.recent_reads import RecentReads
from backend.core.store.interface import Buckets, Listing, ObjectInfo, StoredObject
from backend.playback import manifest_reads
from backend.playback.index import IN_PROGRESS_SECONDS, PUBLISHED_SECONDS, PlaybackIndex
from backend.playback.manifest_reads import ManifestReads
from tests.backend.conftest import add_published, begin_run, links_of, publish, upload
from tests.lab.memory_store import MemoryStore

VIEWERS = 200
RUN = "r0-0-abc"
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n1.m4s\n"
ENDED = PLAYLIST + b"#EXT-X-ENDLIST\n"


class CountingStore(MemoryStore):
    """Notes the keys and prefixes that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    async def get(self, key: str) -> StoredObject:
        self.reads.append(key)
        return await super().get(key)

    async def head(self, key: str) -> ObjectInfo:
        self.reads.append(key)
        return await super().head(key)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        self.reads.append(prefix)
        return await super().list_page(prefix, start_after=start_after, limit=limit)


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def buckets(store: CountingStore) -> Buckets:
    return Buckets(raw=MemoryStore(), video=store)


Memory = tuple[Ticks, PlaybackIndex, ManifestReads]


@pytest.fixture
def memory(buckets: Buckets) -> Memory:
    """What an API process remembers, by a clock of its own."""
    ticks = Ticks()
    return ticks, PlaybackIndex(buckets, ticks), ManifestReads(buckets, ticks)


@pytest.fixture
async def root(admin: httpx.AsyncClient, buckets: Buckets, store: CountingStore) -> str:
    """The address of a published run whose manifests have been read once."""
    video = await add_published(admin, buckets, RUN, also={"hls/v.m3u8": ENDED, keys.DASH_MANIFEST: MPD})
    links = await links_of(admin, video)
    root = f"{links['hls'].removesuffix(keys.MASTER_PLAYLIST)}{RUN}"
    for path in MANIFESTS:
        assert (await admin.get(f"{root}/{path}")).status_code == 200
    store.reads.clear()
    return root


MPD = b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>'
MANIFESTS = (keys.MASTER_PLAYLIST, "hls/v.m3u8", keys.DASH_MANIFEST)


async def test_manifests_of_a_published_run_come_from_memory(
    anyone: httpx.AsyncClient, store: CountingStore, root: str
) -> None:
    answers = [await anyone.get(f"{root}/{path}") for path in MANIFESTS]
    again = await anyone.get(f"{root}/hls/v.m3u8", headers={"if-none-match": answers[1].headers["etag"]})
    head = await anyone.head(f"{root}/hls/v.m3u8")

    assert [one.status_code for one in (*answers, again, head)] == [200, 200, 200, 304, 200]
    assert answers[1].content == ENDED
    assert store.reads == []


async def test_redirects_read_nothing(anyone: httpx.AsyncClient, store: CountingStore, root: str) -> None:
    for number in range(20):
        assert (await anyone.get(f"{root}/media/v/{number}.m4s")).status_code == 307

    assert store.reads == []


async def test_deleted_video_is_not_served_from_memory(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, root: str
) -> None:
    for item in (await admin.get("/api/videos")).json()["videos"]:
        await admin.delete(f"/api/videos/{item['id']}")

    for path in (*MANIFESTS, "media/v/1.m4s"):
        assert (await anyone.get(f"{root}/{path}")).status_code == 404


async def test_deletion_by_another_process_ends_what_memory_serves(
    admin: httpx.AsyncClient, buckets: Buckets, memory: Memory
) -> None:
    ticks, index, manifests = memory
    video = await add_published(admin, buckets, RUN)
    await manifests.read(await index.resolve(video), RUN, keys.MASTER_PLAYLIST)
    await delete_video(buckets, video)

    ticks.now = PUBLISHED_SECONDS

    with pytest.raises(VideoNotFound):
        await index.resolve(video)


async def test_guests_who_open_a_video_cost_no_reads_and_notice_changes_at_once(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, store: CountingStore, root: str
) -> None:
    path = f"/api/videos/{(await admin.get('/api/videos')).json()['videos'][0]['id']}"

    async def guest(visibility: str) -> tuple[int, list[str]]:
        await admin.patch(path, json={"visibility": visibility})
        await anyone.get(f"{path}/playback")
        store.reads.clear()
        return (await anyone.get(f"{path}/playback")).status_code, store.reads

    assert await guest("private") == (401, [])
    assert await guest("public") == (200, [])
    await admin.post(f"{path}/captions/en", content=b"WEBVTT\n\n00:01.000 --> 00:02.000\nA\n")
    assert len((await anyone.get(f"{path}/playback")).json()["captions"]) == 1
    assert await guest("private") == (401, [])


async def test_many_viewers_of_a_growing_playlist_cost_one_reader(
    admin: httpx.AsyncClient, buckets: Buckets, memory: Memory, store: CountingStore
) -> None:
    ticks, index, manifests = memory
    video = await upload(admin)
    prefix = await begin_run(buckets, video, RUN)
    await buckets.video.put(f"{prefix}hls/v.m3u8", PLAYLIST)

    async def follow() -> bytes:
        return (await manifests.read(await index.resolve(video), RUN, "hls/v.m3u8")).body

    async def polls(viewers: int) -> list[str]:
        store.reads.clear()
        for _ in range(5):
            assert {*await asyncio.gather(*(follow() for _ in range(viewers)))} == {PLAYLIST}
            ticks.now += IN_PROGRESS_SECONDS
        return sorted(store.reads)

    assert await polls(VIEWERS) == await polls(1)


async def test_growing_playlist_is_as_new_as_the_cache_allows(
    admin: httpx.AsyncClient, buckets: Buckets, memory: Memory
) -> None:
    ticks, index, manifests = memory
    video = await upload(admin)
    prefix = await begin_run(buckets, video, RUN)
    await buckets.video.put(f"{prefix}hls/v.m3u8", PLAYLIST)
    playable = await index.resolve(video)
    await manifests.read(playable, RUN, "hls/v.m3u8")

    await buckets.video.put(f"{prefix}hls/v.m3u8", ENDED)
    ticks.now = IN_PROGRESS_SECONDS - 0.1
    assert (await manifests.read(playable, RUN, "hls/v.m3u8")).body == PLAYLIST
    ticks.now = IN_PROGRESS_SECONDS

    assert (await manifests.read(playable, RUN, "hls/v.m3u8")).body == ENDED


async def test_captions_of_another_process_show_up_within_seconds(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    ticks = Ticks()
    manifests = ManifestReads(buckets, ticks)
    video = await add_published(admin, buckets, RUN, also={keys.DASH_MANIFEST: MPD})
    playable = await PlaybackIndex(buckets, ticks).resolve(video)
    assert b"captions" not in (await manifests.read(playable, RUN, keys.DASH_MANIFEST)).body

    await store_captions(buckets, video, "en", b"WEBVTT\n", label=None, now=datetime.now(UTC))
    ticks.now = PUBLISHED_SECONDS

    assert b"captions/en." in (await manifests.read(playable, RUN, keys.DASH_MANIFEST)).body


async def test_uploaded_captions_are_never_served_from_memory(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, root: str
) -> None:
    video = (await admin.get("/api/videos")).json()["videos"][0]["id"]
    for word in ("one", "two"):
        text = f"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n{word}\n".encode()
        await admin.post(f"/api/videos/{video}/captions/en", content=text)

        links = await links_of(admin, video)
        answer = await anyone.get(links["captions"][-1]["url"])
        assert (answer.content, answer.headers["cache-control"]) == (text, "private, no-cache")


@pytest.mark.parametrize("name", ["#EXT-X-ENDLIST", 'x" type="static'])
async def test_names_of_tracks_do_not_end_a_growing_manifest(
    admin: httpx.AsyncClient, buckets: Buckets, name: str
) -> None:
    ticks = Ticks()
    manifests = ManifestReads(buckets, ticks)
    video = await upload(admin)
    prefix = await begin_run(buckets, video, RUN)
    master = f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,NAME="{name}"\n'.encode()
    mpd = f'<MPD type="dynamic"><Period><Label>{name}</Label></Period></MPD>'.encode()
    await buckets.video.put(f"{prefix}{keys.MASTER_PLAYLIST}", master)
    await buckets.video.put(f"{prefix}{keys.DASH_MANIFEST}", mpd)
    playable = await PlaybackIndex(buckets, ticks).resolve(video)

    for path in (keys.MASTER_PLAYLIST, keys.DASH_MANIFEST):
        assert not (await manifests.read(playable, RUN, path)).is_final


async def test_missing_manifests_are_not_remembered(admin: httpx.AsyncClient, buckets: Buckets) -> None:
    manifests = ManifestReads(buckets, Ticks())
    video = await upload(admin)
    prefix = await begin_run(buckets, video, RUN)
    playable = await PlaybackIndex(buckets, Ticks()).resolve(video)
    with pytest.raises(ObjectNotFound):
        await manifests.read(playable, RUN, "hls/v.m3u8")

    await buckets.video.put(f"{prefix}hls/v.m3u8", PLAYLIST)

    assert (await manifests.read(playable, RUN, "hls/v.m3u8")).body == PLAYLIST


async def test_manifests_in_memory_are_bounded_by_their_bytes(
    admin: httpx.AsyncClient, buckets: Buckets, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_reads, "CACHED_BYTES", 3 * (len(ENDED) + manifest_reads.ENTRY_BYTES))
    manifests = ManifestReads(buckets, Ticks())
    video = await upload(admin)
    paths = [f"hls/{number}.m3u8" for number in range(4)]
    await publish(buckets, video, RUN, also=dict.fromkeys(paths, ENDED))
    playable = await PlaybackIndex(buckets, Ticks()).resolve(video)

    for path in (*paths[:3], paths[0], paths[3]):  # the first is used again, so the second one goes
        await manifests.read(playable, RUN, path)
    store.reads.clear()
    for path in (paths[0], paths[2], paths[3], paths[1]):
        await manifests.read(playable, RUN, path)

    assert store.reads == [keys.run_prefix(video, RUN) + paths[1]]


async def test_read_that_was_forgotten_while_it_ran_is_not_kept() -> None:
    answers = iter(["old", "new"])
    started, finish = asyncio.Event(), asyncio.Event()

    async def read(key: str) -> str:
        answer = next(answers)
        started.set()
        await finish.wait()
        return answer

    recent = RecentReads(read, seconds=100, capacity=10, clock=Ticks())
    first = asyncio.create_task(recent.get("k"))
    await started.wait()
    recent.forget("k")
    finish.set()

    assert (await first, await recent.get("k"), recent.peek("k")) == ("old", "new", "new")


async def test_reads_do_not_outlive_a_clock_that_is_set_back() -> None:
    ticks = Ticks()
    reads: list[str] = []

    async def read(key: str) -> int:
        reads.append(key)
        return len(reads)

    recent = RecentReads(read, seconds=10, capacity=10, clock=ticks)
    ticks.now = 100
    await recent.get("k")
    ticks.now = 50

    assert (recent.peek("k"), await recent.get("k")) == (None, 2)


async def test_viewer_who_leaves_does_not_end_the_read_of_others() -> None:
    finish = asyncio.Event()

    async def read(key: str) -> str:
        await finish.wait()
        return key

    recent = RecentReads(read, seconds=10, capacity=10, clock=Ticks())
    leaving, staying = asyncio.create_task(recent.get("k")), asyncio.create_task(recent.get("k"))
    await asyncio.sleep(0)
    leaving.cancel()
    finish.set()

    assert await staying == "k"
