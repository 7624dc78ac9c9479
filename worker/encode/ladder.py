"""Plans the encode of a video: its rungs, frame rate and streams. Pure.

Rungs are named by the short side of the displayed picture, and never upscaled. A source between two of them,
or below all, gets one of its own size on top.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from backend.core import keys
from backend.core.errors import MachineFault
from backend.core.languages import UNDETERMINED, language_name
from backend.core.records import MIN_SIDE, CaptionTrack, Codec, Download, Rendition, TranscodeOptions
from backend.core.settings import RUNGS
from worker.encode.video_encoders import X264_PRESETS
from worker.source.media import AudioInfo, MediaInfo, SubtitleInfo, VideoInfo

OWN_RUNG_ABOVE = 1.08
"""A source that is larger than the rung below it by less than this factor gets no rung of its own size."""
MAX_FPS = 60
SMALL_PIXELS = 100_000_000
"""In all frames of a film together: seconds of work."""

DEFAULT_AV1_PRESET = 9
DEFAULT_AV1_CRF = 35
H264_CRF = 23
H264_PRESET = X264_PRESETS.index("faster")
H264_PRESET_ABOVE_720P = X264_PRESETS.index("veryfast")
"""docs/encoding.md has the measurements behind these and the caps below."""
AAC_BPS = 128_000
OPUS_BPS = 96_000

_STANDARD_RATES = (
    *(Fraction(10), Fraction(12), Fraction(15), Fraction(24000, 1001), Fraction(24), Fraction(25)),
    *(Fraction(30000, 1001), Fraction(30), Fraction(48), Fraction(50), Fraction(60000, 1001), Fraction(60)),
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One picture size. `label` names it by the short side."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def label(self) -> str:
        return f"{min(self.width, self.height)}p"


@dataclass(frozen=True, slots=True)
class VideoStream:
    """One video encode of the job. `max_bps` caps the CRF."""

    codec: Codec
    rung: Rung
    crf: int
    preset: int
    max_bps: int
    packaged: bool = True
    """False: only for the WebM."""
    copied_frames: int = 0
    """How many the source's own stream has, which is this one; 0: it is encoded."""

    @property
    def name(self) -> str:
        return f"{self.codec}-{self.rung.label}"


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One audio track of the source, as AAC in HLS and DASH and as Opus in the WebM."""

    name: str
    source: AudioInfo
    label: str
    """Shown to viewers, and unique among the streams."""


@dataclass(frozen=True, slots=True)
class CaptionStream:
    """Text subtitles that are extracted to their own file."""

    source: SubtitleInfo
    track: CaptionTrack


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """Everything to encode: video from the smallest rung up, audio with the default track first."""

    video: tuple[VideoStream, ...]
    fps: Fraction | None
    audio: tuple[AudioStream, ...] = ()
    captions: tuple[CaptionStream, ...] = ()
    only: Download | None = None
    """The one file to make, of a conversion."""

    @property
    def top_rung(self) -> "Rung | None":
        return self.video[-1].rung if self.video else None

    @property
    def largest_pixels(self) -> int:
        """How many a picture of the largest rung has; 0 for audio."""
        return self.top_rung.pixels if self.top_rung else 0

    @property
    def packaged_video(self) -> tuple[VideoStream, ...]:
        return tuple(stream for stream in self.video if stream.packaged)

    @property
    def copied_video(self) -> VideoStream | None:
        """The stream that is the source's own (`worker.encode.copying`)."""
        return next((stream for stream in self.video if stream.copied_frames), None)

    @property
    def encoded(self) -> "EncodingPlan":
        """The plan without what is copied."""
        return replace(self, video=tuple(stream for stream in self.video if not stream.copied_frames))

    @property
    def webm_video(self) -> VideoStream | None:
        """The top AV1 stream, which is also the WebM's."""
        return next((stream for stream in reversed(self.video) if stream.codec == "av1"), None)

    @property
    def mp4_video(self) -> VideoStream | None:
        """The top H.264 stream, which is also the MP4's."""
        return next((stream for stream in reversed(self.packaged_video) if stream.codec == "h264"), None)

    @property
    def fits_mp4(self) -> bool:
        """Whether an MP4 for download can be made: a picture needs an H.264 stream."""
        return self.mp4_video is not None or not self.video

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the renditions in HLS and DASH, or of what the MP4 of a conversion is made of."""
        if self.only == "webm":
            return ()
        video = (stream.name for stream in self.packaged_video)
        return (*video, *(stream.name for stream in self.audio))

    @property
    def qualities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stream.rung.label for stream in self.packaged_video))

    @property
    def renditions(self) -> tuple[Rendition, ...]:
        video = tuple(
            Rendition(
                name=stream.name,
                kind="video",
                codec=stream.codec,
                quality=stream.rung.label,
                width=stream.rung.width,
                height=stream.rung.height,
            )
            for stream in self.packaged_video
        )
        audio = (
            Rendition(
                name=stream.name,
                kind="audio",
                codec="aac",
                bitrate_bps=AAC_BPS,
                language=stream.source.language,
                label=stream.label,
            )
            for stream in self.audio
        )
        return (*video, *audio)


def plan_encoding(
    media: MediaInfo, codecs: tuple[Codec, ...], options: TranscodeOptions, sides: tuple[int, ...] = RUNGS
) -> EncodingPlan:
    """`codecs` and `sides`, which are the ladder's rungs, smallest first, are what the worker is set to make.

    Raises: MachineFault: of the codecs that the job may have, it makes none.
    """
    codecs = tuple(codec for codec in codecs if options.codecs is None or codec in options.codecs)
    if not codecs:
        raise MachineFault(f"This worker does not make {' or '.join(options.codecs or ())}.")
    sides = options.rungs or sides
    audio, captions = audio_streams(media.audio), caption_streams(media.subtitles)
    if media.video is None:
        return EncodingPlan((), None, audio, captions)
    fps = frame_rate(media.video)
    rungs = rungs_of(media.video.display_width, media.video.display_height, sides)
    video = [_stream(codec, rung, fps, options) for rung in rungs for codec in codecs]
    if "av1" not in codecs:
        # The WebM is always AV1, so this one stream is encoded in addition.
        video.append(_stream("av1", rungs[-1], fps, options, packaged=False))
    return EncodingPlan(tuple(video), fps, audio, captions)


def plan_conversion(
    media: MediaInfo, only: Download, options: TranscodeOptions, sides: tuple[int, ...] = RUNGS
) -> EncodingPlan:
    """Plan one file with the picture of the top rung and all sound."""
    audio = audio_streams(media.audio)
    if media.video is None:
        return EncodingPlan((), None, audio, only=only)
    fps = frame_rate(media.video)
    rung = rungs_of(media.video.display_width, media.video.display_height, sides)[-1]
    codec: Codec = "av1" if only == "webm" else "h264"
    video = _stream(codec, rung, fps, options, packaged=only == "mp4")
    return EncodingPlan((video,), fps, audio, only=only)


def audio_streams(tracks: tuple[AudioInfo, ...]) -> tuple[AudioStream, ...]:
    streams: list[AudioStream] = []
    for number, track in enumerate(tracks, start=1):
        name = "aac" if number == 1 else f"aac-{number}"
        label = track.title or (language_name(track.language) if track.language else f"Audio {number}")
        if label in {stream.label for stream in streams}:
            label = f"{label} ({number})"
        streams.append(AudioStream(name, track, label))
    return tuple(streams)


def caption_streams(tracks: tuple[SubtitleInfo, ...]) -> tuple[CaptionStream, ...]:
    return tuple(
        CaptionStream(
            track,
            CaptionTrack(
                path=f"{keys.CAPTIONS}{number}-{track.language or UNDETERMINED}.vtt",
                language=track.language or UNDETERMINED,
                label=track.title,
                forced=track.forced,
            ),
        )
        for number, track in enumerate(tracks, start=1)
    )


def rungs_of(width: int, height: int, sides: tuple[int, ...] = RUNGS) -> tuple[Rung, ...]:
    """Return the rungs of a picture that is displayed at this size, smallest first."""
    own = min(width, height)
    sizes = [side for side in sides if side <= own]
    if not sizes or (own < sides[-1] and own > sizes[-1] * OWN_RUNG_ABOVE):
        sizes.append(own)
    return tuple(scaled_rung(width, height, side) for side in sizes)


def scaled_rung(width: int, height: int, side: int) -> Rung:
    """Return a picture of this shape whose short side is `side`, unless it is smaller already."""
    short_side = min(width, height)
    side = min(side, short_side)
    return Rung(_scaled(width, side, short_side), _scaled(height, side, short_side))


def _scaled(length: int, side: int, short_side: int) -> int:
    """Scale and round down to even: 4:2:0 needs even sides, and rounding up would upscale."""
    return max(MIN_SIDE, length * side // short_side // 2 * 2)


def frame_rate(video: VideoInfo) -> Fraction:
    """Return the constant rate to encode at, at most 60.

    This is the base rate, unless that is really a time base (1000 or 90000 "fps" in variable-rate files):
    then the next standard rate above the average. Faster rates are divided by a whole number, for even
    motion.
    """
    if video.interlaced and video.average_fps and video.base_fps == 2 * video.average_fps:
        return min(video.average_fps, Fraction(MAX_FPS))  # the base rate counts fields
    if video.base_fps is not None and 1 <= video.base_fps <= MAX_FPS:
        return video.base_fps
    if video.base_fps is not None and MAX_FPS < video.base_fps <= 300:
        return video.base_fps / -(-video.base_fps // MAX_FPS)
    average = video.average_fps or Fraction(30)
    return next((rate for rate in _STANDARD_RATES if rate >= average * Fraction(99, 100)), Fraction(MAX_FPS))


def is_small(media: MediaInfo) -> bool:
    """Return whether all is encoded so soon that neither a look nor dividing the job would pay."""
    video, seconds = media.video, media.duration_seconds
    if video is None or seconds is None:
        return False
    return seconds * frame_rate(video) * video.display_width * video.display_height <= SMALL_PIXELS


def _stream(
    codec: Codec, rung: Rung, fps: Fraction, options: TranscodeOptions, *, packaged: bool = True
) -> VideoStream:
    crf, preset = H264_CRF, H264_PRESET_ABOVE_720P if min(rung.width, rung.height) > 720 else H264_PRESET
    if codec == "av1":
        crf = DEFAULT_AV1_CRF if options.crf is None else options.crf
        preset = DEFAULT_AV1_PRESET if options.cpu_used is None else options.cpu_used
    return VideoStream(codec, rung, crf, preset, cap_bps(codec, rung, fps), packaged)


def cap_bps(codec: Codec, rung: Rung, fps: Fraction) -> int:
    """Return the highest bit rate of a rung: about 6 Mbit/s for H.264 at 1080p30, two thirds of it for AV1.

    The rate grows more slowly than pixels and frames, hence the exponents.
    """
    pixels = max(rung.pixels, 64 * 64) / (1920 * 1080)
    frames = max(float(fps), 24) / 30
    bps = 6_000_000 * pixels**0.8 * frames**0.6 * (2 / 3 if codec == "av1" else 1)
    return int(bps) // 1000 * 1000
