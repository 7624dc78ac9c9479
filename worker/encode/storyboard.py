"""Sheets of thumbnails for seek previews: how many, how far apart, and the WebVTT that points to them. Pure.

A tile is taken every N frames of the constant output rate, so the number of tiles and their times depend
only on the duration.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from worker.encode.ladder import EncodingPlan
from worker.source.media import MediaInfo

COLUMNS, ROWS = 10, 10
TILES_PER_SHEET = COLUMNS * ROWS
LONG_SIDE = 160
MIN_INTERVAL_SECONDS = 2
MAX_TILES = 500
"""For a video of known duration."""
DEFAULT_INTERVAL_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Storyboard:
    """A tile every `every_frames` frames at `fps`."""

    width: int
    height: int
    every_frames: int
    fps: Fraction

    @property
    def interval_seconds(self) -> Fraction:
        return self.every_frames / self.fps

    def tiles(self, duration_seconds: float) -> int:
        # rounding may put a frame just past the end
        return max(1, math.ceil(Fraction(duration_seconds - 0.001) / self.interval_seconds))

    def webvtt(self, duration_seconds: float, sheets: int) -> str:
        """Return one cue per tile: the name of its sheet and its position there (Media Fragments)."""
        cues = []
        for tile in range(min(self.tiles(duration_seconds), sheets * TILES_PER_SHEET)):
            start = float(tile * self.interval_seconds)
            end = min(duration_seconds, float((tile + 1) * self.interval_seconds))
            row, column = divmod(tile % TILES_PER_SHEET, COLUMNS)
            place = f"{column * self.width},{row * self.height},{self.width},{self.height}"
            sheet = sheet_name(tile // TILES_PER_SHEET + 1)
            cues.append(f"{_clock(start)} --> {_clock(max(end, start + 0.001))}\n{sheet}#xywh={place}\n")
        return "\n".join(["WEBVTT\n", *cues])


def storyboard_of(plan: EncodingPlan, media: MediaInfo) -> Storyboard | None:
    """Return None for audio only."""
    if plan.top_rung is None or plan.fps is None:
        return None
    sides = (plan.top_rung.width, plan.top_rung.height)
    width, height = (max(2, round(side * LONG_SIDE / max(sides) / 2) * 2) for side in sides)
    seconds = Fraction(DEFAULT_INTERVAL_SECONDS)
    if media.duration_seconds is not None:
        seconds = max(Fraction(MIN_INTERVAL_SECONDS), Fraction(media.duration_seconds) / MAX_TILES)
    return Storyboard(width, height, max(1, math.ceil(seconds * plan.fps)), plan.fps)


def sheet_name(number: int) -> str:
    return f"{number:03}.jpg"


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
