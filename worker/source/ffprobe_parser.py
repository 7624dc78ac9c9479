"""Reads ffprobe's JSON into `MediaInfo`, within the limits of `worker.sandbox.guards`. Pure.

Containers differ in what they say about time: MP4 gives each stream a start and a length, Matroska only the
whole file's end and sometimes a tag per stream, MPEG-TS and bare MP3 or ADTS nothing that can be relied on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from pydantic import ValidationError

from backend.core.errors import AttemptFailed, SourceRejected
from backend.core.languages import UNDETERMINED, standard_language
from worker.sandbox.guards import MAX_PIXELS, MAX_SAMPLE_ASPECT, MAX_SIDE
from worker.source.ffprobe_schema import Report, Stream
from worker.source.media import AudioInfo, ChapterInfo, Colour, MediaInfo, SubtitleInfo, VideoInfo

NOT_A_VIDEO = "This file is not a video: no video or audio stream was found in it."
MAX_TRACKS = 8
"""Of audio, and of subtitles: each audio track costs two encoders."""
MAX_CHAPTERS = 500
MAX_TITLE_LENGTH = 100
TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
INDEXED_CONTAINERS = frozenset({"mov", "matroska", "avi", "asf", "flv", "mxf", "wav", "caf", "aiff", "gif"})
"""Their headers say how long they are, so that less than that is a loss."""
FILE_END_ONLY_CONTAINERS = frozenset({"matroska", "flv"})
"""Their headers say where the whole file ends, not each stream."""
LATE_START_SECONDS = 0.5
DOLBY_VISION_WITHOUT_BASE = 5
"""The profile whose colours only a Dolby Vision decoder knows; the others hold HDR10, HLG or SDR as well."""
UNSPECIFIED_NAMES = frozenset({"0/0", "N/A", "unknown", "reserved", "gbr"})
_INTERLACED = frozenset({"tt", "bb", "tb", "bt"})
_CLOCK = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)")
_DEPTH = re.compile(r"(?:p|gray|x|v)0?(9|10|12|14|16)(?:msb)?(?:le|be)$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def unsupported_codec(codec: str) -> SourceRejected:
    return SourceRejected(
        f"The codec of this file ({codec or 'unknown'}) cannot be decoded here.", code="unsupported_codec"
    )


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What the file says, and what may be asked of it besides."""

    media: MediaInfo
    zero: float
    """The time line's zero by the file's own clock."""
    needs_tail: bool
    """Where the streams end is only known after a look at the end of the file."""
    last_second: float

    def with_ends(self, ends: Mapping[int, float]) -> MediaInfo:
        """Return the media with what its last packets say of the ends of streams, by the file's own clock."""

        def end_of(stream: VideoInfo | AudioInfo) -> float | None:
            return ends[stream.index] - self.zero if stream.index in ends else stream.end_seconds

        video = self.media.video and replace(self.media.video, end_seconds=end_of(self.media.video))
        audio = tuple(replace(track, end_seconds=end_of(track)) for track in self.media.audio)
        known = [end for end in (video and video.end_seconds, *(track.end_seconds for track in audio)) if end]
        found = bool(known) and max(known) > 0
        return replace(
            self.media,
            video=video,
            audio=audio,
            duration_seconds=max(known) if found else self.media.duration_seconds,
            duration_is_reliable=found and self.media.container in INDEXED_CONTAINERS,
        )


def parse_report(json: bytes) -> ProbeReport:
    """Raises: SourceRejected: no media, or more than is taken. AttemptFailed: no answer of ffprobe."""
    try:
        report = Report.model_validate_json(json)
    except ValidationError as error:
        raise AttemptFailed("ffprobe gave no readable answer", code="probe_unreadable") from error
    picture = next((stream for stream in report.streams if stream.is_video), None)
    sounds = [stream for stream in report.streams if stream.is_audio][:MAX_TRACKS]
    if picture is None and not sounds:
        raise SourceRejected(NOT_A_VIDEO, code="not_a_video")
    used = [*([picture] if picture else []), *sounds]
    container = report.format.format_name.partition(",")[0]
    zero = _zero(report, used)
    only_the_end = container in FILE_END_ONLY_CONTAINERS
    late = only_the_end and abs(zero) > LATE_START_SECONDS
    ends = {stream.index: _end(stream, report, zero, late=late) for stream in used}
    if len(used) == 1 and not late and ends[used[0].index] is None:
        ends[used[0].index] = report.format.duration
    known = [end for end in (*ends.values(), report.format.duration) if end is not None and end > 0]
    # Matroska and FLV say where they end by their own clock, the others how long they are
    duration = (
        max(known, default=None) if not late else max((end for end in ends.values() if end), default=None)
    )
    media = MediaInfo(
        container=container,
        duration_seconds=duration,
        duration_is_reliable=duration is not None
        and container in INDEXED_CONTAINERS
        and (picture is None or ends[picture.index] is not None),
        video=None if picture is None else _video_info(picture, zero, ends[picture.index]),
        audio=_audio_tracks(sounds, zero, ends),
        subtitles=_subtitle_tracks(report),
        chapters=_chapters(report, zero),
        recorded_at=report.format.tags.recorded_at,
    )
    return ProbeReport(
        media,
        zero,
        needs_tail=only_the_end and (late or None in ends.values()) and report.format.duration is not None,
        last_second=(report.format.duration or 0) + (zero if zero > (report.format.duration or 0) else 0),
    )


def _zero(report: Report, used: list[Stream]) -> float:
    """Return the instant that ffmpeg turns into zero."""
    starts = [stream.start_time for stream in used if stream.start_time is not None]
    if report.format.start_time is not None:
        return report.format.start_time
    return min(starts, default=0.0)


def _end(stream: Stream, report: Report, zero: float, *, late: bool) -> float | None:
    start = stream.start_after(zero)
    if stream.duration is not None:
        return start + stream.duration
    match = _CLOCK.fullmatch(stream.tags.duration)
    if match is None:
        return None
    # some programs write a stream's length there, others where it ends
    end = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    if late:
        return None
    last = report.format.duration
    return min(start + end, last) if last is not None else end


def _video_info(stream: Stream, zero: float, end: float | None) -> VideoInfo:
    if not stream.pix_fmt:
        raise unsupported_codec(stream.codec_name)
    if any(data.dv_profile == DOLBY_VISION_WITHOUT_BASE for data in stream.side_data_list):
        raise SourceRejected(
            "The colours of this video (Dolby Vision profile 5) cannot be converted here.",
            code="unsupported_colours",
        )
    aspect = _fraction(stream.sample_aspect_ratio.replace(":", "/")) or Fraction(1)
    if not 1 / MAX_SAMPLE_ASPECT <= aspect <= MAX_SAMPLE_ASPECT:
        aspect = Fraction(1)
    width, height = round(stream.width * aspect), stream.height
    if max(stream.width, width) * height > MAX_PIXELS or max(stream.width, width, height) > MAX_SIDE:
        raise SourceRejected(f"This video is too large: {width}x{height} pixels.", code="picture_too_large")
    if stream.rotation % 180 == 90:
        width, height = height, width
    depth = _DEPTH.search(stream.pix_fmt)
    return VideoInfo(
        index=stream.index,
        display_width=max(1, width),
        display_height=max(1, height),
        codec=stream.codec_name,
        pixel_format=stream.pix_fmt,
        base_fps=_fraction(stream.r_frame_rate),
        average_fps=_fraction(stream.avg_frame_rate),
        interlaced=stream.field_order in _INTERLACED,
        colour=Colour(
            primaries=_named(stream.color_primaries),
            transfer=_named(stream.color_transfer),
            matrix=_named(stream.color_space),
            full_range=stream.color_range == "pc" or stream.pix_fmt.startswith("yuvj"),
        ),
        bit_depth=int(depth[1]) if depth else 8,
        rotation=stream.rotation % 360,
        start_seconds=stream.start_after(zero),
        end_seconds=end,
    )


def _audio_tracks(streams: list[Stream], zero: float, ends: dict[int, float | None]) -> tuple[AudioInfo, ...]:
    tracks = [
        AudioInfo(
            index=stream.index,
            codec=stream.codec_name,
            channels=stream.channels,
            sample_rate_hz=stream.sample_rate,
            layout=stream.channel_layout,
            language=_language(stream.tags.language),
            title=_title(stream.tags.title),
            default=bool(stream.disposition.default),
            start_seconds=stream.start_after(zero),
            end_seconds=ends[stream.index],
        )
        for stream in streams
    ]
    return tuple(sorted(tracks, key=lambda track: not track.default))


def _subtitle_tracks(report: Report) -> tuple[SubtitleInfo, ...]:
    return tuple(
        SubtitleInfo(
            index=stream.index,
            codec=stream.codec_name,
            language=_language(stream.tags.language),
            title=_title(stream.tags.title),
            forced=bool(stream.disposition.forced),
        )
        for stream in report.streams
        if stream.codec_type == "subtitle" and stream.codec_name in TEXT_SUBTITLES
    )[:MAX_TRACKS]


def _chapters(report: Report, zero: float) -> tuple[ChapterInfo, ...]:
    return tuple(
        ChapterInfo(max(0.0, one.start_time - zero), one.end_time - zero, _title(one.tags.title) or "")
        for one in report.chapters[:MAX_CHAPTERS]
        if one.end_time > one.start_time and one.end_time > zero
    )


def _fraction(text: str) -> Fraction | None:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def _named(name: str) -> str:
    return "" if name in UNSPECIFIED_NAMES else name


def _language(tag: str) -> str | None:
    language = standard_language(tag) if tag else None
    return None if language in {UNDETERMINED, "mis", "mul", "zxx"} else language


def _title(text: str) -> str | None:
    return _CONTROL.sub(" ", text).strip()[:MAX_TITLE_LENGTH] or None
