"""What a source is, by ffprobe, and whether it is taken at all. An upload is hostile until it passed here."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.core.errors import AttemptFailed, SourceRejected
from worker.guards import GUARDS, MAX_DURATION_SECONDS, MAX_PIXELS, MAX_SAMPLE_ASPECT, MAX_SIDE
from worker.process import ProcessTimedOut, run
from worker.tools import Tools

PROBE_TIMEOUT_SECONDS = 120
DECODED_SECONDS = 10
"""How much of a stream is searched for a picture or a sound that can be decoded."""

_UNLISTED_CODEC = re.compile(r"Codec \((\w+)\) not on whitelist")

NOT_A_VIDEO = "This file is not a video: no video or audio stream was found in it."


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The picture as it is displayed: after rotation and with square pixels."""

    display_width: int
    display_height: int
    codec: str
    pixel_format: str
    base_fps: Fraction | None
    average_fps: Fraction | None
    interlaced: bool
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AudioInfo:
    codec: str
    channels: int
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class MediaInfo:
    duration_seconds: float | None
    video: VideoInfo | None
    video_index: int | None
    """The stream's number in the file."""
    audio: AudioInfo | None
    audio_index: int | None


async def probe(tools: Tools, url: str) -> MediaInfo:
    """Look at the source.

    Raises:
        SourceRejected: it is no video or audio file, or one beyond the limits.
        AttemptFailed: ffprobe itself failed or hung.
    """
    argv: list[str | Path] = [
        tools.ffprobe,
        "-v",
        "error",
        *GUARDS,
        "-show_format",
        "-show_streams",
        "-of",
        "json",
        url,
    ]
    try:
        done = await run(argv, timeout_seconds=PROBE_TIMEOUT_SECONDS)
    except ProcessTimedOut as error:
        raise AttemptFailed(str(error), code="probe_timed_out") from error
    if done.exit_code < 0:
        raise AttemptFailed(f"ffprobe was ended by signal {-done.exit_code}", code="probe_crashed")
    if done.exit_code != 0:
        unlisted = _UNLISTED_CODEC.search(done.stderr)
        raise undecodable(unlisted[1]) if unlisted else SourceRejected(NOT_A_VIDEO, code="not_a_video")
    return parse_probe(done.stdout)


async def can_decode(tools: Tools, url: str, stream: int) -> bool:
    """Say whether anything of a stream can be decoded: that a build knows the codec says little.

    ffmpeg is asked, which is to decode it: ffprobe may be of another build, with other decoders.
    """
    argv: list[str | Path] = [
        *(tools.ffmpeg, "-nostdin", "-v", "error", *GUARDS, "-t", str(DECODED_SECONDS), "-i", url),
        *("-map", f"0:{stream}", "-frames:0", "1", "-f", "framecrc", "-"),
    ]
    try:
        done = await run(argv, timeout_seconds=PROBE_TIMEOUT_SECONDS)
    except ProcessTimedOut:
        return False
    # a line for each frame, after the lines that describe the streams
    return any(line and not line.startswith(b"#") for line in done.stdout.splitlines())


def parse_probe(json: bytes) -> MediaInfo:
    """Read ffprobe's JSON. Raises: SourceRejected."""
    try:
        report = _Report.model_validate_json(json)
    except ValidationError as error:
        raise AttemptFailed("ffprobe gave no readable answer", code="probe_unreadable") from error
    video = next((stream for stream in report.streams if stream.is_picture), None)
    audio = next((stream for stream in report.streams if stream.is_sound), None)
    if video is None and audio is None:
        raise SourceRejected(NOT_A_VIDEO, code="not_a_video")
    duration = _duration(report)
    if duration is not None and duration > MAX_DURATION_SECONDS:
        raise SourceRejected(
            f"This video is longer than {MAX_DURATION_SECONDS // 3600} hours.", code="video_too_long"
        )
    return MediaInfo(
        duration_seconds=duration,
        video=None if video is None else _video_info(video),
        video_index=None if video is None else video.index,
        audio=None if audio is None else AudioInfo(audio.codec_name, audio.channels, audio.sample_rate),
        audio_index=None if audio is None else audio.index,
    )


def undecodable(codec: str) -> SourceRejected:
    return SourceRejected(
        f"The codec of this file ({codec or 'unknown'}) cannot be decoded here.", code="unsupported_codec"
    )


def _video_info(stream: "_Stream") -> VideoInfo:
    if not stream.pix_fmt:
        raise undecodable(stream.codec_name)
    aspect = _fraction(stream.sample_aspect_ratio.replace(":", "/")) or Fraction(1)
    if not 1 / MAX_SAMPLE_ASPECT <= aspect <= MAX_SAMPLE_ASPECT:
        aspect = Fraction(1)
    width, height = round(stream.width * aspect), stream.height
    if max(stream.width, width) * height > MAX_PIXELS or max(stream.width, width, height) > MAX_SIDE:
        raise SourceRejected(f"This video is too large: {width}x{height} pixels.", code="picture_too_large")
    if stream.rotation % 180 == 90:
        width, height = height, width
    return VideoInfo(
        display_width=max(1, width),
        display_height=max(1, height),
        codec=stream.codec_name,
        pixel_format=stream.pix_fmt,
        base_fps=_fraction(stream.r_frame_rate),
        average_fps=_fraction(stream.avg_frame_rate),
        interlaced=stream.field_order in {"tt", "bb", "tb", "bt"},
        duration_seconds=stream.seconds,
    )


def _duration(report: "_Report") -> float | None:
    streams = (stream.seconds for stream in report.streams if stream.is_picture or stream.is_sound)
    known = [report.format.duration, *streams]
    seconds = max((value for value in known if value is not None), default=0.0)
    return seconds if seconds > 0 else None


def _fraction(text: str) -> Fraction | None:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


_CLOCK = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _SideData(_Answer):
    rotation: float = 0


class _Disposition(_Answer):
    attached_pic: int = 0


class _Tags(_Answer):
    duration: str = Field("", alias="DURATION", description="Matroska's, as 00:00:30.026000000")


class _Stream(_Answer):
    index: int
    codec_type: str = ""
    codec_name: str = ""
    width: int = 0
    height: int = 0
    pix_fmt: str = ""
    sample_aspect_ratio: str = "1:1"
    field_order: str = ""
    r_frame_rate: str = ""
    avg_frame_rate: str = ""
    duration: float | None = None
    channels: int = 0
    sample_rate: int = 0
    tags: _Tags = _Tags()
    disposition: _Disposition = _Disposition()
    side_data_list: tuple[_SideData, ...] = ()

    @property
    def seconds(self) -> float | None:
        match = _CLOCK.fullmatch(self.tags.duration)
        if self.duration is not None or match is None:
            return self.duration
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])

    @property
    def is_sound(self) -> bool:
        return self.codec_type == "audio" and self.channels > 0

    @property
    def is_picture(self) -> bool:
        """A cover image of a music file is no video."""
        return self.codec_type == "video" and self.width > 0 and not self.disposition.attached_pic

    @property
    def rotation(self) -> int:
        return next((round(data.rotation) for data in self.side_data_list if data.rotation), 0)


class _Format(_Answer):
    duration: float | None = None


class _Report(_Answer):
    streams: tuple[_Stream, ...] = ()
    format: _Format = _Format()
