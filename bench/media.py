"""The media pipeline: our job against bare ffmpeg, one ffmpeg per rendition, and shaka-streamer.

All methods take turns in each round of one run, so that other load on the machine affects them equally. Our
job reads from and writes to a Ceph RGW on the same machine, as a worker does. The gateway's CPU time is not
counted but adds to the wall-clock time. The others read a local file. Bare ffmpeg discards its output, so no
pipeline built on it can be faster.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import imageio_ffmpeg

from backend.core.records import Rendition
from bench import shaka_streamer
from bench.media_job import JobCost
from bench.media_ways import FfmpegCommand, one_by_one, one_pass, parse_command
from bench.table import print_table
from bench.tree import Cost, run_tree
from bench.vmaf import vmaf
from tests.lab.clips import big_buck_bunny
from tests.lab.rgw import rgw
from tests.lab.server import StoreServer

QUICK_SECONDS = 4
LOOPS = 10
"""Makes five minutes of the 30 s film."""
OURS = "a job of ours"
DIVIDED = "a job of ours, divided into chunks"
COPIED = "a job of ours, divided, with a copied rung"
BARE = "bare ffmpeg, one pass to null"
ONE_BY_ONE = "one ffmpeg for each rendition to null"
LIKE_PRESETS = f"shaka-streamer {shaka_streamer.VERSION}, our presets"
AS_IT_SHIPS = f"shaka-streamer {shaka_streamer.VERSION}, as it ships"


@dataclass(slots=True)
class _Results:
    """The results for one clip; `jobs` and `costs` hold one entry per round."""

    clip: Path
    renditions: tuple[Rendition, ...] = ()
    ours: Path = Path()
    theirs: shaka_streamer.Streaming | None = None
    jobs: list[JobCost] = field(default_factory=list)
    costs: dict[str, list[Cost]] = field(default_factory=dict)

    def add(self, way: str, cost: Cost) -> None:
        self.costs.setdefault(way, []).append(cost)

    def ratio(self, way: str, value: Callable[[Cost], float]) -> float:
        """Return the median over the rounds of the ratio to bare ffmpeg."""
        pairs = zip(self.costs[way], self.costs[BARE], strict=True)
        return statistics.median(value(one) / value(bare) for one, bare in pairs)


def bench_media(rounds: int, *, quick: bool) -> None:
    """Print cost and quality of each method for 30 s and the cost for 5 minutes. `quick`: 4 s only."""
    film = big_buck_bunny()
    shaka_streamer.install()
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        scratch = Path(directory)
        if quick:
            results = _measure(gateway.server, _cut(film, scratch), scratch / "quick", 1, as_it_ships=True)
            _print_costs(f"{QUICK_SECONDS} s of 1080p24", results)
            _print_quality(results, scratch)
            return
        short = _measure(gateway.server, film, scratch / "short", rounds, as_it_ships=True)
        _print_costs("30 s of 1080p24", short)
        _print_quality(short, scratch)
        long = _measure(gateway.server, _loop(film, scratch), scratch / "long", 1, as_it_ships=False)
        _print_costs("5 minutes of 1080p24", long)


def _measure(server: StoreServer, clip: Path, directory: Path, rounds: int, *, as_it_ships: bool) -> _Results:
    results = _Results(clip)
    for number in range(rounds):
        scratch = directory / str(number)
        scratch.mkdir(parents=True)
        log = scratch / "log"
        command = _run_ours(results, server, scratch)
        _run_divided(results, server, scratch, DIVIDED, "divide")
        _run_divided(results, server, scratch, COPIED, "copy")
        results.add(BARE, run_tree(one_pass(command, clip), log))
        each = [run_tree(argv, log) for argv in one_by_one(command, results.renditions, clip)]
        results.add(ONE_BY_ONE, _sum(each))
        like = shaka_streamer.with_presets(
            clip, results.renditions, scratch / "like", _presets(command), _rates(results)
        )
        results.theirs = like
        results.add(LIKE_PRESETS, run_tree(like.argv, log, environment=like.environment))
        if as_it_ships:
            shipped = shaka_streamer.as_it_ships(clip, results.renditions, scratch / "shipped")
            results.add(AS_IT_SHIPS, run_tree(shipped.argv, log))
    return results


def _run_ours(results: _Results, server: StoreServer, directory: Path) -> FfmpegCommand:
    """Run our job and return the command line of its ffmpeg, read from /proc."""
    results.ours = directory / "ours"
    results.ours.mkdir()
    seen: list[FfmpegCommand] = []

    def observe(pid: int) -> None:
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            return
        # before exec, the launcher (worker/sandbox/tether.py) shows the same arguments
        if not seen and "-filter_complex" in argv and Path(argv[0]).name.startswith("ffmpeg"):
            seen.append(parse_command(argv))

    store = (server.endpoint_url, server.access_key, server.secret_key)
    argv: list[str | Path] = [sys.executable, "-m", "bench.media_job", *store, results.clip, results.ours]
    # the worker runs at normal priority and lowers that of its encoders itself
    tree = run_tree(argv, directory / "log", nice=False, observe=observe)
    job = JobCost(**json.loads((results.ours / "cost.json").read_text()))
    results.jobs.append(job)
    results.add(OURS, replace(tree, wall_seconds=job.wall_seconds, cpu_seconds=job.cpu_seconds))
    described = (path for path in results.ours.glob("*.json") if path.name != "cost.json")
    found = (Rendition.model_validate_json(path.read_text()) for path in described)
    results.renditions = tuple(
        sorted(found, key=lambda one: (one.kind != "video", one.codec, one.height or 0))
    )
    return seen[0]


def _run_divided(results: _Results, server: StoreServer, directory: Path, way: str, word: str) -> None:
    """Run our job in chunks, with its look."""
    outputs = directory / word
    outputs.mkdir()
    store = (server.endpoint_url, server.access_key, server.secret_key)
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "bench.media_job",
        *store,
        results.clip,
        outputs,
        word,
    ]
    tree = run_tree(argv, directory / "log", nice=False)
    job = JobCost(**json.loads((outputs / "cost.json").read_text()))
    results.add(way, replace(tree, wall_seconds=job.wall_seconds, cpu_seconds=job.cpu_seconds))


def _presets(command: FfmpegCommand) -> dict[str, str]:
    """Return the largest rung's preset for each codec: shaka-streamer has one preset for all rungs."""
    presets: dict[str, str] = {}
    for output in command.outputs:
        preset = output.value("-preset")
        if preset is not None:
            presets["av1" if output.value("-c:v") == "libsvtav1" else "h264"] = preset
    return presets


def _rates(results: _Results) -> dict[str, int]:
    """Return our renditions' bits per second by name, so that shaka-streamer can use the same rates."""
    seconds = _seconds(results.clip)
    return {
        one.name: round((results.ours / f"{one.name}.mp4").stat().st_size * 8 / seconds)
        for one in results.renditions
    }


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(
        sum(cost.wall_seconds for cost in costs),
        sum(cost.cpu_seconds for cost in costs),
        max(cost.peak_mib for cost in costs),
    )


def _print_costs(title: str, results: _Results) -> None:
    rows: list[Sequence[str]] = []
    for way, costs in results.costs.items():
        jobs = results.jobs if way == OURS else []
        rows.append(
            [
                way,
                f"{statistics.median(cost.wall_seconds for cost in costs):.1f}",
                f"{results.ratio(way, lambda cost: cost.wall_seconds):.2f}",
                f"{statistics.median(cost.cpu_seconds for cost in costs):.1f}",
                f"{results.ratio(way, lambda cost: cost.cpu_seconds):.2f}",
                f"{max(cost.peak_mib for cost in costs):.0f}",
                f"{max(job.read_bytes / job.source_bytes for job in jobs):.3f}" if jobs else "-",
                f"{statistics.median(job.first_playable_seconds for job in jobs):.1f}" if jobs else "-",
            ]
        )
    print_table(
        f"{title}, {len(results.jobs)} rounds (medians)",
        [
            "way",
            "wall, s",
            "to bare ffmpeg",
            "CPU, s",
            "to bare ffmpeg",
            "peak memory, MiB",
            "bytes read per byte of the source",
            "first playable after, s",
        ],
        rows,
    )


def _print_quality(results: _Results, scratch: Path) -> None:
    """Print the VMAF of our last renditions and of shaka-streamer's with the same presets and rates."""
    if results.theirs is None:
        raise AssertionError("nothing was measured")
    seconds = _seconds(results.clip)
    video = [one for one in results.renditions if one.kind == "video"]
    width, height = (max(one.width or 0 for one in video), max(one.height or 0 for one in video))
    rows: list[Sequence[str]] = []
    for one in video:
        theirs = scratch / "theirs.mp4"
        theirs.write_bytes(b"".join(path.read_bytes() for path in results.theirs.segments(one)))
        row = [one.name]
        looks: list[float] = []
        for path in (results.ours / f"{one.name}.mp4", theirs):
            looks.append(vmaf(path, results.clip, width, height))
            row += [f"{path.stat().st_size * 8 / seconds / 1000:.0f}", f"{looks[-1]:.1f}"]
        rows.append([*row, f"{looks[0] - looks[1]:+.1f}"])
    print_table(
        f"Renditions of {results.clip.name}: VMAF on a 1080p screen, at the same presets",
        ["rendition", "ours, kbit/s", "VMAF", "shaka-streamer, kbit/s", "VMAF", "difference"],
        rows,
    )


def _cut(film: Path, scratch: Path) -> Path:
    return _remux(scratch / "cut.mp4", "-i", str(film), "-t", str(QUICK_SECONDS))


def _loop(film: Path, scratch: Path) -> Path:
    return _remux(scratch / "loop.mp4", "-stream_loop", str(LOOPS - 1), "-i", str(film))


def _remux(path: Path, *arguments: str) -> Path:
    """Remux the input in `arguments` with the index at the end, as phones write it."""
    argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    subprocess.run([*argv, "-map", "0:v", "-map", "0:a", "-c", "copy", path], check=True, timeout=120)
    return path


def _seconds(clip: Path) -> float:
    """Return the duration of the video stream."""
    found: float = imageio_ffmpeg.count_frames_and_secs(clip)[1]
    return found
