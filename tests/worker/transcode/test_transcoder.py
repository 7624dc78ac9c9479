"""The whole pipeline on short real clips: what comes out, and what is rejected or retried."""

import asyncio
import json
import re
import struct
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed, SourceRejected, StoreError, StoreUnavailable
from backend.core.records import Stage
from backend.core.store.interface import PLAIN, Body, ObjectHeaders
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import H264, RUN, TOOLS, CutStore, MediaLab, ffmpeg, picture, tone
from tests.worker.output.webm_file import index_of
from worker.output.playlists import parse_playlist
from worker.output.webm import cues_come_first
from worker.transcode.transcoder import EncodingProfile


@pytest.fixture
def lab(tmp_path: Path) -> MediaLab:
    (tmp_path / "work").mkdir()
    return MediaLab(tmp_path / "work")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds with audio, with the index at the end as cameras write it."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    ffmpeg(*picture(seconds=3), *tone(3), *H264, "-b:v", "3M", "-c:a", "aac", "-shortest", str(path))
    return path


def streams_of(path: Path) -> list[dict[str, object]]:
    shown = ("-v", "error", "-show_entries", "stream=codec_name,width,height,duration", "-of", "json")
    done = subprocess.run([TOOLS.ffprobe, *shown, str(path)], check=True, capture_output=True, timeout=60)
    streams: list[dict[str, object]] = json.loads(done.stdout)["streams"]
    return streams


async def test_clip_becomes_hls_dash_webm_and_poster(lab: MediaLab, clip: Path, tmp_path: Path) -> None:
    result = await lab.transcode(clip)

    assert result.qualities == ("180p",)
    assert [rendition.name for rendition in result.renditions] == ["av1-180p", "h264-180p", "aac"]
    assert sorted(object_.path for object_ in result.objects) == await lab.paths()
    master = parse_playlist("hls/master.m3u8", await lab.output("hls/master.m3u8"))
    videos = [f"hls/{codec}-180p{kind}.m3u8" for codec in ("av1", "h264") for kind in ("", "-iframes")]
    assert set(master.names) == {*videos, "hls/aac.m3u8"}
    for name in master.names:
        playlist = parse_playlist(name, await lab.output(name))
        assert playlist.finished
        assert playlist.duration_seconds == pytest.approx(3, abs=0.1)
        assert len(playlist.segments) == 3
    manifest = await lab.output("dash/manifest.mpd")
    assert b"127.0.0.1" not in manifest
    assert b'type="static"' in manifest
    webm = tmp_path / "out.webm"
    webm.write_bytes(await lab.output("download.webm"))
    assert [stream["codec_name"] for stream in streams_of(webm)] == ["av1", "opus"]
    assert cues_come_first(webm.read_bytes())
    poster = tmp_path / "poster.jpg"
    poster.write_bytes(await lab.output("poster.jpg"))
    assert (streams_of(poster)[0]["width"], streams_of(poster)[0]["height"]) == (320, 180)
    assert lab.left_in_work_dir() == []
    assert lab.reports[0].stage is Stage.TRANSCODING
    assert lab.reports[-1].stage is Stage.FINALIZING
    assert lab.reports[-1].playable


async def test_codecs_have_keyframes_at_the_same_times(lab: MediaLab, tmp_path: Path) -> None:
    source = tmp_path / "ntsc.mp4"
    ffmpeg(*picture(rate="30000/1001", seconds=3), *H264, str(source))

    await lab.transcode(source)

    instants = [
        [line for line in (await lab.output(f"hls/{codec}-180p.m3u8")).splitlines() if b"#EXTINF" in line]
        for codec in ("av1", "h264")
    ]
    assert instants[0] == instants[1]
    assert len(instants[0]) == 3


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        pytest.param(
            (*picture("180x320"), *tone(0.5), *H264, "-ac", "1"),
            (180, 320),
            id="vertical-mono-that-ends-early",
        ),
        pytest.param((*picture("319x181"), *H264, "-pix_fmt", "yuv444p"), (318, 180), id="odd-size-no-audio"),
        pytest.param(
            (*picture(rate="60", seconds=0.2), *tone(0.2), *H264, "-ac", "6"),
            (320, 180),
            id="a-fifth-of-a-second-60-fps-six-channels",
        ),
        pytest.param(
            (*picture(), *tone(), *H264, "-vf", "select=not(eq(mod(n\\,5)\\,1))", "-fps_mode", "vfr"),
            (320, 180),
            id="variable-rate",
        ),
        pytest.param((*picture(seconds=1), *tone(12), *H264), (320, 180), id="picture-that-ends-early"),
    ],
)
async def test_unusual_sources_work(
    lab: MediaLab, tmp_path: Path, made: tuple[str, ...], shape: tuple[int, int]
) -> None:
    source = tmp_path / "source.mp4"
    ffmpeg(*made, str(source))

    result = await lab.transcode(source)

    video = next(rendition for rendition in result.renditions if rendition.kind == "video")
    assert (video.width, video.height) == shape
    assert keys.POSTER in await lab.paths()


async def test_audio_only_becomes_hls_and_an_opus_webm(lab: MediaLab, tmp_path: Path) -> None:
    source = tmp_path / "sound.m4a"
    ffmpeg(*tone(), "-c:a", "aac", str(source))
    lab.profile = replace(lab.profile, downloads=("webm", "mp4"))

    result = await lab.transcode(source)

    assert [rendition.name for rendition in result.renditions] == ["aac"]
    mp4 = tmp_path / "out.mp4"
    mp4.write_bytes(await lab.output(keys.DOWNLOAD_MP4))
    assert [stream["codec_name"] for stream in streams_of(mp4)] == ["aac"]
    assert keys.POSTER in await lab.paths()
    index = index_of(await lab.output(keys.DOWNLOAD))
    assert [position for _, position in index.cues] == list(index.clusters)


async def test_h264_only_ladder_still_has_an_av1_webm(lab: MediaLab, clip: Path, tmp_path: Path) -> None:
    lab.profile = EncodingProfile(codecs=("h264",), segment_seconds=1)

    result = await lab.transcode(clip)

    assert [rendition.name for rendition in result.renditions] == ["h264-180p", "aac"]
    webm = tmp_path / "out.webm"
    webm.write_bytes(await lab.output("download.webm"))
    assert [stream["codec_name"] for stream in streams_of(webm)] == ["av1", "opus"]
    assert [time for time, _ in index_of(webm.read_bytes()).cues] == [0, 1000, 2000]


@pytest.mark.parametrize("body", [b"", b"Dear diary, this is no video.\n" * 100, bytes(range(256)) * 400])
async def test_rejects_other_files_with_a_message(lab: MediaLab, tmp_path: Path, body: bytes) -> None:
    source = tmp_path / "letter.mp4"
    source.write_bytes(body)

    with pytest.raises(SourceRejected, match="This file is not a video"):
        await lab.transcode(source)

    assert lab.left_in_work_dir() == []


async def test_rejects_undecodable_video_at_once(lab: MediaLab, tmp_path: Path) -> None:
    source = tmp_path / "zeroed.mp4"
    ffmpeg(*picture(seconds=1), *H264, "-movflags", "+faststart", str(source))
    whole = source.read_bytes()
    frames = whole.index(b"mdat") + 4
    source.write_bytes(whole[:frames] + bytes(len(whole) - frames))

    with pytest.raises(SourceRejected, match="h264") as refusal:
        await lab.transcode(source)

    assert refusal.value.failure_code == "unsupported_codec"


@pytest.mark.parametrize(
    "disguise",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}seg.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {url}seg.ts\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S"><Period><AdaptationSet><Representation id="1" bandwidth="1" '
        'mimeType="video/mp4"><BaseURL>{url}seg.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["hls", "concat", "dash", "sdp"],
)
async def test_disguised_playlist_opens_no_address(lab: MediaLab, tmp_path: Path, disguise: str) -> None:
    hits: list[bytes] = []

    async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(canary, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = tmp_path / "playlist.mp4"
    source.write_text(disguise.format(url=f"http://127.0.0.1:{port}/"))

    async with server:
        with pytest.raises(SourceRejected):
            await lab.transcode(source)

    assert hits == []


@pytest.mark.parametrize("error", [StoreUnavailable(), None], ids=["connection-cut", "ends-early"])
async def test_resumes_a_source_after_repeated_disconnects(
    lab: MediaLab, clip: Path, error: StoreError | None
) -> None:
    size = clip.stat().st_size
    raw = CutStore(lab.memory, bytes_per_read=size // 8, cuts=6, error=error)

    result = await lab.transcode(clip, raw)

    assert raw.reads > 6
    assert result.duration_seconds == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("error", [StoreUnavailable(), None], ids=["connection-cut", "ends-early"])
async def test_disconnected_source_never_becomes_a_short_video(
    lab: MediaLab, tmp_path: Path, error: StoreError | None
) -> None:
    lab.profile = EncodingProfile(segment_seconds=1, patience_seconds=1)
    source = tmp_path / "fast.mkv"
    ffmpeg(*picture(seconds=3), *tone(3), *H264, "-b:v", "3M", "-c:a", "aac", str(source))
    raw = HalfStore(lab.memory, source.stat().st_size // 2, error)

    with pytest.raises((AttemptFailed, StoreUnavailable)):
        await lab.transcode(source, raw)

    assert lab.left_in_work_dir() == []


class HalfStore(CutStore):
    """Never delivers the second half."""

    def __init__(self, inner: MemoryStore, half: int, error: Exception | None) -> None:
        super().__init__(inner, half, 10**9, error)

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        body = (await self.inner.get(key)).body[offset : self.bytes_per_read]
        if body:
            yield body
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("path", [keys.DOWNLOAD, keys.DOWNLOAD_MP4])
async def test_store_failure_for_a_download_fails_the_attempt_and_leaves_no_file(
    lab: MediaLab, tmp_path: Path, path: str
) -> None:
    class Failing(MemoryStore):
        async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
            if key.endswith(path):
                raise StoreUnavailable
            await super().put(key, body, headers)

    source = tmp_path / "sound.m4a"
    ffmpeg(*tone(1), "-c:a", "aac", str(source))
    lab.video = Failing()
    lab.profile = replace(lab.profile, downloads=("webm", "mp4"))

    with pytest.raises(StoreUnavailable):
        await lab.transcode(source)

    assert lab.left_in_work_dir() == []
    assert children_in(lab.work_dir) == []


async def test_source_of_the_wrong_size_is_not_processed(lab: MediaLab, clip: Path) -> None:
    job = await lab.job(clip.read_bytes())

    with pytest.raises(AttemptFailed):
        await lab.transcoder().run(
            job.replace(source_size_bytes=job.source_size_bytes + 1), RUN, lab.reports.append
        )


async def test_missing_source_is_not_a_store_outage(lab: MediaLab, clip: Path) -> None:
    job = await lab.job(clip.read_bytes())
    await lab.memory.delete(job.source)

    with pytest.raises(AttemptFailed, match="no longer exists"):
        await lab.transcoder().run(job, RUN, lab.reports.append)


async def test_cancellation_ends_every_process_and_deletes_the_directory(
    lab: MediaLab, tmp_path: Path
) -> None:
    source = tmp_path / "long.mp4"
    ffmpeg(*picture("640x360", seconds=60), *tone(60), *H264, "-c:a", "aac", str(source))
    job = await lab.job(source.read_bytes())
    task = asyncio.create_task(lab.transcoder().run(job, RUN, lab.reports.append))
    while not children_in(lab.work_dir):
        await asyncio.sleep(0.05)
        assert not task.done()

    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task

    assert children_in(lab.work_dir) == []
    assert lab.left_in_work_dir() == []


def children_in(directory: Path) -> list[int]:
    """Return the pids of processes whose working directory is below this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append(int(process.name))
        except OSError:
            continue
    return found


async def test_rejects_a_file_longer_than_it_claims(lab: MediaLab, tmp_path: Path) -> None:
    source = tmp_path / "gap.mkv"
    gap = ("-vf", "setpts=PTS+gte(N\\,12)*60/TB", "-fps_mode", "vfr")
    ffmpeg(*picture("160x90", seconds=1), *H264, *gap, str(source))
    body = source.read_bytes()
    duration = body.index(b"\x44\x89\x88") + 3  # the Duration element of Matroska (RFC 9559): 8 bytes, ms
    body = body[:duration] + struct.pack(">d", 1000.0) + body[duration + 8 :]
    source.write_bytes(re.sub(rb"00:01:\d\d(\.\d{9})", rb"00:00:01\1", body))

    with pytest.raises(SourceRejected, match="longer than it claims") as refused:
        await lab.transcode(source)

    assert refused.value.failure_code == "duration_mismatch"


async def test_stops_an_encoder_that_never_ends(lab: MediaLab, clip: Path, tmp_path: Path) -> None:
    endless = tmp_path / "ffmpeg"
    endless.write_text("#!/bin/sh\necho out_time_us=13000000\necho out_time_us=13400000\nexec sleep 1000\n")
    endless.chmod(0o755)
    lab.profile = EncodingProfile(stall_seconds=2)
    transcoder = lab.transcoder()
    transcoder._tools = type(transcoder._tools)(
        endless, transcoder._tools.ffprobe, transcoder._tools.packager
    )

    with pytest.raises(SourceRejected, match="longer than it claims"):
        await transcoder.run(await lab.job(clip.read_bytes()), RUN, lab.reports.append)

    assert lab.left_in_work_dir() == []


async def test_kills_an_encoder_that_hangs(lab: MediaLab, clip: Path, tmp_path: Path) -> None:
    hanging = tmp_path / "ffmpeg"
    hanging.write_text("#!/bin/sh\nexec sleep 1000\n")
    hanging.chmod(0o755)
    lab.profile = EncodingProfile(stall_seconds=1)
    transcoder = lab.transcoder()
    transcoder._tools = type(transcoder._tools)(
        hanging, transcoder._tools.ffprobe, transcoder._tools.packager
    )

    with pytest.raises(AttemptFailed) as failed:
        await transcoder.run(await lab.job(clip.read_bytes()), RUN, lab.reports.append)

    assert failed.value.failure_code == "stalled"
    assert lab.left_in_work_dir() == []
