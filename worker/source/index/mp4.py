"""Reads keyframes from the tables of an MP4 or QuickTime file (ISO/IEC 14496-12). Pure; input is hostile.

Tables are runs or arrays. They are never expanded: only the entries of keyframes are looked up.
"""

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, islice, pairwise
from operator import mul

from worker.source.index.source_index import MAX_KEYFRAMES, FrameTable, IndexUnusable, SourceIndex

MAX_BOXES = 10_000
"""Inside one box, where a file has some dozens."""
MAX_ENTRIES = 4_000_000
"""Of a table: 18 hours of frames that all last differently. They take 64 MB."""
FRAMES_AFTER_KEYFRAME = 16
"""How many are looked at for some that are shown before it: H.264 reorders no more."""
EDIT_TOLERANCE_SECONDS = Fraction(1, 10)
_FULL = 4
"""Bytes of version and flags."""


def keyframes_of(moov: bytes, track: int, origin_seconds: float = 0.0) -> SourceIndex:
    """Read the content of a `moov` box. `track` counts all tracks from 0.

    Raises:
        IndexUnusable.
    """
    try:
        return _keyframes(memoryview(moov), track, origin_seconds)
    except (struct.error, LookupError, ZeroDivisionError, OverflowError, StopIteration) as error:
        raise IndexUnusable(f"broken: {error!r}") from error


def _keyframes(moov: memoryview, track: int, origin_seconds: float) -> SourceIndex:
    boxes = list(_boxes(moov))
    if any(kind == b"mvex" for kind, _ in boxes):
        raise IndexUnusable("fragmented")
    trak = [body for kind, body in boxes if kind == b"trak"][track]
    if bytes(_find(trak, b"mdia", b"hdlr")[8:12]) != b"vide":
        raise IndexUnusable("not a picture")
    movie_timescale = _timescale(_find(moov, b"mvhd"))
    timescale = _timescale(_find(trak, b"mdia", b"mdhd"))
    tables = dict(_boxes(_find(trak, b"mdia", b"minf", b"stbl")))
    samples = _Samples(tables)
    if b"stss" in tables:
        numbers: Sequence[int] = [number - 1 for number in _columns(tables[b"stss"], "I", 1)[0]]
    else:
        numbers = range(samples.count)
    if not numbers or len(numbers) > MAX_KEYFRAMES or min(numbers) < 0 or max(numbers) >= samples.count:
        raise IndexUnusable(f"{len(numbers)} keyframes of {samples.count} frames")
    skipped, shown = _edits(trak, Fraction(timescale, movie_timescale))
    shift = -skipped - round(origin_seconds * timescale)
    times = [samples.shown_at(number) + shift for number in numbers]
    if any(after <= before for before, after in zip(times, islice(times, 1, None), strict=False)):
        raise IndexUnusable("keyframes out of order")
    ends_early = (
        shown is not None and samples.ticks - max(0, skipped) - shown > timescale * EDIT_TOLERANCE_SECONDS
    )
    is_plain = (
        not ends_early
        and _number(tables[b"stsd"], _FULL) == 1
        and numbers[0] == 0
        and not any(samples.shows_before(number) for number in numbers)
    )
    return SourceIndex(timescale, tuple(times), is_plain, samples.table(tables, numbers))


class _Samples:
    """When the samples of a track are shown (8.6.1): decoding times are sums of runs, with an offset each."""

    def __init__(self, tables: dict[bytes, memoryview]) -> None:
        counts, self._durations = _columns(tables[b"stts"], "I", 2)
        self._duration_firsts = array("Q", accumulate(counts, initial=0))
        self._decoded = array("Q", accumulate(map(mul, counts, self._durations), initial=0))
        # both versions hold signed numbers in practice
        counts, self._offsets = _columns(tables[b"ctts"], "i", 2) if b"ctts" in tables else (array("i"),) * 2
        self._offset_firsts = array("Q", accumulate(counts, initial=0))
        self.count, self.ticks = self._duration_firsts[-1], self._decoded[-1]

    def shown_at(self, number: int) -> int:
        run = bisect_right(self._duration_firsts, number) - 1
        decoded: int = self._decoded[run] + (number - self._duration_firsts[run]) * self._durations[run]
        at = bisect_right(self._offset_firsts, number) - 1
        return decoded + (self._offsets[at] if at < len(self._offsets) else 0)

    def shows_before(self, keyframe: int) -> bool:
        """Whether frames that are decoded after this keyframe are shown before it (open GOP)."""
        if not self._offsets:
            return False
        following = range(keyframe + 1, min(self.count, keyframe + FRAMES_AFTER_KEYFRAME))
        shown = self.shown_at(keyframe)
        return any(self.shown_at(number) < shown for number in following)

    def table(self, tables: dict[bytes, memoryview], keyframes: Sequence[int]) -> FrameTable | None:
        """Return None if there is no plain table of sizes (8.7.3.2)."""
        if b"stsz" not in tables or _number(tables[b"stsz"], _FULL) or self.count < 2:
            return None
        (sizes,) = _columns(tables[b"stsz"][_FULL:], "I", 1)
        if len(sizes) != self.count:
            return None
        lasting = [
            ticks
            for ticks, first, end in zip(
                self._durations, self._duration_firsts, self._duration_firsts[1:], strict=False
            )
            if first < min(end, self.count - 1)
        ]
        before = array("Q", accumulate(sizes, initial=0))
        groups = (before[end] - before[first] for first, end in pairwise((*keyframes, self.count)))
        return FrameTable(self.count, min(lasting), max(lasting), tuple(groups))


def _edits(trak: memoryview, ticks: Fraction) -> tuple[int, int | None]:
    """Return how much of the track is skipped at its start (8.6.6) and how much of it is shown.

    The first is negative if the track starts late. None: all of it. `ticks` are the track's per tick of the
    movie.
    """
    edits = dict(_boxes(trak)).get(b"edts")
    if edits is None:
        return 0, None
    table = _find(edits, b"elst")
    count, form = _number(table, _FULL), ">Qqi" if table[0] else ">Iii"
    if not 1 <= count <= 2:
        raise IndexUnusable(f"{count} edits")
    entries = [
        struct.unpack_from(form, table, _FULL + 4 + number * struct.calcsize(form)) for number in range(count)
    ]
    pause = round(entries.pop(0)[0] * ticks) if entries[0][1] == -1 else 0
    if len(entries) != 1 or entries[0][2] != 1 << 16 or entries[0][1] < 0:
        raise IndexUnusable("several edits")
    duration, start, _ = entries[0]
    return start - pause, round(duration * ticks) or None


def _timescale(header: memoryview) -> int:
    """Read an `mvhd` or `mdhd` (8.2.2, 8.4.2)."""
    timescale = _number(header, 20 if header[0] else 12)
    if not timescale:
        raise IndexUnusable("no timescale")
    return timescale


def _columns(table: memoryview, kind: str, width: int) -> tuple["array[int]", ...]:
    """Return the columns of a table, which has `width` 32-bit numbers per entry."""
    count, start = _number(table, _FULL), _FULL + 4
    if count > MAX_ENTRIES or start + 4 * count * width > len(table):
        raise IndexUnusable(f"a table with {count} entries")
    numbers = array(kind)
    numbers.frombytes(table[start : start + 4 * count * width])
    if sys.byteorder == "little":
        numbers.byteswap()
    return tuple(numbers[column::width] for column in range(width))


def _number(data: memoryview, at: int) -> int:
    number: int = struct.unpack_from(">I", data, at)[0]
    return number


def _find(data: memoryview, *path: bytes) -> memoryview:
    for kind in path:
        data = next(body for found, body in _boxes(data) if found == kind)
    return data


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kinds and contents of consecutive boxes (4.2)."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, at + 8)[0], 16
        end = at + size if size else len(data)
        if (size and size < header) or end > len(data):
            raise IndexUnusable(f"a box {kind!r} of {size} bytes")
        yield kind, data[at + header : end]
        at = end
    raise IndexUnusable("too many boxes")
