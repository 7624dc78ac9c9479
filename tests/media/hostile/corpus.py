"""What the corpus is built from: real clips to alter, a canary to refer to, and a job's allowed outcomes.

Each file is a function that returns its bytes. An outcome is an error code or `DONE`.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DONE = "done"
NOT_A_VIDEO = frozenset({"not_a_video"})
UNDECODABLE = frozenset({"not_a_video", "unsupported_codec", "file_incomplete"})
DAMAGED = UNDECODABLE | {"source_damaged", "duration_mismatch", "several_recordings", "late_stream"}
"""Allowed outcomes for broken files. What matters is that the job ends."""
TOO_LARGE = frozenset({"not_a_video", "picture_too_large", "unsupported_codec"})

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=12:duration=2")
SOUND = ("-f", "lavfi", "-i", "sine=duration=2")
FILM = (*PICTURE, *SOUND)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "6", "-pix_fmt", "yuv420p")
MP4 = (*H264, "-c:a", "aac")
FORMATS: dict[str, tuple[str, ...]] = {
    "mp4": (*MP4, "-movflags", "+faststart"),
    "mov": MP4,
    "fragmented.mp4": (*MP4, "-movflags", "frag_keyframe+empty_moov"),
    "mkv": MP4,
    "ts": MP4,
    "flv": MP4,
    "webm": ("-c:v", "libvpx", "-c:a", "libopus", "-ar", "48000"),
    "avi": ("-c:v", "mpeg4", "-c:a", "mp3"),
    "ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "mpg": ("-c:v", "mpeg2video", "-r", "25", "-c:a", "mp2"),
    "wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "gif": ("-map", "0:v"),
}


@dataclass(frozen=True)
class Bait:
    """Real clips, and the canary: a URL and a file that must never be opened."""

    url: str
    file: Path
    ffmpeg: Path
    directory: Path
    _clips: dict[str, bytes] = field(default_factory=dict)

    def clip(self, kind: str) -> bytes:
        """Return two seconds of video and audio in one of `FORMATS`."""
        if kind not in self._clips:
            self._clips[kind] = self.made(*FILM, *FORMATS[kind], suffix=kind)
        return self._clips[kind]

    def made(self, *arguments: str, suffix: str) -> bytes:
        """Return what ffmpeg writes when run with these arguments."""
        path = self.directory / f"made.{suffix}"
        command = [self.ffmpeg, "-nostdin", "-v", "error", "-y", *arguments, path]
        subprocess.run(command, check=True, timeout=60, stderr=subprocess.DEVNULL)
        return path.read_bytes()


@dataclass(frozen=True)
class Hostile:
    """One file. CI runs a sample of each `kind`, whose files are similar. Most have a kind of their own."""

    name: str
    kind: str
    make: Callable[[Bait], bytes]
    outcomes: frozenset[str]


HOSTILE: dict[str, Hostile] = {}


def add(name: str, make: Callable[[Bait], bytes], outcomes: frozenset[str], kind: str = "") -> None:
    assert name not in HOSTILE
    HOSTILE[name] = Hostile(name, kind or name, make, outcomes)


def ends(*outcomes: frozenset[str] | str) -> Callable[[Callable[[Bait], bytes]], Callable[[Bait], bytes]]:
    """Register the decorated function under its own name, with the outcomes a job may have."""
    allowed = frozenset().union(*({each} if isinstance(each, str) else each for each in outcomes))

    def register(make: Callable[[Bait], bytes]) -> Callable[[Bait], bytes]:
        add(make.__name__.replace("_", "-"), make, allowed)
        return make

    return register
