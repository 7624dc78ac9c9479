"""Where the segments and chunks of a film begin. Pure; counts frames, or ticks of a timescale.

The encoded picture has a constant rate from zero, so that frame `n` is shown at `n / fps`. Segment `k` begins
at the first frame that is not earlier than `k * segment_seconds`; so does the packager count.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, count, pairwise, takewhile

from worker.source.index.source_index import SourceIndex
from worker.source.media import MediaInfo

SAMPLES_PER_AAC_FRAME = 1024
SHORTEST_CHUNK_SECONDS = 12.0
FEWEST_FRAMES = 16
"""Of a chunk. Encoders of one or two frames do not reorder any, which makes another init segment."""
SHORTEST_LAST_CHUNK_SECONDS = 24.0
MAX_CHUNKS = 400
MARGIN_SECONDS = 1
"""How much is decoded before a chunk at least: the frame that is still shown then, and its neighbours for
deinterlacing."""
QUICK_MARGIN_SECONDS = Fraction(1, 10)
"""The same of looks: enough for the frame that is still shown, and for the sound before it."""
SEEK_AFTER_SECONDS = 0.14
"""ffmpeg seeks 3/23 s earlier than told if frames are not decoded in the order in which they are shown."""
MAX_REORDERED_FRAMES = 16
"""How many frames may be shown before one that is decoded before them (ITU-T H.264, A.3.1)."""
CHUNKS_OF_SHORT_FILMS = 16
"""Chunks are shortened to have so many, so that many workers finish a short film early."""
LAST_CHUNKS = 16
"""When so many are left, they become shorter: then many workers finish together."""
_MAX_FULL_CHUNKS = 350
"""MAX_CHUNKS, less what shortening the last ones adds."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the film that is encoded by itself. `keyframes` count from `first_frame`; 0 is one of them.

    How many frames the last chunk has is an estimate: files are not exact about their end. To decode the
    chunk, ffmpeg seeks to `seek_seconds`; 0: it reads from the start.
    """

    number: int
    first_frame: int
    frames: int
    keyframes: tuple[int, ...]
    is_last: bool
    seek_seconds: float = 0.0


def segment_starts(fps: Fraction, frames: int, segment_seconds: float) -> tuple[int, ...]:
    """Return the first frame of each segment, of a film that has at least one frame."""
    # as it is written: 0.1 is a tenth
    step = Fraction(str(segment_seconds)) * fps
    each = (-(-number * step.numerator // step.denominator) for number in count())
    starts = takewhile(lambda start: start < max(1, frames), each)
    # a segment shorter than a frame would be empty
    return tuple(dict.fromkeys(starts))


def copied_segment_starts(fps: Fraction, index: SourceIndex, segment_seconds: float) -> tuple[int, ...]:
    """Return the first frame of each segment of a rung that is copied."""
    starts = copy_starts(index.keyframes, index.timescale, segment_seconds)
    return tuple(round(start * fps / index.timescale) for start in starts)


def chunk_seconds(film_seconds: float, longest: float) -> float:
    """Return how long the chunks of a film should be. `longest` gives way only to MAX_CHUNKS."""
    wanted = film_seconds / CHUNKS_OF_SHORT_FILMS
    if wanted < SHORTEST_CHUNK_SECONDS:
        # an even number: two workers finish together
        pairs = math.floor(film_seconds / SHORTEST_CHUNK_SECONDS / 2 + 0.25)
        wanted = film_seconds / max(1, 2 * pairs)
    return max(min(longest, wanted), film_seconds / _MAX_FULL_CHUNKS)


def chunks_of(
    fps: Fraction,
    frames: int,
    segment_seconds: float,
    chunk_seconds: float,
    held_frames: int,
    index: SourceIndex,
    *,
    as_copied: bool = False,
) -> tuple[Chunk, ...]:
    """Divide a film into chunks of whole segments, about `chunk_seconds` long; the last ones are shorter.

    With `as_copied`, segments begin where those of a copied rung do.

    Of its `frames`, the last `held_frames` repeat the last picture. A chunk that began there, or close to it,
    would find nothing to decode.
    """
    if as_copied:
        keyframes = copy_starts(index.keyframes, index.timescale, segment_seconds)
        starts = copied_segment_starts(fps, index, segment_seconds)
        seeks = [copied_seek_seconds(index, keyframe, fps) for keyframe in keyframes]
    else:
        starts = segment_starts(fps, frames, segment_seconds)
        seeks = [seek_seconds(index, start / fps) for start in starts]
    seconds, fewest = float(frames / fps), float(FEWEST_FRAMES / fps)
    number_of = max(1.0, min(seconds / chunk_seconds, _MAX_FULL_CHUNKS, frames // FEWEST_FRAMES))
    shortest = max(SHORTEST_LAST_CHUNK_SECONDS, fewest) * number_of / seconds
    shares = list(_shares(number_of, min(1.0, shortest)))
    before = accumulate(shares[:-1], initial=0.0)
    firsts = dict.fromkeys(_nearest(starts, share * frames / sum(shares)) for share in before)
    last_start = frames - held_frames - max(fps, Fraction(FEWEST_FRAMES))
    bounds = [0, *(first for first in firsts if first and starts[first] <= last_start), len(starts)]
    ends = (*starts, max(1, frames))
    return tuple(
        Chunk(
            number,
            starts[first],
            ends[end] - starts[first],
            tuple(start - starts[first] for start in starts[first:end]),
            end == len(starts),
            seeks[first],
        )
        for number, (first, end) in enumerate(pairwise(bounds))
    )


def _nearest(starts: Sequence[int], frame: float) -> int:
    """Return which of the ascending starts is closest."""
    at = bisect_left(starts, frame)
    return min(max(at - 1, 0), min(at, len(starts) - 1), key=lambda place: abs(starts[place] - frame))


def _shares(chunks: float, shortest: float) -> Iterator[float]:
    """Yield how long each chunk is, with 1 for all but the last ones, of a film that is `chunks` long."""
    while chunks > shortest / 2:
        share = min(1.0, max(shortest, chunks / LAST_CHUNKS))
        yield share
        chunks -= share


def seek_seconds(index: SourceIndex, start: Fraction, *, quick: bool = False) -> float:
    """Return where ffmpeg must seek to decode what is shown from `start` on; 0: to the start of the file.

    It seeks by the time at which keyframes are decoded. At a low rate, or after a long frame, that may be
    many seconds before they are shown. So it is told a keyframe and not `start`. It is the last but one
    before `start`: with intra refresh, the picture is whole only when the next keyframe comes. For a `quick`
    start it is the last one, and such a picture is broken for up to a second.
    """
    margin, before = (QUICK_MARGIN_SECONDS, 1) if quick else (MARGIN_SECONDS, 2)
    at = bisect_right(index.keyframes, (start - margin) * index.timescale) - before
    return index.keyframes[at] / index.timescale + SEEK_AFTER_SECONDS if at > 0 else 0.0


def copied_seek_seconds(index: SourceIndex, start: int, fps: Fraction) -> float:
    """Return the same for what begins with a keyframe (`start`, in ticks), of a picture whose keyframes need
    no other frames: that keyframe, unless ffmpeg might find the next one instead."""
    margin = (MARGIN_SECONDS + MAX_REORDERED_FRAMES / fps) * index.timescale
    at = bisect_left(index.keyframes, start)
    if any(after < start + margin for after in index.keyframes[at + 1 : at + 2]):
        at = bisect_right(index.keyframes, start - margin) - 1
    return index.keyframes[at] / index.timescale + SEEK_AFTER_SECONDS if at > 0 else 0.0


def seconds_of(frame: int, fps: Fraction | None) -> str:
    """Return when a frame is shown, in the way ffmpeg reads it: it goes by microseconds.

    Rounded up, it would be after the frame, and ffmpeg would force a keyframe at the next one.
    """
    return f"{frame * 1_000_000 // (fps or 1) / 1_000_000:.6f}"


def copy_starts(keyframes: Iterable[int], timescale: int, segment_seconds: float) -> tuple[int, ...]:
    """Return at which of the keyframes (in ticks, ascending) a segment begins: the first in each slot of
    `segment_seconds`, as in the packager."""
    slot = Fraction(str(segment_seconds)) * timescale
    starts: dict[int, int] = {}
    for keyframe in keyframes:
        starts.setdefault(int(keyframe // slot), keyframe)
    return tuple(starts.values())


def total_frames(media: MediaInfo, fps: Fraction) -> int:
    """Return how many frames the encoded picture will have, give or take two.

    Raises: ValueError: the file does not say how long it is.
    """
    if media.duration_seconds is None:
        raise ValueError("the duration is unknown")
    return max(1, round(Fraction(media.duration_seconds) * fps))


def held_frames(media: MediaInfo, fps: Fraction) -> int:
    """Return how many of `total_frames` repeat the last picture, since the sound ends later."""
    return 0 if media.video is None else round(Fraction(media.seconds_left_after(media.video)) * fps)
