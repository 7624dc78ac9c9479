"""Plans the look: a version of the whole video that can be watched while the ladder is encoded. Pure.

All renditions are cut at the same instants, as far as their frames allow, so segment `k` is the same part of
the film in each.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from worker.encode.copying import copies_picture, copies_sound
from worker.encode.grid import SAMPLES_PER_AAC_FRAME, copy_starts, seek_seconds, total_frames
from worker.encode.ladder import AAC_BPS, AudioStream, EncodingPlan, Rung, cap_bps, scaled_rung
from worker.source.index.source_index import SourceIndex
from worker.source.media import MediaInfo, VideoInfo

SIDE = 360
SIDE_ON_MANY_CORES = 720
MANY_CORES = 8
MIN_SEGMENT_SECONDS = 1
MAX_QUICK_SEGMENT_SECONDS = 2.0
"""Viewers who jump wait until all of a segment is encoded."""
SOUND_RATE_HZ = 48_000
PEAK_OF_COPIES = 1.5
"""How much higher than its average the rate of a copied stream is announced."""
PIXELS_PER_CORE_SECOND = 100_000_000
"""One core decodes 160 million of 10-bit HEVC, and the look must stay ahead of its viewers."""
CONTAINERS = frozenset({"mov", "matroska"})


@dataclass(frozen=True, slots=True)
class LookRendition:
    """One stream of the look. Times are in ticks of `timescale`; there is a start for each segment."""

    name: str
    codec: Literal["h264", "aac"]
    copied: bool
    timescale: int
    starts: tuple[int, ...]
    end: int
    bps: int
    """A peak that it hardly exceeds."""
    width: int = 0
    height: int = 0
    language: str | None = None
    label: str = ""
    channels: int = 2

    @property
    def durations(self) -> tuple[Fraction, ...]:
        """The length of each segment in seconds."""
        bounds = (*self.starts[1:], self.end)
        return tuple(
            Fraction(end - start, self.timescale) for start, end in zip(self.starts, bounds, strict=True)
        )


@dataclass(frozen=True, slots=True)
class LookPlan:
    """The picture comes first. `fps` is what the picture is encoded at, or about what a copied one has."""

    kind: Literal["copy", "quick"]
    renditions: tuple[LookRendition, ...]
    fps: Fraction
    skips_frames: bool = False
    """Frames that no others need are not decoded: the frame before them is repeated."""
    seeks: tuple[float, ...] = ()
    """Where decoding begins for each segment, in seconds. A copy begins at its keyframes."""

    @property
    def picture(self) -> LookRendition:
        return self.renditions[0]

    @property
    def sound(self) -> tuple[LookRendition, ...]:
        return self.renditions[1:]

    @property
    def rung(self) -> Rung:
        return Rung(self.picture.width, self.picture.height)

    @property
    def segments(self) -> int:
        return len(self.picture.starts)

    @property
    def seconds(self) -> Fraction:
        return max(Fraction(one.end, one.timescale) for one in self.renditions)


def plan_look(
    media: MediaInfo,
    index: SourceIndex,
    plan: EncodingPlan,
    size_bytes: int,
    segment_seconds: float,
    cores: int,
) -> LookPlan | None:
    """Return None for what cannot be sought exactly, or whose length is not known for sure."""
    video, seconds = media.video, media.duration_seconds
    if (
        video is None
        or plan.fps is None
        or not seconds
        or not media.duration_is_reliable
        or media.container not in CONTAINERS
    ):
        return None
    average_bps = int(size_bytes * 8 / seconds)
    if copies := copies_picture(media, index, size_bytes):
        picture = _copied(video, index, average_bps, segment_seconds)
    else:
        picture = _encoded(
            media, video, plan.fps, segment_seconds, SIDE_ON_MANY_CORES if cores >= MANY_CORES else SIDE
        )
    sound = (_sound(media, stream, picture) for stream in plan.audio)
    fps = (video.average_fps or plan.fps) if copies else plan.fps
    pixels_per_second = video.display_width * video.display_height * (video.average_fps or plan.fps)
    skips = not copies and pixels_per_second > PIXELS_PER_CORE_SECOND * cores
    places = (Fraction(start, picture.timescale) for start in picture.starts)
    seeks = () if copies else tuple(seek_seconds(index, place, quick=True) for place in places)
    return LookPlan("copy" if copies else "quick", (picture, *sound), fps, skips, seeks)


def _copied(video: VideoInfo, index: SourceIndex, average_bps: int, segment_seconds: float) -> LookRendition:
    rung = Rung(video.display_width, video.display_height)
    end = round((video.end_seconds or 0) * index.timescale)
    starts = copy_starts(index.keyframes, index.timescale, segment_seconds)
    return LookRendition(
        f"h264-{rung.label}",
        "h264",
        copied=True,
        timescale=index.timescale,
        starts=_spaced(starts, end, index.timescale),
        end=end,
        bps=int(average_bps * PEAK_OF_COPIES),
        width=rung.width,
        height=rung.height,
    )


def _encoded(
    media: MediaInfo, video: VideoInfo, fps: Fraction, segment_seconds: float, side: int
) -> LookRendition:
    """Return a picture whose segments have as many frames each, but for the first: it is there soon."""
    rung = scaled_rung(video.display_width, video.display_height, side)
    end = total_frames(media, fps) * fps.denominator
    first, step = (
        frames_of(fps, seconds) * fps.denominator
        for seconds in (MIN_SEGMENT_SECONDS, min(segment_seconds, MAX_QUICK_SEGMENT_SECONDS))
    )
    starts = (0, *range(first, end, step))
    return LookRendition(
        f"h264-{rung.label}",
        "h264",
        copied=False,
        timescale=fps.numerator,
        starts=_spaced(starts, end, fps.numerator),
        end=end,
        bps=cap_bps("h264", rung, fps),
        width=rung.width,
        height=rung.height,
    )


def frames_of(fps: Fraction, seconds: float) -> int:
    return max(1, math.ceil(Fraction(seconds) * fps))


def _spaced(starts: tuple[int, ...], end: int, timescale: int) -> tuple[int, ...]:
    """Leave out starts of segments that would be too short to hold sound."""
    spaced = list(starts[:1])
    for start in starts[1:]:
        if min(start - spaced[-1], end - start) >= MIN_SEGMENT_SECONDS * timescale:
            spaced.append(start)
    return tuple(spaced)


def _sound(media: MediaInfo, stream: AudioStream, picture: LookRendition) -> LookRendition:
    """Return a track that is cut at the first frame not before the picture's."""
    copied = copies_sound(media, stream.source)
    rate_hz = stream.source.sample_rate_hz if copied else SOUND_RATE_HZ
    seconds = (stream.source.end_seconds if copied else media.duration_seconds) or 0
    frame = Fraction(SAMPLES_PER_AAC_FRAME, rate_hz)
    later = (math.ceil(Fraction(start, picture.timescale) / frame) for start in picture.starts[1:])
    return LookRendition(
        stream.name,
        "aac",
        copied=copied,
        timescale=rate_hz,
        starts=tuple(place * SAMPLES_PER_AAC_FRAME for place in (0, *later)),
        end=math.ceil(Fraction(seconds) / frame) * SAMPLES_PER_AAC_FRAME,
        bps=AAC_BPS * (stream.source.channels if copied else 2) // 2,
        language=stream.source.language,
        label=stream.label,
        channels=stream.source.channels if copied else 2,
    )
