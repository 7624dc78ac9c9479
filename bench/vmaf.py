"""How close a rendition looks to its source: VMAF, by ffmpeg's libvmaf for a 1080p screen."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import imageio_ffmpeg

EVERY_NTH_FRAME = 3
"""Adjacent frames look alike: skipping some changes the mean by hundredths."""
TIMEOUT_SECONDS = 600

_SAME_TAGS = "setparams=range=limited:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
"""An untagged file would be converted by guessing its colours, which costs four points."""


def vmaf(rendition: Path, source: Path, width: int, height: int) -> float:
    """Return the mean over the frames, 0 to 100. The rendition is scaled to `width` by `height`."""
    mean: float = _measured(rendition, source, width, height, EVERY_NTH_FRAME)["pooled_metrics"]["vmaf"][
        "mean"
    ]
    return mean


def vmaf_of_frames(rendition: Path, source: Path, width: int, height: int, frames: range) -> list[float]:
    """Return the value of each of these frames."""
    trim = f"trim=start_frame={frames.start}:end_frame={frames.stop},"
    measured = _measured(rendition, source, width, height, 1, trim)["frames"]
    return [frame["metrics"]["vmaf"] for frame in measured]


def _measured(rendition: Path, source: Path, width: int, height: int, nth: int, trim: str = "") -> Any:
    """Return what libvmaf logs of every nth frame. `trim` is a filter."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "vmaf.json"
        # compare frame by frame, whatever the timestamps of the two files
        same = f"{trim}settb=1/1000,setpts=N,{_SAME_TAGS}"
        graph = (
            f"[0:v]{same},scale={width}:{height}:flags=bicubic,format=yuv420p[seen];"
            f"[1:v]{same},format=yuv420p[meant];"
            f"[seen][meant]libvmaf=n_subsample={nth}:n_threads={os.cpu_count()}"
            f":log_fmt=json:log_path={log}"
        )
        subprocess.run(
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error"),
                *("-i", rendition, "-i", source, "-filter_complex", graph),
                *("-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-f", "null", "-"),
            ],
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
        return json.loads(log.read_text())
