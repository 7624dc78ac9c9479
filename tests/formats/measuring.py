"""Measures the outputs of a job: sizes, colours, orientation and how far audio lags behind the picture."""

import json
import subprocess
from array import array
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tests.formats.picture import FLASH_SECONDS, LUMA
from tests.worker.media_lab import TOOLS, MediaLab
from worker.output.playlists import parse_playlist

SAMPLE_RATE_HZ = 8000
GRID = 4
"""Pictures are averaged to a grid of this many cells per side."""
BRIGHT = (LUMA["grey"] + LUMA["white"]) / 2
LOUD = 1500
"""Out of 32768."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One averaged frame: Y, Cb and Cr of each cell, row by row."""

    luma: bytes
    blue: bytes
    red: bytes

    @property
    def flashes(self) -> bool:
        return fmean(self.luma[index] for index in (5, 6, 9, 10)) > BRIGHT

    def colour(self, cell: int) -> tuple[int, int, int]:
        return (self.luma[cell], self.blue[cell], self.red[cell])


async def rendition_file(lab: MediaLab, name: str, directory: Path) -> Path:
    """Join a rendition's segments, as a player does."""
    playlist = parse_playlist(f"hls/{name}.m3u8", await lab.output(f"hls/{name}.m3u8"))
    path = directory / f"{name}.mp4"
    path.write_bytes(b"".join([await lab.output(part) for part in playlist.names]))
    return path


def stream_of(path: Path, kind: str = "v") -> dict[str, str]:
    """Return ffprobe's description of a file's first stream of this kind."""
    shown = ("-v", "error", "-select_streams", f"{kind}:0", "-show_streams", "-of", "json")
    done = subprocess.run([TOOLS.ffprobe, *shown, path], check=True, capture_output=True, timeout=60)
    found: dict[str, str] = json.loads(done.stdout)["streams"][0]
    return found


def frames_of(path: Path) -> list[Cells]:
    raw = _decoded(path, "-vf", f"scale={GRID}:{GRID}:flags=area,format=yuv444p", "-f", "rawvideo")
    size = GRID * GRID
    planes = [raw[at : at + size] for at in range(0, len(raw), size)]
    return [Cells(*planes[at : at + 3]) for at in range(0, len(planes), 3)]


def flashes_of(path: Path) -> list[float]:
    """Return the times at which the picture turns white."""
    stream = stream_of(path)
    numerator, denominator = (int(part) for part in stream["r_frame_rate"].split("/"))
    start, step = float(stream["start_time"]), denominator / numerator
    bright = [frame.flashes for frame in frames_of(path)]
    return [
        start + index * step for index, now in enumerate(bright) if now and index and not bright[index - 1]
    ]


def beeps_of(path: Path) -> list[float]:
    """Return the times at which the tone starts."""
    start = float(stream_of(path, "a")["start_time"])
    samples = array("h", _decoded(path, "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-f", "s16le"))
    onsets: list[float] = []
    for index, sample in enumerate(samples):
        at = start + index / SAMPLE_RATE_HZ
        if abs(sample) > LOUD and (not onsets or at - onsets[-1] > 3 * FLASH_SECONDS):
            onsets.append(at)
    return onsets


def level_of(path: Path) -> int:
    """Return the peak level of the audio, out of 32768."""
    return max(map(abs, array("h", _decoded(path, "-ac", "1", "-f", "s16le"))), default=0)


def sync_error_ms(flashes: list[float], beeps: list[float]) -> float | None:
    """Return the audio lag at its worst, or None if no flash has a tone near it."""
    late = [min((beep - flash for beep in beeps), key=abs) for flash in flashes if beeps]
    near = [seconds for seconds in late if abs(seconds) < 0.4]
    return round(max(near, key=abs) * 1000, 1) if near else None


def colours_of(path: Path) -> str:
    stream = stream_of(path)
    tags = [stream.get(tag, "?") for tag in ("color_primaries", "color_transfer", "color_space")]
    return f"{'/'.join(dict.fromkeys(tags))} {stream.get('color_range', '?')} {stream['pix_fmt']}"


def _decoded(path: Path, *arguments: str) -> bytes:
    command: list[str | Path] = [TOOLS.ffmpeg, "-nostdin", "-v", "error", "-i", path, *arguments, "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
