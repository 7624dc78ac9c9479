"""What the index of a source says about its picture. Pure data."""

from dataclasses import dataclass
from itertools import pairwise

MAX_INDEX_BYTES = 64 * 1024**2
MAX_KEYFRAMES = 500_000
"""24 hours with five keyframes per second. Larger indexes are not used."""


class IndexUnusable(ValueError):
    """There is no index, or it is broken, too large, or of a kind that is not understood."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """How many frames there are, how long they last (but for the last one), and how many bytes there are from
    each keyframe to the next."""

    frames: int
    shortest_ticks: int
    longest_ticks: int
    group_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SourceIndex:
    """When keyframes are shown, ascending, in ticks of `timescale` per second from the start of the file."""

    timescale: int
    keyframes: tuple[int, ...]
    is_plain: bool = True
    """Every frame of the stream is shown, none before its keyframe, and all have one configuration."""
    table: FrameTable | None = None
    """None: the index lists keyframes only."""

    def max_gap_seconds(self, end_seconds: float) -> float:
        """Return the longest time between two keyframes, or the last one and the end."""
        times = (*self.keyframes, round(end_seconds * self.timescale))
        return max(after - before for before, after in pairwise(times)) / self.timescale
