"""Reads ffprobe's JSON into `MediaInfo`, within the limits of `worker.sandbox.guards`. Pure.

Containers differ in what they say about time. MP4 gives each stream a start and a duration, Matroska only
the end of the file and sometimes a tag per stream; MPEG-TS and bare MP3 or ADTS give nothing reliable.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from backend.core.errors import SourceRejected
from backend.core.languages import UNDETERMINED, standard_language
from backend.core.records import Chapter
from worker.sandbox.guards import MAX_PIXELS, MAX_SAMPLE_ASPECT, MAX_SIDE
from worker.source.ffprobe_schema import FILE_END_ONLY_CONTAINERS, Report, Stream
from worker.source.media import AudioInfo, Colour, MediaInfo, SubtitleInfo, VideoInfo
from worker.source.programmes import of_one_programme
from worker.source.selection import NOT_A_VIDEO, choose_audio, choose_picture

MAX_SUBTITLE_TRACKS = 8
MAX_CHAPTERS = 500
MAX_TITLE_LENGTH = 100
TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
INDEXED_CONTAINERS = frozenset(
    {"mov", "matroska", "avi", "asf", "flv", "mxf", "wav", "caf", "aiff", "gif", "flac"}
)
"""Their headers give the duration, so an output that is shorter has lost something."""
RAW_CONTAINERS = frozenset({"h264", "hevc"})
CAMERA_CONTAINERS = frozenset({"mov", "mxf"})
LATE_START_SECONDS = 0.5
DOLBY_VISION_WITHOUT_BASE = 5
"""The profile that only a Dolby Vision decoder can convert; the others also contain HDR10, HLG or SDR."""
UNSPECIFIED_NAMES = frozenset({"0/0", "N/A", "unknown", "reserved", "gbr"})
_INTERLACED = frozenset({"tt", "bb", "tb", "bt"})
_CLOCK = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)")
_DEPTH = re.compile(r"(?:p|gray|x|v)0?(9|10|12|14|16)(?:msb)?(?:le|be)$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What ffprobe says about the file, and what is needed to find the ends of its streams."""

    media: MediaInfo
    origin: float
    """The file's own timestamp at which our time starts."""
    needs_tail: bool
    """The last packets must be read to find where the streams end."""
    tail_seconds: float

    def with_ends(self, ends: Mapping[int, float]) -> MediaInfo:
        """Return the media with the ends of streams, given in the file's own timestamps."""

        def end_of(stream: VideoInfo | AudioInfo) -> float | None:
            return ends[stream.index] - self.origin if stream.index in ends else stream.end_seconds

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


def parse_report(report: Report) -> ProbeReport:
    """Raises: SourceRejected: no media, or beyond the limits."""
    report = of_one_programme(report)
    video, audio = choose_picture(report.streams), choose_audio(report.streams)
    if video is None and not audio:
        raise SourceRejected(NOT_A_VIDEO, code="not_a_video")
    streams = [*([video] if video else []), *audio]
    container = report.container
    origin = _origin(report, streams)
    file_end_only = container in FILE_END_ONLY_CONTAINERS
    late_start = file_end_only and abs(origin) > LATE_START_SECONDS
    ends = {stream.index: _end(stream, report, origin, late_start=late_start) for stream in streams}
    if len(streams) == 1 and not report.has_subtitles and not late_start and ends[streams[0].index] is None:
        ends[streams[0].index] = report.format.duration
    known = [end for end in ends.values() if end is not None and end > 0]
    # the file's own end may be that of subtitles
    if len(known) < len(ends) and not late_start and report.format.duration:
        # Matroska and FLV give the timestamp of the end, the others the duration
        known.append(report.format.duration)
    duration = max(known, default=None)
    media = MediaInfo(
        container=container,
        duration_seconds=duration,
        duration_is_reliable=duration is not None
        and container in INDEXED_CONTAINERS
        and (video is None or ends[video.index] is not None),
        video=None if video is None else _video_info(video, container, origin, ends[video.index]),
        audio=_audio_tracks(audio, container, origin, ends),
        subtitles=_subtitle_tracks(report),
        chapters=_chapters(report, origin),
        recorded_at=report.format.tags.recorded_at,
        origin_seconds=origin,
    )
    return ProbeReport(
        media,
        origin,
        needs_tail=file_end_only
        and (late_start or None in ends.values())
        and report.format.duration is not None,
        tail_seconds=(report.format.duration or 0)
        + (origin if origin > (report.format.duration or 0) else 0),
    )


def _origin(report: Report, streams: list[Stream]) -> float:
    """Return the timestamp that ffmpeg turns into zero."""
    starts = [stream.start_time for stream in streams if stream.start_time is not None]
    if report.format.start_time is not None:
        return report.format.start_time
    return min(starts, default=0.0)


def _end(stream: Stream, report: Report, origin: float, *, late_start: bool) -> float | None:
    start = stream.start_after(origin)
    if stream.duration is not None and report.container not in FILE_END_ONLY_CONTAINERS:
        return start + stream.duration
    match = _CLOCK.fullmatch(stream.tags.duration)
    if match is None:
        return None
    # some programs write the duration of the stream there, others its end
    end = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    if late_start or start > LATE_START_SECONDS:
        return None  # which of them it is cannot be told
    last = report.format.duration
    return min(start + end, last) if last is not None else end


def _video_info(stream: Stream, container: str, origin: float, end: float | None) -> VideoInfo:
    if any(data.dv_profile == DOLBY_VISION_WITHOUT_BASE for data in stream.side_data_list):
        raise SourceRejected(
            "This video's colours (Dolby Vision profile 5) cannot be converted.", code="unsupported_colours"
        )
    aspect = _fraction(stream.sample_aspect_ratio.replace(":", "/")) or Fraction(1)
    if not 1 / MAX_SAMPLE_ASPECT <= aspect <= MAX_SAMPLE_ASPECT:
        aspect = Fraction(1)
    width, height = round(stream.width * aspect), stream.height
    if max(stream.width, width) * height > MAX_PIXELS or max(stream.width, width, height) > MAX_SIDE:
        raise SourceRejected(f"This video is too large: {width}x{height} pixels.", code="picture_too_large")
    width = round((stream.width - stream.crop.crop_left - stream.crop.crop_right) * aspect)
    height -= stream.crop.crop_top + stream.crop.crop_bottom
    if stream.rotation % 180 == 90:
        width, height = height, width
    depth = _DEPTH.search(stream.pixel_format)
    base_fps, average_fps = _fraction(stream.r_frame_rate), _fraction(stream.avg_frame_rate)
    if base_fps is not None and container in RAW_CONTAINERS:
        # ffprobe assumes an average, and counts the fields of H.264
        base_fps = average_fps = base_fps / 2 if container == "h264" else base_fps
    return VideoInfo(
        index=stream.index,
        display_width=max(1, width),
        display_height=max(1, height),
        codec=stream.codec_name,
        # AVI's fourth byte of RGB is unused, and often zero
        pixel_format="bgr0" if _is_opaque(stream, container) else stream.pixel_format,
        base_fps=base_fps,
        average_fps=average_fps,
        interlaced=stream.field_order in _INTERLACED,
        colour=Colour(
            primaries=_named(stream.color_primaries),
            transfer=_named(stream.color_transfer),
            matrix=_named(stream.color_space),
            full_range=stream.color_range == "pc" or stream.pix_fmt.startswith("yuvj"),
        ),
        bit_depth=int(depth[1]) if depth else 8,
        rotation=stream.rotation % 360,
        start_seconds=stream.start_after(origin),
        end_seconds=end,
        profile=stream.profile,
        level=stream.level,
        is_avc=stream.is_avc,
        progressive=stream.field_order == "progressive",
        as_coded=aspect == 1 and not stream.crop.is_crop and not stream.has_matrix,
    )


def _is_opaque(stream: Stream, container: str) -> bool:
    return (container, stream.codec_name, stream.pix_fmt) == ("avi", "rawvideo", "bgra")


def _audio_tracks(
    streams: list[Stream], container: str, origin: float, ends: dict[int, float | None]
) -> tuple[AudioInfo, ...]:
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
            start_seconds=stream.start_after(origin),
            end_seconds=ends[stream.index],
            profile=stream.profile,
        )
        for stream in streams
    ]
    if container in CAMERA_CONTAINERS:
        tracks = _paired(tracks)
    return tuple(sorted(tracks, key=lambda track: not track.default))


def _paired(tracks: list[AudioInfo]) -> list[AudioInfo]:
    """Join each two mono tracks in a row: cameras write every channel as a track of its own."""
    paired: list[AudioInfo] = []
    for track in tracks:
        left = paired[-1] if paired else None
        if left is not None and left.channels == 1 and _plays_along(left, track):
            ends = [end for end in (left.end_seconds, track.end_seconds) if end is not None]
            paired[-1] = replace(
                left,
                channels=2,
                layout="stereo",
                right_index=track.index,
                end_seconds=max(ends, default=None),
            )
        else:
            paired.append(track)
    return paired


def _plays_along(left: AudioInfo, right: AudioInfo) -> bool:
    """Whether these are not alternatives, such as languages."""

    def character(track: AudioInfo) -> AudioInfo:
        return replace(track, index=0, layout="", default=False, end_seconds=None)

    return left.codec.startswith("pcm_") and character(left) == character(right)


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
    )[:MAX_SUBTITLE_TRACKS]


def _chapters(report: Report, origin: float) -> tuple[Chapter, ...]:
    return tuple(
        Chapter(
            start_seconds=max(0.0, chapter.start_time - origin),
            end_seconds=chapter.end_time - origin,
            title=_title(chapter.tags.title) or "",
        )
        for chapter in report.chapters[:MAX_CHAPTERS]
        if chapter.end_time > chapter.start_time and chapter.end_time > origin
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
