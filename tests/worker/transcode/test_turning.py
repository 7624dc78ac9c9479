"""Pictures whose size changes midway are fitted between bars, never stretched."""

import subprocess
from pathlib import Path

import pytest

from backend.core import keys
from tests.worker.media_lab import H264, TOOLS, MediaLab, ffmpeg
from worker.transcode.transcoder import EncodingProfile

SECONDS = 1
WIDE, TALL = "320x180", "180x320"
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")
RED_RANGE = range(60, 110)
"""Of luma; black is 16."""


def red(size: str, *codec: str | Path) -> None:
    ffmpeg("-f", "lavfi", "-i", f"color=red:size={size}:rate=25:d={SECONDS}", *map(str, codec))


def turned_h264(path: Path, first: str, second: str) -> None:
    red(first, *H264, path.with_name("1.ts"))
    red(second, *H264, "-output_ts_offset", str(SECONDS), path.with_name("2.ts"))
    path.write_bytes(path.with_name("1.ts").read_bytes() + path.with_name("2.ts").read_bytes())


def turned_mpeg2(path: Path, first: str, second: str) -> None:
    red(first, "-c:v", "mpeg2video", path.with_name("1.ts"))
    red(second, "-c:v", "mpeg2video", "-output_ts_offset", str(SECONDS), path.with_name("2.ts"))
    path.write_bytes(path.with_name("1.ts").read_bytes() + path.with_name("2.ts").read_bytes())


def turned_vp8(path: Path, first: str, second: str) -> None:
    names = [path.with_name(f"{number}.webm") for number in (1, 2)]
    for name, size in zip(names, (first, second), strict=True):
        red(size, *VP8, name)
    listed = path.with_name("list.txt")
    listed.write_text("".join(f"file '{name}'\n" for name in names))
    ffmpeg("-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy", str(path))


def luma_of_last_frame(path: Path) -> tuple[list[int], int, int]:
    """Return the rows of the last frame as one list, its width and its height."""
    shown = ("-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height", "-of", "csv=p=0")
    size = subprocess.run([TOOLS.ffprobe, *shown, path], check=True, capture_output=True, timeout=60).stdout
    width, height = map(int, size.split(b","))
    raw = ("-f", "rawvideo", "-pix_fmt", "gray", "-")
    frames = subprocess.run(
        [TOOLS.ffmpeg, "-v", "error", "-i", path, *raw], check=True, capture_output=True, timeout=60
    ).stdout
    return list(frames[-width * height :]), width, height


@pytest.mark.heavy
@pytest.mark.parametrize(("first", "second"), [(WIDE, TALL), (TALL, WIDE)], ids=["to-tall", "to-wide"])
@pytest.mark.parametrize("name", ["vp8.webm", "h264.ts", "mpeg2.ts"])
async def test_picture_that_changes_its_shape_gets_bars(
    tmp_path: Path, name: str, first: str, second: str
) -> None:
    make = {"vp8.webm": turned_vp8, "h264.ts": turned_h264, "mpeg2.ts": turned_mpeg2}[name]
    make(source := tmp_path / name, first, second)
    lab = MediaLab(tmp_path / "work", EncodingProfile(codecs=("h264",), segment_seconds=1, stall_seconds=60))
    lab.work_dir.mkdir()

    await lab.transcode(source)

    webm = tmp_path / "out.webm"
    webm.write_bytes(await lab.output(keys.DOWNLOAD))
    luma, width, height = luma_of_last_frame(webm)
    assert f"{width}x{height}" == first
    centre = luma[height // 2 * width + width // 2]
    assert centre in RED_RANGE
    corner, side = luma[0], luma[height // 2 * width] if first == WIDE else luma[width // 2]
    assert max(corner, side) < 32
    red_pixels = sum(value in RED_RANGE for value in luma)
    assert red_pixels / len(luma) == pytest.approx((180 / 320) ** 2, abs=0.05)
