"""Films that show the number of each frame, and beep every two seconds: how to make and to read them."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tests.worker.media_lab import TOOLS

BITS = 16
WIDTH, HEIGHT = 320, 180
BEEP_AT, BEEP_EVERY, BEEP_SECONDS = 0.5, 2.0, 0.1
WHITE, BLACK, SLACK = 235, 16, 60
"""A bit is a column of the picture. Frames that were blended, or of which a part is missing, have others."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame: when it is shown, in seconds, and its number in the film that was uploaded."""

    seconds: float
    number: int


def write_pictures(path: Path, frames: int) -> None:
    """Write raw pictures, grey and `WIDTH` by `HEIGHT`."""
    with path.open("wb") as file:
        for number in range(frames):
            bits = (WHITE if number >> bit & 1 else BLACK for bit in range(BITS))
            file.write(b"".join(bytes([level]) * (WIDTH // BITS) for level in bits) * HEIGHT)


def pictures(path: Path, rate: str) -> tuple[str, ...]:
    """Return what `write_pictures` wrote as an input."""
    shape = ("-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-framerate", rate)
    return ("-f", "rawvideo", *shape, "-i", str(path))


def beeps(seconds: float) -> tuple[str, ...]:
    sounds = f"between(mod(t\\,{BEEP_EVERY})\\,{BEEP_AT}\\,{BEEP_AT + BEEP_SECONDS})"
    tone = f"aevalsrc=0.5*sin(2*PI*1000*t)*{sounds}:s=48000:c=stereo:d={seconds}"
    return ("-f", "lavfi", "-i", tone)


def shown_by(path: Path, times: Path) -> list[Shown]:
    """Decode all frames of a file. `times` is a file to be written."""
    one_row = f"scale={BITS}:1:flags=area:out_range=limited,format=gray"
    log = ("-stats_enc_pre", str(times), "-stats_enc_pre_fmt", "{t}")
    command = [TOOLS.ffmpeg, "-nostdin", "-v", "error", "-y", "-copyts", "-i", path, "-map", "0:v"]
    command += ["-vf", one_row, "-fps_mode", "passthrough", *log, "-f", "rawvideo", "-"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert done.stderr == b""
    rows = [done.stdout[at : at + BITS] for at in range(0, len(done.stdout), BITS)]
    seconds = map(float, times.read_text().split())
    return [Shown(at, _number(row)) for at, row in zip(seconds, rows, strict=True)]


def _number(row: bytes) -> int:
    levels = [WHITE if level > (WHITE + BLACK) / 2 else BLACK for level in row]
    assert all(abs(level - clear) < SLACK for level, clear in zip(row, levels, strict=True)), row
    return sum((level == WHITE) << bit for bit, level in enumerate(levels))


def lags(frames: Iterable[Shown], heard: Iterable[float], fps: Fraction, sound_late: float) -> list[float]:
    """Return by how many seconds each beep is heard later than what was to be seen with it.

    In the source, sound that was `sound_late` began after the picture. Beeps at frames that were left out do
    not count, nor those at the first frame, which is shown until a late picture begins.
    """
    first: dict[int, float] = {}
    for frame in frames:
        first.setdefault(frame.number, frame.seconds)
    meant = []
    for number, at in first.items():
        until_beep = (BEEP_AT + sound_late - float(number / fps)) % BEEP_EVERY
        if number > 0 and until_beep < 1 / fps:
            meant.append(at + until_beep)
    nearest = (min((at - beep for beep in meant), key=abs) for at in heard)
    return [late for late in nearest if abs(late) < BEEP_EVERY / 2]
