"""Telling a broken file from a failed attempt."""

from fractions import Fraction
from pathlib import Path

import pytest

from backend.core.errors import SourceRejected
from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture, tone
from tests.worker.source.test_probe import served
from worker.sandbox.exit_codes import OUT_OF_MEMORY, REFUSED
from worker.source.media import MediaInfo, VideoInfo
from worker.transcode.diagnosis import DURATION_MISMATCH, DecodedStream, check_stream, diagnose_source

TOLERANCE = 0.5


async def examine(source: Path, index: int = 0, claimed_seconds: float | None = None) -> list[None]:
    """Return one entry per sign of progress."""
    signs: list[None] = []
    stream = DecodedStream(index, "the picture", "h264", claimed_seconds)
    async with served(source) as url:
        await check_stream(TOOLS, url, stream, TOLERANCE, lambda: signs.append(None))
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
