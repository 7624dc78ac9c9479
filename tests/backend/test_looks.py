"""Files of a look that are not there yet: waited for together, and not for long, if a playlist names them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from litestar import Litestar
from structlog.testing import capture_logs

from backend.core import keys
from backend.core.errors import NotMadeYet, ObjectNotFound, StoreUnavailable
from backend.core.ids import new_id
from backend.core.jobs.wants import Wants
from backend.core.records import CaptionTrack, Chapter, Stage, Status
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets, ObjectInfo
from backend.core.unit_records import Wanted
from backend.playback import looks
from backend.playback.index import Playable
from backend.playback.looks import HOLD_SECONDS, LOOK_SECONDS, LOOKS_PER_SECOND, AwaitedFiles
from backend.playback.manifest_reads import ManifestReads
from backend.web.access_log import AccessLog
from tests.backend.conftest import BEARER, Clock, api_process, links_of, publish, upload
from tests.backend.raw_http import serving
from tests.core.virtual_time import in_virtual_time
from tests.lab.asgi import client_of
from tests.lab.memory_store import MemoryStore

VIEWERS = 200
SEGMENTS = 500
LOOK = "l0-abc"
MASTER = (
    b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="s",URI="aac.m3u8"\n'
    b'#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001e"\nv.m3u8\n'
)
MPD = b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period id="0"/></MPD>'
CAPTIONS = CaptionTrack(path="captions/0-en.vtt", language="en")


def media_playlist(name: str) -> bytes:
    listed = "".join(f"#EXTINF:4,\n../media/{name}/{number:05}.m4s\n" for number in range(1, SEGMENTS + 1))
    head = f'#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="../media/{name}/init.mp4"\n'
    return f"{head}{listed}#EXT-X-ENDLIST\n".encode()


MANIFESTS = {
    keys.MASTER_PLAYLIST: MASTER,
    keys.DASH_MANIFEST: MPD,
    "hls/v.m3u8": media_playlist("v"),
    "hls/aac.m3u8": media_playlist("aac"),
}


class Bucket(MemoryStore):
    """Notes which keys HEAD asks for, and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[str] = []
        self.is_away = False

    async def head(self, key: str) -> ObjectInfo:
        self.heads.append(key)
        if self.is_away:
            raise StoreUnavailable
        return await super().head(key)


@dataclass
class Rig:
    """A look with its playlists and nothing else."""

    awaited: AwaitedFiles
    playable: Playable
    video: Bucket
    raw: MemoryStore

    async def store(self, path: str) -> None:
        await self.video.put(keys.run_prefix(self.playable.video_id, LOOK) + path, b"body")

    async def wait(self, path: str) -> str:
        """Return what became of a request for the file."""
        try:
            await self.awaited.wait(self.playable, path)
        except (NotMadeYet, ObjectNotFound) as error:
            return error.code
        return "stored"

    async def wanted(self) -> int | None:
        return await Wants(self.raw).newest(self.playable.video_id)


async def look() -> Rig:
    clock = asyncio.get_running_loop().time
    video, raw = Bucket(), MemoryStore()
    buckets = Buckets(raw=raw, video=video)
    playable = Playable(new_id(), LOOK, False, "A film", 2000, (CAPTIONS,))
    awaited = AwaitedFiles(buckets, ManifestReads(buckets, clock), Wants(raw))
    for path, body in MANIFESTS.items():
        await video.put(keys.run_prefix(playable.video_id, LOOK) + path, body)
    return Rig(awaited, playable, video, raw)


@in_virtual_time
async def test_all_viewers_of_a_missing_segment_share_one_loop() -> None:
    rig, loop = await look(), asyncio.get_running_loop()
    viewers = [asyncio.create_task(rig.wait("media/v/00400.m4s")) for _ in range(VIEWERS)]
    await asyncio.sleep(3)
    assert await rig.wanted() == 400

    await rig.store("media/v/00400.m4s")

    assert {*await asyncio.gather(*viewers)} == {"stored"}
    assert loop.time() <= 3 + LOOK_SECONDS
    assert len(rig.video.heads) <= 3 / LOOK_SECONDS + 2
    rig.video.heads.clear()
    assert await rig.wait("media/v/00400.m4s") == "stored"
    assert rig.video.heads == []


@in_virtual_time
async def test_a_segment_that_does_not_come_is_given_up_before_players_do() -> None:
    rig, loop = await look(), asyncio.get_running_loop()

    assert await rig.wait("media/v/00400.m4s") == "not_made_yet"
    assert loop.time() == HOLD_SECONDS
    assert await rig.wait("media/v/00400.m4s") == "not_made_yet"  # the next request waits again
    assert loop.time() == 2 * HOLD_SECONDS


@pytest.mark.parametrize(
    "path",
    [
        "media/v/00501.m4s",
        "media/v/00000.m4s",
        "media/v/1.m4s",
        "media/v/00001.m4s.m4s",
        "media/v/hls/00001.m4s",
        "media/x/00001.m4s",
        "media/x/init.mp4",
        "media/v",
        "media/../v/00001.m4s",
    ],
)
@in_virtual_time
async def test_files_that_no_playlist_names_are_not_waited_for(path: str) -> None:
    rig, loop = await look(), asyncio.get_running_loop()

    assert await rig.wait(path) == "object_not_found"
    assert (loop.time(), rig.video.heads, await rig.wanted()) == (0, [], None)


@in_virtual_time
async def test_files_that_looks_may_lack_are_not_waited_for() -> None:
    rig = await look()

    for path in (keys.POSTER, "storyboard/001.jpg", "captions/1-de.vtt", "captions/en.0a.vtt"):
        assert await rig.wait(path) == "stored"  # what is stored there is for others to find out
    assert rig.video.heads == []


@pytest.mark.parametrize("path", ["media/v/init.mp4", CAPTIONS.path])
@in_virtual_time
async def test_other_files_are_waited_for_without_asking_the_worker(path: str) -> None:
    rig = await look()
    viewer = asyncio.create_task(rig.wait(path))
    await asyncio.sleep(5)
    await rig.store(path)

    assert (await viewer, await rig.wanted()) == ("stored", None)


@in_virtual_time
async def test_the_worker_is_asked_for_what_the_newest_viewer_wants() -> None:
    rig = await look()
    first = asyncio.create_task(rig.wait("media/v/00100.m4s"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(rig.wait("media/v/00300.m4s"))
    await asyncio.sleep(1)
    assert await rig.wanted() == 300

    await rig.store("media/v/00300.m4s")
    assert (await first, await second) == ("not_made_yet", "stored")
    again = asyncio.create_task(rig.wait("media/v/00100.m4s"))
    await asyncio.sleep(0.1)

    assert await rig.wanted() == 100
    again.cancel()


@in_virtual_time
async def test_a_viewer_of_what_is_there_does_not_change_what_others_want() -> None:
    rig = await look()
    await rig.store("media/v/00001.m4s")
    waiting = asyncio.create_task(rig.wait("media/v/00300.m4s"))
    await asyncio.sleep(0.1)
    assert await rig.wait("media/v/00001.m4s") == "stored"

    await asyncio.sleep(5)

    assert Wanted.from_json((await rig.raw.get(keys.wanted(rig.playable.video_id))).body).segment == 300
    waiting.cancel()


@in_virtual_time
async def test_a_loop_ends_by_itself_when_its_viewers_have_left() -> None:
    rig = await look()
    viewers = [asyncio.create_task(rig.wait("media/v/00400.m4s")) for _ in range(2)]
    await asyncio.sleep(1)
    viewers[0].cancel()
    await asyncio.sleep(1)
    await rig.store("media/v/00400.m4s")
    assert await viewers[1] == "stored"

    last = asyncio.create_task(rig.wait("media/v/00401.m4s"))
    await asyncio.sleep(1)
    last.cancel()
    await asyncio.sleep(HOLD_SECONDS)
    rig.video.heads.clear()
    await asyncio.sleep(60)

    assert rig.video.heads == []


@in_virtual_time
async def test_however_many_segments_are_waited_for_the_store_is_asked_at_a_bounded_rate() -> None:
    rig, loop = await look(), asyncio.get_running_loop()
    paths = [f"media/v/{number:05}.m4s" for number in range(1, SEGMENTS + 1)]
    waits = [asyncio.create_task(rig.wait(path)) for path in paths]

    assert {*await asyncio.gather(*waits)} == {"not_made_yet"}
    assert loop.time() == HOLD_SECONDS
    assert len(rig.video.heads) <= SEGMENTS + HOLD_SECONDS * LOOKS_PER_SECOND


@in_virtual_time
async def test_when_too_many_requests_wait_others_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "MAX_WAITING", 2)
    rig, loop = await look(), asyncio.get_running_loop()
    await rig.store("media/v/00001.m4s")
    waits = [asyncio.create_task(rig.wait(f"media/v/{number:05}.m4s")) for number in (400, 401)]
    await asyncio.sleep(1)

    assert await rig.wait("media/v/00400.m4s") == "not_made_yet"
    assert await rig.wait("media/v/00001.m4s") == "stored"
    assert loop.time() == 1
    await asyncio.gather(*waits)
    waits = [asyncio.create_task(rig.wait("media/v/00402.m4s"))]
    await asyncio.sleep(1)
    assert not waits[0].done()


@in_virtual_time
async def test_requests_are_held_through_an_outage() -> None:
    rig = await look()
    viewer = asyncio.create_task(rig.wait("media/v/00400.m4s"))
    await asyncio.sleep(1)
    rig.video.is_away = True
    await asyncio.sleep(5)
    await rig.store("media/v/00400.m4s")
    rig.video.is_away = False

    assert await viewer == "stored"


# The whole API.


@dataclass
class Api:
    app: Litestar
    admin: httpx.AsyncClient
    anyone: httpx.AsyncClient
    buckets: Buckets
    video: str
    root: str
    """The address of the look below the grant of a guest, as the video is public."""

    async def store(self, path: str) -> None:
        await self.buckets.video.put(keys.run_prefix(self.video, LOOK) + path, b"body")

    def ask(self, path: str, method: str = "GET") -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(self.anyone.request(method, f"{self.root}/{path}"))


@asynccontextmanager
async def api(settings: ApiSettings) -> AsyncIterator[Api]:
    """An API process whose only video has a look."""
    buckets = Buckets(raw=MemoryStore(), video=Bucket())
    async with (
        api_process(settings, buckets, Clock()) as app,
        client_of(app, "http://vod.example", BEARER) as admin,
        client_of(app, "http://vod.example") as anyone,
    ):
        video = await upload(admin)
        await admin.patch(f"/api/videos/{video}", json={"visibility": "public"})
        prefix = keys.run_prefix(video, LOOK)
        for path, body in MANIFESTS.items():
            await buckets.video.put(prefix + path, body)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        status = Status.queued(video, now).at_stage(
            Stage.TRANSCODING,
            now,
            playable=True,
            outputs=prefix,
            duration_seconds=2000,
            captions=(CAPTIONS,),
            chapters=(Chapter(start_seconds=0, end_seconds=9, title="One"),),
        )
        await buckets.video.put(keys.status(video), status.to_json())
        root = (await links_of(anyone, video))["hls"].removesuffix(f"/{keys.MASTER_PLAYLIST}")
        yield Api(app, admin, anyone, buckets, video, f"{root}/{LOOK}")


@in_virtual_time
async def test_players_are_sent_to_a_segment_once_it_is_there(settings: ApiSettings) -> None:
    async with api(settings) as rig:
        waiting, head = rig.ask("media/v/00400.m4s"), rig.ask("media/v/00400.m4s", "HEAD")
        await asyncio.sleep(3)
        assert not waiting.done()
        await rig.store("media/v/00400.m4s")

        answer = await waiting
        assert answer.status_code == 307
        assert f"{LOOK}/media/v/00400.m4s" in answer.headers["location"]
        assert answer.headers["cache-control"].startswith("private, max-age=")
        assert (await head).headers["content-length"] == "4"

        captions = rig.ask(CAPTIONS.path)
        await asyncio.sleep(3)
        await rig.store(CAPTIONS.path)
        assert (await captions).content == b"body"


@in_virtual_time
async def test_players_are_told_when_to_ask_again(settings: ApiSettings) -> None:
    async with api(settings) as rig:
        transport = httpx.ASGITransport(AccessLog(rig.app))
        async with httpx.AsyncClient(transport=transport, base_url="http://vod.example") as client:
            with capture_logs() as lines:
                answer = await client.get(f"{rig.root}/media/v/00400.m4s")

        assert (answer.status_code, answer.json()["code"]) == (503, "not_made_yet")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["cache-control"] == "no-store"
        assert lines == []  # nothing has failed
        assert (await rig.ask("media/v/00501.m4s")).status_code == 404
        assert asyncio.get_running_loop().time() == HOLD_SECONDS


async def make_private(rig: Api) -> None:
    await rig.admin.patch(f"/api/videos/{rig.video}", json={"visibility": "private"})


async def delete(rig: Api) -> None:
    await rig.admin.delete(f"/api/videos/{rig.video}")


@pytest.mark.parametrize(("change", "code"), [(make_private, "grant_rejected"), (delete, "object_not_found")])
@pytest.mark.parametrize("path", ["media/v/00400.m4s", CAPTIONS.path])
@in_virtual_time
async def test_access_that_ends_during_the_wait_opens_nothing(
    settings: ApiSettings, change: Callable[[Api], Awaitable[None]], code: str, path: str
) -> None:
    async with api(settings) as rig:
        waiting = rig.ask(path)
        await asyncio.sleep(3)
        await change(rig)
        await rig.store(path)  # a worker that has not noticed yet

        assert (await waiting).json()["code"] == code


@in_virtual_time
async def test_viewers_of_a_look_go_on_after_publication(settings: ApiSettings) -> None:
    async with api(settings) as rig:
        master = await rig.ask(keys.MASTER_PLAYLIST)
        waiting = rig.ask("media/v/00400.m4s")
        await asyncio.sleep(3)
        await rig.store("media/v/00400.m4s")
        await publish(rig.buckets, rig.video, captions=[CAPTIONS])
        rig.app.state.services.forget(rig.video)

        assert (await waiting).status_code == 307
        for path in MANIFESTS:
            assert (await rig.ask(path)).status_code == 200
        assert (await rig.ask(keys.MASTER_PLAYLIST)).text == master.text
        assert (await rig.ask("media/v/00401.m4s")).status_code == 307  # without a wait: all is there
        latest = await rig.anyone.get(rig.root.replace(LOOK, keys.MASTER_PLAYLIST))
        assert latest.headers["location"] == f"../r0-0-abc/{keys.MASTER_PLAYLIST}"


async def test_a_look_has_final_playlists_with_captions(settings: ApiSettings) -> None:
    async with api(settings) as rig:
        entry = await rig.anyone.get(rig.root.replace(LOOK, keys.MASTER_PLAYLIST))
        assert entry.headers["location"] == f"../{LOOK}/{keys.MASTER_PLAYLIST}"
        assert entry.headers["cache-control"] == "private, no-cache"

        playlist = await rig.ask("hls/v.m3u8")
        assert playlist.headers["cache-control"] == "private, max-age=900, immutable"
        for path in (keys.MASTER_PLAYLIST, keys.DASH_MANIFEST):
            assert "captions/0-en." in (await rig.ask(path)).text
        of_captions = await rig.ask("captions/0-en.m3u8")
        assert "#EXTINF:2000.000,\n0-en.vtt\n#EXT-X-ENDLIST" in of_captions.text

        text = "WEBVTT\n\n00:01.000 --> 00:02.000\nA\n"
        await rig.admin.post(f"/api/videos/{rig.video}/captions/de", content=text)
        assert "captions/de." in (await rig.ask(keys.MASTER_PLAYLIST)).text


async def test_a_look_has_chapters_captions_and_those_pictures_that_are_there(settings: ApiSettings) -> None:
    async with api(settings) as rig:
        links = await links_of(rig.admin, rig.video)
        assert (links["poster"], links["storyboard"], links["webm"]) == (None, None, None)
        assert [one["title"] for one in links["chapters"]] == ["One"]
        assert links["captions"][0]["url"].endswith(f"/{CAPTIONS.path}")
        details = (await rig.admin.get(f"/api/videos/{rig.video}")).json()
        assert [one["title"] for one in details["chapters"]] == ["One"]

        await rig.store(keys.STORYBOARD)
        links = await links_of(rig.admin, rig.video)
        assert links["poster"] is None
        assert links["storyboard"].endswith(f"/{LOOK}/{keys.STORYBOARD}")


async def test_viewers_who_wait_do_not_delay_a_stop(
    settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "HOLD_SECONDS", 1000)
    async with api(settings) as rig:
        async with serving(rig.app, on_stop=rig.app.state.services.looks.end) as server:
            viewers = [await server.connect() for _ in range(3)]
            for viewer in viewers:
                await viewer.send_head(f"GET {rig.root}/media/v/00400.m4s")
            while await Wants(rig.buckets.raw).newest(rig.video) is None:  # noqa: ASYNC110  # a bucket has no events
                await asyncio.sleep(0)
            server.stop()
            answers = [await viewer.whole_answer() for viewer in viewers]

        assert {one.status for one in answers} == {503}
