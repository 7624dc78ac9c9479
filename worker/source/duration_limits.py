"""How long a source may be, given the duration it claims and its size in bytes.

A few bytes can claim any duration, and a gap between timestamps could be filled with any number of frames.
"""

from backend.core.errors import TOO_LONG_TO_CONVERT, SourceRejected
from backend.core.records import Conversion
from worker.sandbox.guards import MAX_DURATION_SECONDS
from worker.source.completeness import DAMAGED
from worker.source.media import MediaInfo

MAX_OVERRUN_SECONDS = 10.0
MAX_OVERRUN_FRACTION = 0.1
"""Together: how far the encoders may go past the duration that the file claims."""
MAX_GAP_SECONDS = 900.0
MAX_STRAY_FRAMES = 8
"""Up to this many frames in a row that jump further ahead count as damaged timestamps; more, as a real gap.
Gaps are filled, and those of audio in memory: 330 MiB for a quarter of an hour."""
MAX_STEP_BACK_SECONDS = 1.0
MAX_STANDING_FRAMES = 60
"""More stray frames in a row that are this much earlier than their predecessors, or more of these that are no
later than them, are another recording. They would be dropped."""
MAX_AUDIO_START_SECONDS = 7200.0
"""The silence before it is filled like a gap."""
FREE_SECONDS = 3600.0
MIN_BYTES_PER_SECOND = 10
"""A file of any size may claim an hour; beyond that it needs bytes. Silence in Opus takes 25 a second."""


class StreamEnd:
    """Finds where a stream ends from the timestamps of its packets."""

    def __init__(self, expected_seconds: float) -> None:
        self.seconds: float | None = None
        self._expected_seconds = expected_seconds
        self._strays = 0

    def add(self, seconds: float) -> None:
        """Add the end of one packet."""
        last = self._expected_seconds if self.seconds is None else self.seconds
        if seconds - last > MAX_GAP_SECONDS and self._strays < MAX_STRAY_FRAMES:
            self._strays += 1
            return
        self._strays = 0
        self.seconds = max(seconds, self.seconds or seconds)


def check_claimed_duration(media: MediaInfo, source_bytes: int) -> None:
    """Raises: SourceRejected: it is too long, too small for what it claims, or its audio starts too late."""
    seconds = media.duration_seconds
    if seconds is not None and seconds > MAX_DURATION_SECONDS:
        raise _too_long()
    if seconds is not None and seconds > _max_seconds_for(source_bytes):
        raise SourceRejected(
            f"This file is damaged: it claims to last {seconds / 3600:.1f} hours but is almost empty.",
            code="duration_mismatch",
        )
    late = max((track.start_seconds for track in media.audio), default=0.0)
    if late > MAX_AUDIO_START_SECONDS:
        raise SourceRejected(
            f"This file is damaged: its audio starts only after {late / 3600:.1f} hours.",
            code=DAMAGED,
        )


def max_encoded_seconds(media: MediaInfo, source_bytes: int) -> float:
    """Return how much the encoders may encode."""
    if media.duration_seconds is not None and media.duration_is_reliable:
        seconds = media.duration_seconds * (1 + MAX_OVERRUN_FRACTION) + MAX_OVERRUN_SECONDS
    else:
        # for a file without an index, only its size limits what it may contain
        seconds = (media.duration_seconds or 0.0) + _max_seconds_for(source_bytes)
    return min(seconds, float(MAX_DURATION_SECONDS))


def check_encoded_duration(encoded_seconds: float, max_encoded_seconds: float) -> None:
    """Raises: SourceRejected: the encoders have gone past it."""
    if encoded_seconds <= max_encoded_seconds:
        return
    if max_encoded_seconds == MAX_DURATION_SECONDS:
        raise _too_long()
    raise SourceRejected("This file is longer than it claims.", code="duration_mismatch")


def check_convertible(seconds: float, conversion: Conversion | None) -> None:
    """Raises: SourceRejected: so many seconds are too long for this conversion."""
    if conversion is not None and seconds > conversion.max_seconds:
        raise SourceRejected(
            f"This file is longer than {conversion.max_seconds:g} s, which is the limit for conversions.",
            code=TOO_LONG_TO_CONVERT,
        )


def _too_long() -> SourceRejected:
    return SourceRejected(
        f"This video is longer than {MAX_DURATION_SECONDS // 3600} hours.", code="video_too_long"
    )


def _max_seconds_for(source_bytes: int) -> float:
    return FREE_SECONDS + source_bytes / MIN_BYTES_PER_SECOND
