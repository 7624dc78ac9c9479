"""The progress that a transcode reports, and how ffmpeg's own reports are read."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from backend.core.records import CaptionTrack, Chapter, Rendition, Stage
from worker.transcode.fallback import Fallback


@dataclass(frozen=True, slots=True)
class Look:
    """What viewers can play from a look. The files of `captions` come later than the rest."""

    run: str
    qualities: tuple[str, ...]
    renditions: tuple[Rendition, ...]
    captions: tuple[CaptionTrack, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot. `stage_progress` is from 0 to 1."""

    stage: Stage
    stage_progress: float
    playable: bool
    duration_seconds: float | None
    qualities: tuple[str, ...]
    renditions: tuple[Rendition, ...]
    encoder: str | None
    chapters: tuple[Chapter, ...] = ()
    look: Look | None = None
    """Set while viewers play this instead of the outputs."""
    began: datetime | None = None
    """When the work began, if that was before this attempt."""
    attempt: int = 1
    """The highest number of an attempt at any part that others did."""
    fallback: Fallback | None = None
    """Set once the attempt was restarted in software, in a run of its own."""


ReportProgress = Callable[[Progress], None]
"""Called several times a second: must be cheap."""


def encoded_seconds(line: str) -> float | None:
    """Return the output time in seconds from a line of `-progress`; None for other lines."""
    key, _, value = line.partition("=")
    if key != "out_time_us" or not value.lstrip("-").isdigit():
        return None
    return max(0.0, int(value) / 1_000_000)
