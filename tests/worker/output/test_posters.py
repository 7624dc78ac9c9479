"""The poster: not a dark frame if there are others, some frame of a dark film, a waveform for audio."""

from pathlib import Path

import pytest

from backend.core import keys
from tests.formats.measuring import GRID, frames_of
from tests.worker.media_lab import H264, SHORT_SEGMENTS, MediaLab, ffmpeg, tone

BLACK_THEN_GREEN = (
    *(
        "-f",
        "lavfi",
        "-i",
        "color=black:s=320x180:r=24:d=2[a];color=green:s=320x180:r=24:d=1[b];[a][b]concat[out0]",
    ),
    *H264,
)
DARK = ("-f", "lavfi", "-i", "color=0x101010:s=320x180:r=24:d=1", *H264)


async def poster_of(source: Path, tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    lab = MediaLab(tmp_path / "work", SHORT_SEGMENTS)
    await lab.transcode(source)
    poster = tmp_path / "poster.jpg"
    poster.write_bytes(await lab.output(keys.POSTER))
    return poster


@pytest.mark.parametrize(
    ("made", "brightness"), [(BLACK_THEN_GREEN, 60), (DARK, 10)], ids=["late-light", "dark"]
)
async def test_poster_is_as_bright_as_possible(
    tmp_path: Path, made: tuple[str, ...], brightness: int
) -> None:
    source = tmp_path / "film.mp4"
    ffmpeg(*made, str(source))

    [frame] = frames_of(await poster_of(source, tmp_path))

    assert min(frame.luma) > brightness


@pytest.mark.parametrize("seconds", [0.05, 2])
async def test_audio_only_poster_is_its_waveform(tmp_path: Path, seconds: float) -> None:
    source = tmp_path / "sound.wav"
    ffmpeg(*tone(seconds), str(source))

    [frame] = frames_of(await poster_of(source, tmp_path))

    middle = frame.luma[GRID : 3 * GRID]
    assert max(middle) > 20
    assert max(frame.luma[:GRID]) < max(middle)
