"""Telling a broken file from a failed attempt."""

from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import pytest

from backend.core.errors import SourceRejected
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture, tone
from tests.worker.source.test_probe import served
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.exit_codes import OUT_OF_MEMORY, REFUSED
from worker.source.feeder import SourceFeeder
from worker.source.media import MediaInfo, VideoInfo
from worker.transcode.diagnosis import DURATION_MISMATCH, DecodedStream, check_streams, diagnose_source

TOLERANCE = 0.5


async def examine(source: Path, index: int = 0, claimed_seconds: float | None = None) -> list[None]:
    """Return one entry per sign of progress."""
    signs: list[None] = []
    stream = DecodedStream(index, "the picture", "h264", claimed_seconds, is_picture=index == 0)
    async with served(source) as url:
        await check_streams(TOOLS, url, (stream,), TOLERANCE, lambda: signs.append(None))
    return signs


@pytest.mark.parametrize("index", [0, 1])
async def test_accepts_an_intact_file(tmp_path: Path, index: int) -> None:
    source = tmp_path / "film.mkv"
    ffmpeg(*picture(seconds=2), *tone(2), *H264, "-c:a", "flac", str(source))

    assert await examine(source, index, claimed_seconds=2)


async def test_decodes_av1_though_ffprobe_cannot(tmp_path: Path) -> None:
    source = tmp_path / "film.webm"
    ffmpeg(*picture(seconds=1), "-c:v", "libsvtav1", "-preset", "12", str(source))

    assert await examine(source)


async def test_rejects_a_file_shorter_than_it_claims(tmp_path: Path) -> None:
    source = tmp_path / "film.mkv"
    ffmpeg(*picture(seconds=2), *H264, str(source))

    with pytest.raises(SourceRejected, match=r"to last 3\.0 s, but the picture ends after") as refused:
        await examine(source, claimed_seconds=3)

    assert refused.value.failure_code == "duration_mismatch"


@pytest.mark.parametrize(
    ("for_code", "seconds", "code"),
    [
        (REFUSED, 1.0, "source_damaged"),
        (OUT_OF_MEMORY, 1.0, "source_damaged"),
        (DURATION_MISMATCH, 30.0, "duration_mismatch"),
        ("encoder_failed", 30.0, None),
        (DURATION_MISMATCH, 1.0, None),
    ],
)
async def test_diagnosis_of_a_decodable_file_depends_on_the_failure(
    tmp_path: Path, for_code: str, seconds: float, code: str | None
) -> None:
    source = tmp_path / "film.ts"
    ffmpeg(*picture(seconds=1), *H264, str(source))
    video = VideoInfo(0, 320, 180, "h264", "yuv420p", Fraction(24), Fraction(24))
    guessed = MediaInfo("mpegts", seconds, duration_is_reliable=False, video=video)
    found = None

    async with served(source) as url:
        try:
            await diagnose_source(TOOLS, url, guessed, TOLERANCE, lambda: None, for_code=for_code)
        except SourceRejected as refused:
            found = refused.failure_code

    assert found == code


async def test_rejects_a_file_of_zeros(tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    ffmpeg(*picture(seconds=1), *H264, "-movflags", "+faststart", str(source))
    whole = source.read_bytes()
    frames = whole.index(b"mdat") + 4
    source.write_bytes(whole[:frames] + bytes(len(whole) - frames))

    with pytest.raises(SourceRejected, match="cannot be decoded") as refused:
        await examine(source)

    assert refused.value.failure_code == "unsupported_codec"


async def test_rejects_a_mostly_damaged_file(tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    ffmpeg(*picture(seconds=3), *H264, "-g", "72", "-movflags", "+faststart", str(source))
    whole = source.read_bytes()
    frames = whole.index(b"mdat") + 4
    intact = frames + (len(whole) - frames) // 4
    source.write_bytes(whole[:intact] + bytes(len(whole) - intact))

    with pytest.raises(SourceRejected, match="This file is damaged") as refused:
        await examine(source)

    assert refused.value.failure_code == "source_damaged"


class CountingStore(MemoryStore):
    read_bytes = 0

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        async for chunk in super().read(key, offset, etag=etag):
            self.read_bytes += len(chunk)
            yield chunk


async def test_finds_the_damaged_one_of_four_tracks_in_one_read(tmp_path: Path) -> None:
    source, store = tmp_path / "film.mkv", CountingStore()
    wide = ("-f", "lavfi", "-i", "anullsrc=channel_layout=7.1:sample_rate=48000:duration=8")
    tracks = ("-map", "0", "-map", "1", "-map", "1", "-map", "2", *H264, "-c:a", "pcm_s16le")
    spoilt = ("-c:a:2", "aac", "-bsf:a:2", "noise=amount=1")
    ffmpeg(*picture(seconds=8), *wide, *tone(8), *tracks, *spoilt, str(source))
    await store.put("source", source.read_bytes())
    streams = [DecodedStream(index, f"stream {index}", "any", 8.0, index == 0) for index in range(4)]

    async with SourceFeeder(store, await store.head("source"), BackgroundErrors()).serving() as url:
        with pytest.raises(SourceRejected, match="stream 3 cannot be decoded"):
            await check_streams(TOOLS, url, streams, TOLERANCE, lambda: None)

    assert store.read_bytes < 1.1 * source.stat().st_size


@pytest.mark.parametrize(
    ("shape", "ends"),
    [(("-itsoffset", "20"), [30, 30, 21]), (("-bsf:a:1", "noise=drop=1"), None)],
    ids=["late", "empty"],
)
async def test_tracks_that_are_mostly_absent_hold_nothing_up(
    tmp_path: Path, shape: tuple[str, ...], ends: list[float] | None
) -> None:
    source = tmp_path / "film.mkv"
    before, after = (shape, ()) if ends else ((), shape)
    mapped = ("-map", "0", "-map", "1", "-map", "2", *H264, "-c:a", "flac")
    ffmpeg(*picture("64x36", seconds=30), *tone(30), *before, *tone(1), *mapped, *after, str(source))
    streams = [DecodedStream(index, f"stream {index}", "any", None, index == 0) for index in range(3)]

    async with served(source) as url:
        checking = check_streams(TOOLS, url, streams, TOLERANCE, lambda: None)
        if ends is None:
            with pytest.raises(SourceRejected, match="stream 2 cannot be decoded"):
                await checking
        else:
            assert await checking == pytest.approx(ends, abs=0.2)
