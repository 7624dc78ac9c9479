"""What is known about a source: its streams, with their colours, languages, starts and ends. Pure data.

All times are in seconds from the start of the file, even if its own timestamps start at 100 s. A stream
that starts later than the others has `start_seconds` above 0.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Literal

from backend.core.records import Chapter

Hdr = Literal["hdr10", "hlg"]

_ALPHA_FORMATS = ("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16", "pal8", "ayuv", "vuya")
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""ffmpeg's own do not decode the alpha channel."""
_HDR_TRANSFERS: dict[str, Hdr] = {"smpte2084": "hdr10", "arib-std-b67": "hlg"}


@dataclass(frozen=True, slots=True)
class Colour:
    """Names as ffmpeg spells them; empty if the file does not say. RGB has full range and no matrix."""

    primaries: str = ""
    transfer: str = ""
    matrix: str = ""
    full_range: bool = False

    @property
    def hdr(self) -> Hdr | None:
        """The kind of HDR; None for SDR."""
        return _HDR_TRANSFERS.get(self.transfer)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The picture as displayed: rotated, with square pixels. `index` counts all streams."""

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
    profile: str = ""
    """As ffmpeg names it."""
    level: int = 0
    is_avc: bool = False
    """H.264 whose parameter sets are in the container, as in MP4."""
    progressive: bool = False
    """The file says so; `interlaced` is that it says the contrary."""
    as_coded: bool = False
    """It is displayed at the size it is coded in: square pixels, nothing cut off."""

    @property
    def has_alpha(self) -> bool:
        return self.pixel_format.startswith(_ALPHA_FORMATS)

    @property
    def decoder(self) -> str | None:
        """The decoder to use, unless it is ffmpeg's default for the codec."""
        return _ALPHA_DECODERS.get(self.codec) if self.has_alpha else None


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """One audio track. `layout` is empty if the file only gives the number of channels.

    If `right_index` is set, `index` is the left channel alone, and that stream is the right one.
    """

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
    right_index: int | None = None
    profile: str = ""

    @property
    def indexes(self) -> tuple[int, ...]:
        return (self.index,) if self.right_index is None else (self.index, self.right_index)


@dataclass(frozen=True, slots=True)
class SubtitleInfo:
    """One track of text subtitles."""

    index: int
    codec: str
    language: str | None = None
    title: str | None = None
    forced: bool = False

    @property
    def is_srt(self) -> bool:
        """Whether ffmpeg can copy the text as it is into SRT. It converts all others to ASS."""
        return self.codec in {"subrip", "srt", "text"}


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """`duration_seconds` is the end of the last stream; None if it takes reading the whole file to know."""

    container: str
    duration_seconds: float | None
    duration_is_reliable: bool = True
    """It comes from the file's index, so a shorter output has lost something. For streams without one
    (MPEG-TS, ADTS, MP3) it is an estimate."""
    video: VideoInfo | None = None
    audio: tuple[AudioInfo, ...] = ()
    """The default track comes first."""
    subtitles: tuple[SubtitleInfo, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    recorded_at: datetime | None = None
    origin_seconds: float = 0.0
    """The file's own timestamp at which our time starts."""

    @property
    def all_ends_known(self) -> bool:
        """Whether the end of every stream is known, so that all can be padded to the last one's."""
        streams = (*((self.video,) if self.video else ()), *self.audio)
        return self.duration_seconds is not None and all(stream.end_seconds is not None for stream in streams)

    def seconds_left_after(self, stream: VideoInfo | AudioInfo) -> float:
        """Return how long others continue after this stream ends; 0 if unknown."""
        if self.duration_seconds is None or stream.end_seconds is None:
            return 0.0
        return max(0.0, self.duration_seconds - stream.end_seconds)
