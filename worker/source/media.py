"""What is known of a source: its streams, their colours and languages, and where they lie in time. Pure data.

All times are seconds on one time line, whose zero is the first instant of the file: a recording that counts
from 100 s, or whose picture begins after its sound, is told by `start_seconds` of its streams.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Literal

Hdr = Literal["hdr10", "hlg"]

_HDR_TRANSFERS: dict[str, Hdr] = {"smpte2084": "hdr10", "arib-std-b67": "hlg"}


@dataclass(frozen=True, slots=True)
class Colour:
    """As ffmpeg spells them; empty where the file does not say. RGB is of full range and has no matrix."""

    primaries: str = ""
    transfer: str = ""
    matrix: str = ""
    full_range: bool = False

    @property
    def hdr(self) -> Hdr | None:
        """The kind of picture that is brighter than a common screen shows; None of others."""
        return _HDR_TRANSFERS.get(self.transfer)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The picture as it is displayed: after rotation and with square pixels. `index` counts all streams."""

    index: int
    display_width: int
    display_height: int
    codec: str
    pixel_format: str
    base_fps: Fraction | None
    average_fps: Fraction | None
    interlaced: bool = False
    colour: Colour = Colour()
    bit_depth: int = 8
    rotation: int = 0
    start_seconds: float = 0.0
    end_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """One audio track. `layout` is empty when the file only counts its channels."""

    index: int
    codec: str
    channels: int
    sample_rate_hz: int
    layout: str = ""
    language: str | None = None
    """BCP 47, canonical."""
    title: str | None = None
    default: bool = False
    start_seconds: float = 0.0
    end_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SubtitleInfo:
    """One track of text subtitles."""

    index: int
    codec: str
    language: str | None = None
    title: str | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class ChapterInfo:
    start_seconds: float
    end_seconds: float
    title: str


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """`duration_seconds` is where the last stream ends, None when only reading it all would tell."""

    container: str
    duration_seconds: float | None
    duration_is_reliable: bool = True
    """The file's own index says it, so that an output that is shorter has lost something. Streams that can
    begin and end anywhere (MPEG-TS, ADTS, MP3) only let it be guessed."""
    video: VideoInfo | None = None
    audio: tuple[AudioInfo, ...] = ()
    """The one to hear by default comes first."""
    subtitles: tuple[SubtitleInfo, ...] = ()
    chapters: tuple[ChapterInfo, ...] = ()
    recorded_at: datetime | None = None

    @property
    def all_ends_known(self) -> bool:
        """Say whether every stream's end is known, so that all can be filled up to the last one's."""
        streams = (*((self.video,) if self.video else ()), *self.audio)
        return self.duration_seconds is not None and all(one.end_seconds is not None for one in streams)

    def seconds_left_after(self, stream: VideoInfo | AudioInfo) -> float:
        """Return for how long others go on when this stream has ended; 0 when that is not known."""
        if self.duration_seconds is None or stream.end_seconds is None:
            return 0.0
        return max(0.0, self.duration_seconds - stream.end_seconds)
