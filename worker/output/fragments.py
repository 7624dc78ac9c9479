"""Reads, moves and cuts fragmented MP4 of one track (ISO/IEC 14496-12), of ffmpeg and the packager. Pure.

The init segment, `ftyp` and `moov`, comes first, then the fragments: each a `moof` and its `mdat`. Times are
in ticks of the init segment's timescale, as players show them.
"""

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal, NamedTuple

from worker.encode.grid import SAMPLES_PER_AAC_FRAME

MAX_INIT_BYTES = 1024**2
MAX_FRAGMENT_BYTES = 128 * 1024**2
"""A copied group of pictures of 12 s may have four times the highest rate that is copied."""

_BOX = struct.Struct(">I4s")
_U32 = struct.Struct(">I")
_DEFAULTS = struct.Struct(">III")
_EDITS = (struct.Struct(">Ii4x"), struct.Struct(">Qq4x"))
_SIZE = struct.Struct(">HH")
_FULL = 4
"""Bytes of a full box before its fields: the version and flags."""
_NOT_KEY, _INDEPENDENT = 0x10000, 0x2000000
_INDEXES = {b"mfra", b"styp", b"sidx"}
"""ffmpeg ends with an index, the packager begins with one."""
_OUR_HEADER, _OUR_ENTRY, _OUR_DURATION, _OUR_SIZE, _OUR_FLAGS = 0x20000, 0x2, 0x8, 0x10, 0x20
_RUN_OFFSET, _RUN_FIRST_FLAGS = 0x1, 0x4
_RUN_FIELDS = ((0x100, "duration"), (0x200, "size"), (0x400, "flags"), (0x800, "offset"))


class FragmentError(ValueError):
    """The bytes are not what ffmpeg writes, or there are too many."""


class Frame(NamedTuple):
    """A coded frame. `offset` is how much later it is shown than decoded."""

    size: int
    duration: int
    offset: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Fragment:
    """`body` is all its bytes. `first_pts` is the time of the first frame in the order of decoding."""

    kind: Literal["init", "media"]
    body: bytes
    frames: tuple[Frame, ...] = ()
    first_pts: int = 0
    _decode_time: int = field(default=0, repr=False)
    _decode_time_at: int = field(default=0, repr=False)

    @property
    def samples(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True)
class Config:
    """What a decoder must know. Streams of one `digest` can be joined behind either's init segment.

    `width` and `height` are 0 for audio. `shift` is what the edit list adds to all times.
    """

    codec_string: str
    """RFC 6381."""
    digest: str
    timescale: int
    width: int
    height: int
    shift: int
    sample_descriptions: bytes = field(default=b"", repr=False)
    """The content of `stsd`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`number` counts from 0."""

    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Defaults:
    """Of a track's frames."""

    duration: int
    size: int
    flags: int


class FragmentReader:
    """Splits a stream, which comes in pieces of any length, into its init segment and its fragments.

    It holds at most `max_bytes` and the last piece.
    """

    def __init__(self, max_bytes: int = MAX_FRAGMENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pending = bytearray()
        self._needed = _BOX.size
        self._first = b""
        self._defaults = _Defaults(0, 0, 0)
        self.config: Config | None = None
        """Known once the init segment is read."""

    def feed(self, data: bytes) -> list[Fragment]:
        """Raises: FragmentError."""
        self._pending += data
        found: list[Fragment] = []
        while len(self._pending) >= self._needed:
            size, kind = _BOX.unpack_from(self._pending)
            # larger boxes and those up to the end of the file have other headers
            limit = MAX_INIT_BYTES if self.config is None else self._max_bytes
            if not _BOX.size <= size <= limit - len(self._first):
                raise FragmentError(f"a box {kind!r} of {size} bytes")
            self._needed = size
            if len(self._pending) >= size:
                box = bytes(memoryview(self._pending)[:size])
                del self._pending[:size]
                self._needed = _BOX.size
                found += self._take(kind, box)
        return found

    def finish(self) -> None:
        """Raises: FragmentError: the stream ended within a fragment."""
        if self._pending or self._first or self.config is None:
            raise FragmentError("the stream ended too early")

    def _take(self, kind: bytes, box: bytes) -> Iterator[Fragment]:
        first, second = (b"ftyp", b"moov") if self.config is None else (b"moof", b"mdat")
        if kind == first and not self._first:
            self._first = box
        elif kind == second and self._first:
            fragment = self._whole(self._first, box)
            self._first = b""
            yield fragment
        elif kind not in _INDEXES:
            raise FragmentError(f"a box {kind!r} where none belongs")

    def _whole(self, first: bytes, second: bytes) -> Fragment:
        try:
            if self.config is not None:
                return _fragment(first, second, self.config.shift, self._defaults)
            self._defaults = _Defaults(*_DEFAULTS.unpack_from(_find(second, b"moov", b"mvex", b"trex"), 12))
        except (struct.error, LookupError) as error:
            raise FragmentError(f"a fragment that ffmpeg does not write: {error!r}") from error
        self.config = config_of(first + second)
        return Fragment("init", first + second)


def moved(fragment: Fragment, first_pts: int) -> bytes:
    """Return the fragment's bytes with all its frames moved, so that the first is shown at `first_pts`."""
    decode_time = fragment._decode_time + first_pts - fragment.first_pts
    at = fragment._decode_time_at
    width = 8 if fragment.body[at - _FULL] else 4
    time = decode_time.to_bytes(width, "big", signed=width == 8)
    return fragment.body[:at] + time + fragment.body[at + width :]


class PictureCutter:
    """Makes segments of fragments that are a group of pictures each, and have their place in the film."""

    def __init__(self, starts: Sequence[int], segment: int = 0, *, constant_rate: bool = False) -> None:
        """`starts` are the times of the segments' first frames; those before `segment` are left out.

        With `constant_rate`, the frames' durations tell when a segment is whole. Otherwise the next one does.
        """
        self._starts = starts
        self._number = segment
        self._constant_rate = constant_rate
        self._parts: list[bytes] = []

    def feed(self, fragment: Fragment) -> list[Segment]:
        """Return the segments that are whole now. Raises: FragmentError: one has no keyframe at its start."""
        number = bisect_right(self._starts, fragment.first_pts) - 1
        if number < self._number:
            return []
        done = self.finish() if number > self._number else []
        if not self._parts and (number, fragment.first_pts) != (self._number, self._starts[self._number]):
            raise FragmentError(f"segment {self._number} does not begin where it should")
        self._parts.append(fragment.body)
        end = fragment.first_pts + sum(frame.duration for frame in fragment.frames)
        if self._constant_rate and end in self._starts[number + 1 : number + 2]:
            done += self.finish()
        return done

    def finish(self) -> list[Segment]:
        """Return the last segment, if any: nothing comes after it."""
        done = [Segment(self._number, b"".join(self._parts))] if self._parts else []
        self._number += len(done)
        self._parts = []
        return done


class SoundCutter:
    """Makes segments of AAC frames, wherever ffmpeg began to read. The timescale is the sample rate.

    The frames are counted from the film's start. They follow the first one without gaps, even if their times
    are rounded, as Matroska's are.
    """

    def __init__(self, starts: Sequence[int], segment: int = 0) -> None:
        """`starts` are the first frames of the segments; those before `segment` are left out."""
        self._starts = starts
        self._number = segment
        self._shift: int | None = None
        self._frames: dict[int, bytes] = {}

    def feed(self, fragment: Fragment) -> list[Segment]:
        """Return the segments that are whole now. Raises: FragmentError: one would be empty."""
        if self._shift is None:
            self._shift = _nearest_frame(fragment.first_pts) * SAMPLES_PER_AAC_FRAME - fragment.first_pts
        done: list[Segment] = []
        pts = fragment.first_pts + self._shift
        at = len(fragment.body) - sum(frame.size for frame in fragment.frames)
        for frame in fragment.frames:
            place = _nearest_frame(pts)
            number = bisect_right(self._starts, place) - 1
            if number > self._number:
                done += self.finish()
            if number > self._number:
                raise FragmentError(f"there is no sound for segment {self._number}")
            if number == self._number:
                self._frames[place] = fragment.body[at : at + frame.size]
            pts, at = pts + frame.duration, at + frame.size
        return done

    def finish(self) -> list[Segment]:
        """Return the last segment, if any: nothing comes after it."""
        if not self._frames:
            return []
        places = sorted(self._frames)
        durations = [later - place for place, later in pairwise((*places, places[-1] + 1))]
        body = _sound(
            self._number + 1,
            places[0] * SAMPLES_PER_AAC_FRAME - (self._shift or 0),
            [(len(self._frames[place]), length) for place, length in zip(places, durations, strict=True)],
        )
        body += _box(b"mdat", *(self._frames[place] for place in places))
        self._frames = {}
        self._number += 1
        return [Segment(self._number - 1, body)]


def _nearest_frame(pts: int) -> int:
    return (pts + SAMPLES_PER_AAC_FRAME // 2) // SAMPLES_PER_AAC_FRAME


def config_of(init: bytes) -> Config:
    """Read an init segment. Raises: FragmentError."""
    try:
        track = _find(init, b"moov", b"trak")
        timescale = _U32.unpack_from(_find(track, b"mdia", b"mdhd"), 12)[0]
        movie_timescale = _U32.unpack_from(_find(init, b"moov", b"mvhd"), 12)[0]
        entries = _find(track, b"mdia", b"minf", b"stbl", b"stsd")
        codec, entry = next(_boxes(entries, _FULL + 4))
        kind = _CODECS[codec]
        suffix, setup = kind.describe(_find(entry[kind.fields :], kind.record))
        width, height = _SIZE.unpack_from(entry, 24) if kind.is_picture else (0, 0)
        shift = _shift(track, Fraction(timescale, movie_timescale))
    except (struct.error, LookupError, ZeroDivisionError, StopIteration, UnicodeDecodeError) as error:
        raise FragmentError(f"an init segment that ffmpeg does not write: {error!r}") from error
    digest = hashlib.sha256(repr((codec, width, height, timescale, shift, setup)).encode()).hexdigest()
    return Config(codec.decode() + suffix, digest, timescale, width, height, shift, entries)


def _shift(track: bytes, ticks: Fraction) -> int:
    """Return what the edit list (8.6.6) adds: the pause before the stream, less what is skipped of it."""
    shift = 0
    for kind, edits in _boxes(track):
        if kind == b"edts":
            entries = _find(edits, b"elst")
            form = _EDITS[entries[0]]
            for number in range(_U32.unpack_from(entries, _FULL)[0]):
                duration, start = form.unpack_from(entries, _FULL + 4 + number * form.size)
                shift += round(duration * ticks) if start == -1 else -start
    return shift


@dataclass(frozen=True, slots=True)
class _Codec:
    """`fields` is the length of a sample entry before its boxes; `describe` reads the one named `record`."""

    fields: int
    record: bytes
    describe: Callable[[bytes], tuple[str, bytes]]
    """Returns the end of the codec string, and what a decoder must know."""

    @property
    def is_picture(self) -> bool:
        return self.fields == _PICTURE


def _avc(record: bytes) -> tuple[str, bytes]:
    return f".{record[1:4].hex()}", record


def _av1(record: bytes) -> tuple[str, bytes]:
    tier, depth = "H" if record[2] & 0x80 else "M", 8 + 2 * (record[2] >> 6 & 1)
    return f".{record[1] >> 5}.{record[1] & 31:02}{tier}.{depth:02}", record


def _aac(record: bytes) -> tuple[str, bytes]:
    """Read descriptors (ISO/IEC 14496-1, 7.2.6). The bit rates between them differ from file to file."""
    decoder = _descriptor(_descriptor(record[_FULL:])[3:])
    specific = _descriptor(decoder[13:])
    return f".{decoder[0]:x}.{specific[0] >> 3}", specific


def _opus(record: bytes) -> tuple[str, bytes]:
    return "", record


_PICTURE, _SOUND = 78, 28
_CODECS = {
    b"avc1": _Codec(_PICTURE, b"avcC", _avc),
    b"av01": _Codec(_PICTURE, b"av1C", _av1),
    b"mp4a": _Codec(_SOUND, b"esds", _aac),
    b"Opus": _Codec(_SOUND, b"dOps", _opus),
}


def _descriptor(data: bytes) -> bytes:
    """Return the content of the first descriptor."""
    size, at = 0, 1
    while True:
        size = size << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return data[at : at + size]


def _fragment(moof: bytes, mdat: bytes, shift: int, defaults: _Defaults) -> Fragment:
    """Raises: FragmentError, struct.error, LookupError."""
    traf = _find(moof, b"moof", b"traf")
    header, times, run = (_find(traf, kind) for kind in (b"tfhd", b"tfdt", b"trun"))
    defaults = _own_defaults(header, defaults)
    frames = tuple(_frames(run, defaults, len(mdat)))
    if not frames or sum(frame.size for frame in frames) != len(mdat) - _BOX.size:
        raise FragmentError("a fragment of several tracks or runs")
    decode_time = int.from_bytes(times[_FULL:], "big", signed=times[0] == 1)
    at = moof.index(b"tfdt" + times) + 4 + _FULL
    first_pts = decode_time + frames[0].offset + shift
    return Fragment("media", moof + mdat, frames, first_pts, decode_time, at)


def _own_defaults(header: bytes, defaults: _Defaults) -> _Defaults:
    """Read a `tfhd` (8.8.7)."""
    flags = _U32.unpack_from(header)[0]
    at = _FULL + 4 + 4 * bool(flags & _OUR_ENTRY)
    for bit, name in ((_OUR_DURATION, "duration"), (_OUR_SIZE, "size"), (_OUR_FLAGS, "flags")):
        if flags & bit:
            defaults = replace(defaults, **{name: _U32.unpack_from(header, at)[0]})
            at += 4
    if flags & ~(_OUR_ENTRY | _OUR_DURATION | _OUR_SIZE | _OUR_FLAGS) != _OUR_HEADER:
        raise FragmentError("data that is not behind its header")
    return defaults


def _frames(run: bytes, defaults: _Defaults, most: int) -> Iterator[Frame]:
    """Read a `trun` (8.8.8)."""
    flags, number = struct.unpack_from(">II", run)
    if number > most:
        raise FragmentError(f"{number} frames in {most} bytes")
    first = _FULL + 4 + 4 * bool(flags & _RUN_OFFSET)
    at = first + 4 * bool(flags & _RUN_FIRST_FLAGS)
    names = [name for bit, name in _RUN_FIELDS if flags & bit]
    form = struct.Struct(">" + "".join("i" if name == "offset" else "I" for name in names))
    for index in range(number):
        own = dict(zip(names, form.unpack_from(run, at + index * form.size), strict=True))
        if index == 0 and flags & _RUN_FIRST_FLAGS:
            own["flags"] = _U32.unpack_from(run, first)[0]
        yield Frame(
            own.get("size", defaults.size),
            own.get("duration", defaults.duration),
            own.get("offset", 0),
            not own.get("flags", defaults.flags) & _NOT_KEY,
        )


def _find(data: bytes, *path: bytes) -> bytes:
    """Return the content of a box. Raises: LookupError: there is none."""
    for kind in path:
        data = dict(reversed([*_boxes(data)]))[kind]
    return data


def _boxes(data: bytes, at: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kinds and contents of consecutive boxes."""
    while at < len(data):
        size, kind = _BOX.unpack_from(data, at)
        if not _BOX.size <= size <= len(data) - at:
            raise FragmentError(f"a box {kind!r} of {size} bytes")
        yield kind, data[at + _BOX.size : at + size]
        at += size


def _sound(sequence: int, decode_time: int, frames: Sequence[tuple[int, int]]) -> bytes:
    """Return a `moof` (8.8.4) for AAC frames, given their sizes and durations, the latter in AAC frames."""
    run = b"".join(struct.pack(">II", length * SAMPLES_PER_AAC_FRAME, size) for size, length in frames)
    header = struct.pack(">III", _OUR_HEADER | _OUR_FLAGS, 1, _INDEPENDENT)
    fields = sum(bit for bit, name in _RUN_FIELDS if name in {"duration", "size"})
    # `mdat`'s content is behind this box, whose length does not depend on what it says
    moof = b""
    for _ in range(2):
        start = struct.pack(">IIi", _RUN_OFFSET | fields, len(frames), len(moof) + _BOX.size)
        boxes = (
            _box(b"tfhd", header),
            _box(b"tfdt", b"\x01\0\0\0", _signed(decode_time)),
            _box(b"trun", start, run),
        )
        moof = _box(b"moof", _box(b"mfhd", bytes(_FULL), _U32.pack(sequence)), _box(b"traf", *boxes))
    return moof


def _box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return _BOX.pack(_BOX.size + len(body), kind) + body


def _signed(number: int) -> bytes:
    """ffmpeg writes times before the film's start, of what decoders need to begin, as if unsigned."""
    return number.to_bytes(8, "big", signed=True)
