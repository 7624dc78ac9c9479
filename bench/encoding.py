"""`python -m bench.encoding`: writes the cost and quality of encoders, presets and CRFs to docs/encoding.md.

Each rung of a real film is encoded from raw pictures with exactly the arguments of a job, caps included. Cost
is measured in CPU seconds, which other load on the machine hardly affects. Quality is VMAF against the
picture that the encoder was given, because no encoder can restore what scaling lost.
"""

import argparse
import math
import platform
import resource
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from backend.core.records import Codec, TranscodeOptions
from backend.core.settings import WorkerSettings
from bench.vmaf import vmaf
from tests.lab.clips import big_buck_bunny
from worker.encode.ladder import VideoStream, plan_encoding
from worker.encode.video_encoders import SOFTWARE, X264_PRESETS, keyframe_arguments
from worker.sandbox.tools import find_tools
from worker.source.media import MediaInfo, VideoInfo

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/encoding.md"
EXCERPTS_START = (3.0, 18.0)
"""Where a calm scene and one with motion start in the 30 s film."""
EXCERPT_SECONDS = 5.0
SEGMENT_SECONDS = WorkerSettings.model_fields["segment_seconds"].default
PRESETS: dict[Codec, Sequence[int]] = {
    "av1": range(6, 12),
    "h264": range(X264_PRESETS.index("ultrafast"), X264_PRESETS.index("medium") + 1),
}
CRFS: dict[Codec, Sequence[int]] = {"av1": (27, 35, 43), "h264": (19, 23, 27)}
GOOD_VMAF = 93.0
"""Presets are compared at this quality, which few people can tell from the source."""
TIMEOUT_SECONDS = 900
TOOLS = find_tools(WorkerSettings())


@dataclass(frozen=True, slots=True)
class Measured:
    """One encode. `cpu_seconds` is per second of film; `peak_bps` is the largest segment's rate."""

    cpu_seconds: float
    bps: float
    peak_bps: float
    vmaf: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.encoding", description=__doc__)
    parser.add_argument("--seconds", type=float, default=EXCERPT_SECONDS, help="of each excerpt")
    parser.add_argument("--out", type=Path, default=DOCUMENT, help="where to write the document")
    parser.add_argument(
        "--defaults",
        action="store_true",
        help="measure the defaults alone; other tables stay",
    )
    arguments = parser.parse_args()
    kept = arguments.out.read_text().partition(_MEASURED)[2] if arguments.defaults else None
    with tempfile.TemporaryDirectory() as directory:
        arguments.out.write_text(_document(Path(directory), arguments.seconds, kept))


def _document(scratch: Path, excerpt_seconds: float, kept: str | None) -> str:
    film = _excerpts(big_buck_bunny(), scratch, excerpt_seconds)
    seconds = excerpt_seconds * len(EXCERPTS_START)
    sections, defaults = [], []
    for codec in PRESETS:
        for stream in _streams(codec):
            raw = _raw(film, stream, scratch)
            defaults.append(_default(stream, _measure(raw, stream, stream.preset, stream.crf, seconds)))
            if kept is None:
                cells = {
                    (preset, crf): _measure(raw, stream, preset, crf, seconds)
                    for preset in PRESETS[codec]
                    for crf in CRFS[codec]
                }
                sections.append(_section(stream, cells))
            raw.unlink()
    head = _HEAD.format(
        seconds=f"{seconds:g}",
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        ffmpeg=_version(),
        good=f"{GOOD_VMAF:g}",
        defaults=_table(
            ["rendition", "preset", "CRF", "cap, kbit/s", "VMAF", "kbit/s", "largest segment", "CPU s per s"],
            defaults,
        ),
    )
    tables = _GRID.format(good=f"{GOOD_VMAF:g}", sections="\n".join(sections)) if kept is None else kept
    return head + _MEASURED + tables


def _streams(codec: Codec) -> tuple[VideoStream, ...]:
    """Return the renditions that a job makes of 1080p24."""
    rate = Fraction(24)
    video = VideoInfo(0, 1920, 1080, "h264", "yuv420p", rate, rate)
    return plan_encoding(MediaInfo("mp4", 10.0, video=video), (codec,), TranscodeOptions()).packaged_video


def _excerpts(film: Path, scratch: Path, seconds: float) -> Path:
    """Return the excerpts in one lossless file."""
    path = scratch / "film.mkv"
    inputs = [word for at in EXCERPTS_START for word in ("-ss", str(at), "-t", str(seconds), "-i", str(film))]
    joined = "".join(f"[{number}:v]" for number in range(len(EXCERPTS_START)))
    _ffmpeg(
        *inputs,
        *("-filter_complex", f"{joined}concat=n={len(EXCERPTS_START)}", "-an"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", str(path)),
    )
    return path


def _raw(film: Path, stream: VideoStream, scratch: Path) -> Path:
    """Return the rung's raw pictures, so that only the encoder's CPU time is measured."""
    path = scratch / f"{stream.rung.label}.nut"
    size = f"scale={stream.rung.width}:{stream.rung.height}:flags=bicubic,format=yuv420p"
    _ffmpeg("-i", str(film), "-vf", size, "-c:v", "rawvideo", str(path))
    return path


def _measure(raw: Path, stream: VideoStream, preset: int, crf: int, seconds: float) -> Measured:
    encoded = raw.with_suffix(".mp4")
    before = _cpu_seconds()
    _ffmpeg(
        *("-i", str(raw), *keyframe_arguments(SEGMENT_SECONDS)),
        *SOFTWARE.of(stream.codec).arguments(crf=crf, preset=preset, max_bps=stream.max_bps),
        str(encoded),
    )
    cpu_seconds = (_cpu_seconds() - before) / seconds
    sizes = _segment_bytes(encoded)
    largest = max(size / min(SEGMENT_SECONDS, seconds - number * SEGMENT_SECONDS) for number, size in sizes)
    looks = vmaf(encoded, raw, stream.rung.width, stream.rung.height)
    return Measured(cpu_seconds, sum(size for _, size in sizes) * 8 / seconds, largest * 8, looks)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _segment_bytes(encoded: Path) -> list[tuple[int, int]]:
    """Return each segment's number and size."""
    done = subprocess.run(
        [
            *(TOOLS.ffprobe, "-v", "error", "-select_streams", "v:0"),
            *("-show_entries", "packet=pts_time,size", "-of", "csv=p=0", encoded),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    sizes: dict[int, int] = {}
    for line in done.stdout.split():
        instant, size = line.split(",")[:2]
        number = int((float(instant) + 1e-3) // SEGMENT_SECONDS)
        sizes[number] = sizes.get(number, 0) + int(size)
    return sorted(sizes.items())


def _section(stream: VideoStream, cells: dict[tuple[int, int], Measured]) -> str:
    presets = list(dict.fromkeys(preset for preset, _ in cells))
    crfs = list(dict.fromkeys(crf for _, crf in cells))
    rows = []
    for preset in presets:
        row = [cells[preset, crf] for crf in crfs]
        work = sum(cell.cpu_seconds for cell in row) / len(row)
        rows.append(
            [
                _preset_name(stream.codec, preset),
                f"{work:.2f}",
                *(f"{cell.bps / 1000:.0f} ({cell.vmaf:.1f})" for cell in row),
                _kbps(bps_at(GOOD_VMAF, row)),
            ]
        )
    heads = ["preset", "CPU s per s", *(f"CRF {crf}" for crf in crfs), f"kbit/s for VMAF {GOOD_VMAF:g}"]
    return f"### {stream.name}\n\n{_table(heads, rows)}\n"


def bps_at(quality: float, row: Iterable[Measured]) -> float | None:
    """Interpolate the bit rate for this VMAF, or return None if it is outside the measured range."""
    points = sorted((cell.vmaf, math.log(cell.bps)) for cell in row)
    for (below, low), (above, high) in pairwise(points):
        if below <= quality <= above and above > below:
            return math.exp(low + (high - low) * (quality - below) / (above - below))
    return None


def _default(stream: VideoStream, measured: Measured) -> list[str]:
    return [
        stream.name,
        _preset_name(stream.codec, stream.preset),
        str(stream.crf),
        f"{stream.max_bps / 1000:.0f}",
        f"{measured.vmaf:.1f}",
        f"{measured.bps / 1000:.0f}",
        f"{measured.peak_bps / 1000:.0f}",
        f"{measured.cpu_seconds:.2f}",
    ]


def _preset_name(codec: Codec, preset: int) -> str:
    return str(preset) if codec == "av1" else X264_PRESETS[preset]


def _kbps(bps: float | None) -> str:
    return "" if bps is None else f"{bps / 1000:.0f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the columns in a code block, which reads well both raw and rendered."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(("```", *aligned, "```"))


def _version() -> str:
    done = subprocess.run([TOOLS.ffmpeg, "-version"], check=True, capture_output=True, text=True)
    return " ".join(done.stdout.split()[:3])


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(
        [TOOLS.ffmpeg, "-nostdin", "-v", "error", "-y", *arguments],
        check=True,
        timeout=TIMEOUT_SECONDS,
        env={"SVT_LOG": "1"},
    )


_HEAD = """\
# Encoding

The presets, CRFs and caps a worker uses, and the measurements behind them. Written by `make encoding`:
{seconds} s of Big Buck Bunny at 24 fps, in two scenes, on {machine}; {ffmpeg}.

VMAF (0 to 100) compares with the picture given to the encoder, at the rung's own size; from {good} on, few
people can tell it from the source. CPU is seconds per second of film over all cores, without decoding and
scaling, which all renditions share. Segments last 4 s, and every encode is capped as in a job.

## Defaults

{defaults}

## Why these

- **AV1, preset 9.** For the same VMAF, 10 needs about a fifth more rate at 720p and 1080p, and saves a sixth
  to a quarter of the CPU; 11 saves little more and needs another tenth. 8 (`?cpu_used=8`) needs about an
  eighth less rate, for over half as much CPU again. There is no look-ahead: it takes 2 % more rate for 0.2
  more VMAF, and delays the first segment.
- **H.264, `faster`, and `veryfast` above 720p.** `veryfast` needs a sixth to a fifth more rate. At 1080p,
  where most of the work is, that is worth it: `faster` takes two thirds more CPU there.
- **CRF 35 and 23.** With these presets, both reach a VMAF of about 94 to 95 in every rung.
- **Caps** are for much harder content; this film comes near none of them. AV1's are two thirds of H.264's,
  about the rate it needs for the same VMAF.
- **Chunks.** The 24 frames around a seam, at 1080p, have the mean VMAF of one pass or more in AV1, and
  0.2 to 0.5 less in H.264. The worst of them are as good, except after a cut two frames before a seam: 65,
  not 69 (`make bench seams`).

"""

_MEASURED = "## Measured\n"

_GRID = """
Cells are kbit/s (VMAF). The last column is the rate for a VMAF of {good}, interpolated between the CRFs; it
is empty outside them.

{sections}"""


if __name__ == "__main__":
    main()
