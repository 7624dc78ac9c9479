"""How close a rendition looks to its source: VMAF, by ffmpeg's libvmaf for a 1080p screen."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

EVERY_NTH_FRAME = 3
"""Adjacent frames look alike: skipping some changes the mean by hundredths."""
TIMEOUT_SECONDS = 600

_SAME_TAGS = "setparams=range=limited:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
"""An untagged file would be converted by guessing its colours, which costs four points."""


def vmaf(rendition: Path, source: Path, width: int, height: int) -> float:
    """Return the mean over the frames, 0 to 100. The rendition is scaled to `width` by `height`."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "vmaf.json"
        # compare frame by frame, whatever the timestamps of the two files
        graph = (
            f"[0:v]settb=1/1000,setpts=N,{_SAME_TAGS},scale={width}:{height}:flags=bicubic,format=yuv420p[seen];"
            f"[1:v]settb=1/1000,setpts=N,{_SAME_TAGS},format=yuv420p[meant];"
            f"[seen][meant]libvmaf=n_subsample={EVERY_NTH_FRAME}:n_threads={os.cpu_count()}"
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
        mean: float = json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"]
        return mean
