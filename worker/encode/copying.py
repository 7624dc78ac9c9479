"""Decides which streams of a source every browser plays as they are. Pure."""

from worker.source.index.source_index import SourceIndex
from worker.source.media import AudioInfo, MediaInfo

PROFILES = frozenset({"Constrained Baseline", "Main", "High"})
MAX_GAP_SECONDS = 12.0
"""Between keyframes: as long takes the first segment to load, and a jump to decode."""
MAX_LEVEL = 42
"""H.264 level 4.2: 1080p at 60 frames per second."""
MAX_FPS = 60
MAX_LONG_SIDE, MAX_SHORT_SIDE = 1920, 1088
MAX_BPS = 20_000_000
MAX_START_SECONDS = 0.1
MAX_MISSING_SECONDS = 0.5
"""What a stream may end before the others do."""
MAX_CHANNELS = 6
SOUND_RATES_HZ = frozenset({22_050, 24_000, 32_000, 44_100, 48_000})


def copies_picture(media: MediaInfo, index: SourceIndex, size_bytes: int) -> bool:
    """Whether the picture can be cut at its keyframes and played without being encoded again."""
    video, seconds = media.video, media.duration_seconds
    if video is None or video.end_seconds is None or not seconds:
        return False
    long, short = sorted((video.display_width, video.display_height), reverse=True)
    return (
        video.codec == "h264"
        and video.is_avc
        and video.profile in PROFILES
        and video.level <= MAX_LEVEL
        and video.pixel_format == "yuv420p"
        and not video.colour.full_range
        and video.colour.hdr is None
        and video.progressive
        and video.as_coded
        and not video.rotation
        and video.average_fps is not None
        and video.average_fps <= MAX_FPS
        and long <= MAX_LONG_SIDE
        and short <= MAX_SHORT_SIDE
        and size_bytes * 8 <= MAX_BPS * seconds
        # times are only exact if nothing is subtracted from them, or if they are whole milliseconds
        and (media.origin_seconds == 0 or media.container == "matroska")
        and index.is_plain
        and 0 <= index.keyframes[0] < index.timescale * MAX_START_SECONDS
        and index.max_gap_seconds(video.end_seconds) <= MAX_GAP_SECONDS
        and index.keyframes[-1] < index.timescale * video.end_seconds
        and video.end_seconds >= seconds - MAX_MISSING_SECONDS
    )


def copies_sound(media: MediaInfo, track: AudioInfo) -> bool:
    """Whether a track can be played as it is, from the film's start to its end."""
    return (
        track.codec == "aac"
        and track.profile == "LC"
        and track.channels <= MAX_CHANNELS
        and track.sample_rate_hz in SOUND_RATES_HZ
        and track.start_seconds < MAX_START_SECONDS
        and (track.end_seconds or 0) >= (media.duration_seconds or 0) - MAX_MISSING_SECONDS
    )
