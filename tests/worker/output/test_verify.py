"""The final check before a source is deleted: anything missing, short or open fails the attempt."""

import re
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace

import pytest

from backend.core.errors import AttemptFailed, StoreUnavailable
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import TOOLS
from worker.encode.ladder import EncodingPlan, audio_streams
from worker.output.verify import verify_outputs, verify_webm
from worker.sandbox.activity import ActivityClock
from worker.source.media import AudioInfo, MediaInfo

PREFIX = "videos/v/r0-0-a/"
SEGMENT_SECONDS = 4.0
TRACKS = (AudioInfo(0, "aac", 2, 48_000),)
SOUND = EncodingPlan(video=(), fps=None, audio=audio_streams(TRACKS))
TEN_SECONDS = MediaInfo("mov", 10.0, audio=TRACKS)
MEDIA_PLAYLIST = b"""#EXTM3U
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-MAP:URI="../media/aac/init.mp4"
#EXTINF:4.0,
../media/aac/00001.m4s
#EXTINF:4.0,
../media/aac/00002.m4s
#EXTINF:2.0,
../media/aac/00003.m4s
#EXT-X-ENDLIST
"""
MANIFEST = b"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>
<Representation><SegmentTemplate timescale="1" initialization="../media/aac/init.mp4"
 media="../media/aac/$Number%05d$.m4s" startNumber="1"
><SegmentTimeline><S t="0" d="4" r="1"/><S t="8" d="2"/></SegmentTimeline></SegmentTemplate>
</Representation></AdaptationSet></Period></MPD>"""
WHOLE = {
    "hls/master.m3u8": b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="aac.m3u8"\n',
    "hls/aac.m3u8": MEDIA_PLAYLIST,
    "dash/manifest.mpd": MANIFEST,
    "media/aac/init.mp4": b"init",
    "media/aac/00001.m4s": b"one",
    "media/aac/00002.m4s": b"two",
    "media/aac/00003.m4s": b"three",
    "download.webm": b"webm",
}


async def _verify(
    stored: dict[str, bytes],
    written: dict[str, bytes] | None = None,
    *,
    media: MediaInfo = TEN_SECONDS,
    plan: EncodingPlan = SOUND,
    webm_seconds: float = 10.0,
) -> list[str]:
    store = MemoryStore()
    for path, body in stored.items():
        await store.put(PREFIX + path, body)
    sizes = {path: len(body) for path, body in (written or stored).items()}
    found = await verify_outputs(store, PREFIX, plan, media, sizes, webm_seconds, SEGMENT_SECONDS)
    return [one.path for one in found.objects]


async def test_lists_complete_outputs() -> None:
    assert await _verify(WHOLE) == sorted(WHOLE)


async def test_lost_segment_fails() -> None:
    stored = {path: body for path, body in WHOLE.items() if path != "media/aac/00002.m4s"}
    with pytest.raises(AttemptFailed, match=r"00002\.m4s"):
        await _verify(stored, WHOLE)


async def test_truncated_segment_fails() -> None:
    with pytest.raises(AttemptFailed, match=r"00003\.m4s"):
        await _verify({**WHOLE, "media/aac/00003.m4s": b"thr"}, WHOLE)


async def test_segment_that_was_never_written_fails() -> None:
    written = {path: body for path, body in WHOLE.items() if path != "media/aac/00002.m4s"}
    with pytest.raises(AttemptFailed, match=r"names objects that are not stored: media/aac/00002\.m4s"):
        await _verify(written)


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        ("hls/aac.m3u8", b"#EXT-X-ENDLIST\n", b"", "is not final"),
        ("hls/aac.m3u8", b"TYPE:VOD", b"TYPE:EVENT", "is not final"),
        ("dash/manifest.mpd", b'"static"', b'"dynamic"', "is not final"),
        ("dash/manifest.mpd", b' r="1"', b"", "different segments"),
        ("hls/master.m3u8", b"aac.m3u8", b"../download.webm", "does not name every rendition"),
        ("hls/aac.m3u8", b"#EXTINF:4.0", b"#EXTINF:2.5", "lasts 10.0 s, but aac lasts only 7.0 s"),
    ],
    ids=[
        "no-endlist",
        "growing",
        "dynamic-manifest",
        "manifest-short",
        "rendition-unnamed",
        "rendition-short",
    ],
)
async def test_open_short_or_incomplete_playlists_fail(path: str, old: bytes, new: bytes, says: str) -> None:
    with pytest.raises(AttemptFailed, match=re.escape(says)):
        await _verify({**WHOLE, path: WHOLE[path].replace(old, new)})


@pytest.mark.parametrize(("seconds", "passes"), [(9.0, True), (12.5, False)])
async def test_compares_renditions_with_each_other_without_an_index(seconds: float, passes: bool) -> None:
    guess = replace(TEN_SECONDS, duration_seconds=4.0, duration_is_reliable=False)
    tracks = (replace(TRACKS[0], end_seconds=4.0), AudioInfo(1, "aac", 2, 48_000, end_seconds=4.0))
    second = {path.replace("aac", "aac-2"): body.replace(b"aac", b"aac-2") for path, body in WHOLE.items()}
    second["hls/aac-2.m3u8"] = second["hls/aac-2.m3u8"].replace(
        b"#EXTINF:2.0", f"#EXTINF:{seconds - 8}".encode()
    )
    both = {**second, **WHOLE}
    both["hls/master.m3u8"] += second["hls/master.m3u8"]
    sets = MANIFEST.partition(b"<AdaptationSet>")[2].partition(b"</AdaptationSet>")[0]
    both["dash/manifest.mpd"] = MANIFEST.replace(sets, sets + sets.replace(b"aac", b"aac-2"))
    plan = EncodingPlan(video=(), fps=None, audio=audio_streams(tracks))

    with nullcontext() if passes else pytest.raises(AttemptFailed, match="aac lasts"):
        assert await _verify(both, media=replace(guess, audio=tracks), plan=plan)


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize(("seconds", "says"), [(7.0, "lasts only 7.0 s"), (13.0, "lasts 13.0 s")])
async def test_webm_of_another_duration_than_the_renditions_fails(
    seconds: float, says: str, sure: bool
) -> None:
    media = TEN_SECONDS if sure else replace(TEN_SECONDS, duration_seconds=None, duration_is_reliable=False)

    with pytest.raises(AttemptFailed, match=says):
        await _verify(WHOLE, media=media, webm_seconds=seconds)


class AwayStore(MemoryStore):
    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        raise StoreUnavailable
        yield b""


async def test_mp4_of_another_duration_fails() -> None:
    sizes = {path: len(body) for path, body in WHOLE.items()}
    store = MemoryStore()
    for path, body in WHOLE.items():
        await store.put(PREFIX + path, body)

    with pytest.raises(AttemptFailed, match=r"download\.mp4 lasts only 7\.9 s"):
        await verify_outputs(store, PREFIX, SOUND, TEN_SECONDS, sizes, 10.0, SEGMENT_SECONDS, 7.9)


async def test_outage_of_the_store_is_not_a_broken_webm() -> None:
    store = AwayStore()
    await store.put(f"{PREFIX}download.webm", b"webm")

    with pytest.raises(StoreUnavailable):
        await verify_webm(TOOLS, store, PREFIX, SOUND, 0, ActivityClock())
