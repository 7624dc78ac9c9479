"""Decides which streams of a source every browser plays as they are. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise

from worker.encode.colours import is_bt709
from worker.encode.grid import FEWEST_FRAMES, copied_segment_starts, copy_starts
from worker.encode.ladder import EncodingPlan
from worker.source.index.source_index import FrameTable, SourceIndex
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
MAX_RATE = Fraction(3, 2)
"""The average of a copied rung, as a factor of the cap of an encoded one."""
MAX_PEAK = Fraction(3, 2) * MAX_RATE
"""The same of each segment: those of encoded rungs, whose buffer holds 2 s, may exceed the cap by half."""
MAX_KEYFRAME_SEGMENTS = 3
"""How many segments long a segment may be because a rung is copied."""
MAX_RUNG_MISSING_SECONDS = 0.1
"""What a copied rung may end before the others do."""
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


def with_copy(
    plan: EncodingPlan, media: MediaInfo, index: SourceIndex, size_bytes: int, segment_seconds: float
) -> EncodingPlan:
    """Return the plan with the source's picture as its top H.264 rung, if it is one: as large, at most
    MAX_RATE times the bits, at a constant rate, and with keyframes that are not far apart.

    Segments of all rungs then begin at keyframes of the source. Only MP4 says all of that in its index.
    """
    rung, video, table = plan.mp4_video, media.video, index.table
    if rung is None or video is None or table is None or not plan.fps or not video.end_seconds:
        return plan
    frame, slot = index.timescale / plan.fps, Fraction(str(segment_seconds)) * index.timescale
    starts = copy_starts(index.keyframes, index.timescale, segment_seconds)
    firsts = copied_segment_starts(plan.fps, index, segment_seconds)
    end = round(video.end_seconds * index.timescale)
    is_rung = (
        copies_picture(media, index, size_bytes)
        and (video.display_width, video.display_height) == (rung.rung.width, rung.rung.height)
        and is_bt709(video)
        # all frames have the numbers that they have in other rungs, where the packager cuts at the same ones
        and index.keyframes[0] < frame / 2
        and frame / 2 < table.shortest_ticks <= table.longest_ticks < frame * 3 / 2
        and all(start // slot == first * frame // slot for start, first in zip(starts, firsts, strict=True))
        and all(after - before >= FEWEST_FRAMES * frame for before, after in pairwise(starts))
        and index.max_gap_seconds(video.end_seconds) <= MAX_KEYFRAME_SEGMENTS * segment_seconds
        and media.seconds_left_after(video) <= MAX_RUNG_MISSING_SECONDS
        and sum(table.group_bytes) * 8 * index.timescale <= end * rung.max_bps * MAX_RATE
        and _peak_bps(index, table, (*starts, end), slot / 2) <= rung.max_bps * MAX_PEAK
    )
    if not is_rung:
        return plan
    copied = replace(rung, copied_frames=table.frames)
    return replace(plan, video=tuple(copied if one is rung else one for one in plan.video))


def _peak_bps(index: SourceIndex, table: FrameTable, bounds: Sequence[int], shortest: Fraction) -> float:
    """Return the rate of the densest segment. Those that are shorter than `shortest` do not count, as in
    playlists."""
    before = dict(zip((*index.keyframes, bounds[-1]), accumulate(table.group_bytes, initial=0), strict=True))
    rates = (
        (before[end] - before[begin]) * 8 * index.timescale / (end - begin)
        for begin, end in pairwise(bounds)
        if end - begin >= shortest
    )
    return max(rates, default=0)


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
