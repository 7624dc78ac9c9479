"""What the WebM and the MP4 for download have in common, and how large a stream may become."""

from collections.abc import Callable
from dataclasses import dataclass

from backend.core.store.interface import Store
from worker.encode.ladder import EncodingPlan
from worker.source.media import MediaInfo

UNKNOWN_DURATION_SECONDS = 6 * 3600.0
"""Assumed when the duration is unknown, to reserve space for the index."""
MIN_SIZE_LIMIT_BYTES = 64 * 1024**2
SIZE_LIMIT_FACTOR = 2
"""Encoders keep to their caps on average, not exactly."""


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """The file is stored below `prefix` and has at most `max_seconds`. `on_data` is called as it grows."""

    store: Store
    prefix: str
    encoding: EncodingPlan
    media: MediaInfo
    segment_seconds: float
    max_seconds: float
    on_data: Callable[[], None]


def max_bytes_of(bps: int, seconds: float) -> int:
    """Return the largest size that a stream of this capped rate may have."""
    return MIN_SIZE_LIMIT_BYTES + int(seconds * bps / 8 * SIZE_LIMIT_FACTOR)
