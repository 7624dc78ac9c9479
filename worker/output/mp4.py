"""Builds a plain MP4 (ISO/IEC 14496-12) of the segments of HLS and DASH, without encoding. Pure.

`Mp4Track` turns each segment of its rendition into the bytes of a chunk, and remembers the tables that `head`
writes in front of all of them. `worker.output.mp4_sink` moves the bytes.
"""

import struct
from array import array
from collections.abc import Sequence
from fractions import Fraction

from langcodes import Language

from backend.core.languages import UNDETERMINED
from backend.core.records import Chapter
from worker.output.fragments import Config, FragmentError, FragmentReader

MOVIE_TIMESCALE = 90_000
HEADER_BYTES = 16
"""Of `mdat`, whose size has 64 bits."""
MAX_CHAPTERS = 255
_FREE_BYTES = 8
_TABLES_BYTES = 2048
"""More than all other boxes of a track take."""
PICTURE_BYTES, SOUND_BYTES = 4 + 8 + 8, 4
"""What a frame takes: its size and, of pictures, at most a run of their own in `stts` and in `ctts`."""
CHUNK_BYTES = 8 + 12 + 4
_UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SELF_CONTAINED, _ENABLED_IN_MOVIE, _IN_MOVIE = 1, 0x3, 0x2
_LOUD = 0x100


class Mp4Track:
    """One rendition. `language` is BCP 47."""

    def __init__(self, *, language: str | None = None, label: str = "", default: bool = True) -> None:
        self._language, self._label, self._default = language, label, default
        self._reader = FragmentReader()
        self._sizes, self._keys = array("I"), array("I")
        self._durations, self._offsets = _Runs(), _Runs()
        self._chunk_at, self._chunk_frames = array("Q"), array("I")
        self._first_time: int | None = None
        self._ticks = self._shown_until = 0

    def begin(self, init: bytes) -> None:
        """Take the init segment. Raises: FragmentError."""
        self._reader.feed(init)

    def add(self, segment: bytes, position: int) -> bytes:
        """Return the chunk to store `position` bytes after the first one.

        Raises:
            FragmentError: it is no segment, or does not follow the one before.
        """
        if self._reader.config is None:
            raise FragmentError("there is no init segment")
        body = bytearray()
        for fragment in self._reader.feed(segment):
            time = fragment.first_pts - fragment.frames[0].offset - self.config.shift
            if self._first_time is None:
                self._first_time = time
            self._close_gap(time - self._first_time)
            for frame in fragment.frames:
                self._durations.add(frame.duration)
                self._offsets.add(frame.offset)
                self._sizes.append(frame.size)
                if frame.is_key:
                    self._keys.append(len(self._sizes))
                self._ticks += frame.duration
                self._shown_until = max(self._shown_until, self._ticks + frame.offset)
            self._chunk_at.append(position + len(body))
            self._chunk_frames.append(len(fragment.frames))
            body += fragment.body[len(fragment.body) - sum(frame.size for frame in fragment.frames) :]
        self._reader.finish()
        return bytes(body)

    @property
    def config(self) -> Config:
        """Raises: FragmentError: there was no init segment."""
        if self._reader.config is None:
            raise FragmentError("there is no init segment")
        return self._reader.config

    @property
    def seconds(self) -> Fraction:
        """When it ends."""
        return Fraction(self._shown_until - self._skipped, self.config.timescale)

    def box(self, number: int, chunks_at: int) -> bytes:
        """Return `trak`. Its size does not depend on `chunks_at`, where the first chunk is."""
        is_picture, end = bool(self.config.width), _movie_ticks(self.seconds)
        flags = _ENABLED_IN_MOVIE if self._default else _IN_MOVIE
        # alternatives of each other have the same group, other than 0
        shape = (0, 0, 0, 0) if is_picture else (0, 1, _LOUD, 0)
        header = (
            *(_dates, struct.pack(">I4xQ8x4H", number, end, *shape), _UNITY),
            _u32(self.config.width << 16, self.config.height << 16),
        )
        media = struct.pack(">IQHxx", self.config.timescale, self._ticks, _packed_language(self._language))
        handler = (bytes(4), b"vide" if is_picture else b"soun", bytes(12), self._label.encode(), b"\0")
        return _box(
            b"trak",
            _full(b"tkhd", 1, flags, *header),
            _box(b"edts", _full(b"elst", 1, 0, *self._edits(end))),
            _box(
                b"mdia",
                _full(b"mdhd", 1, 0, _dates, media),
                _full(b"hdlr", 0, 0, *handler),
                _box(
                    b"minf",
                    _full(b"vmhd", 0, 1, bytes(8)) if is_picture else _full(b"smhd", 0, 0, bytes(4)),
                    _box(b"dinf", _full(b"dref", 0, 0, _u32(1), _full(b"url ", 0, _SELF_CONTAINED))),
                    self._tables(chunks_at, is_picture=is_picture),
                ),
            ),
        )

    @property
    def _skipped(self) -> int:
        """How much of the track comes before the film's start; negative if it begins after that."""
        return -self.config.shift - (self._first_time or 0)

    def _close_gap(self, time: int) -> None:
        if missing := time - self._ticks:
            if not self._sizes or self._durations.last + missing < 0:
                raise FragmentError("a segment does not follow the one before")
            self._durations.lengthen(missing)
            self._ticks = time

    def _edits(self, end: int) -> Sequence[bytes]:
        form, skipped = struct.Struct(">Qq2H"), self._skipped
        pause = _movie_ticks(Fraction(max(0, -skipped), self.config.timescale))
        entries = [form.pack(end - pause, max(0, skipped), 1, 0)]
        if pause:
            entries.insert(0, form.pack(pause, -1, 1, 0))
        return _u32(len(entries)), *entries

    def _tables(self, chunks_at: int, *, is_picture: bool) -> bytes:
        changes = [
            (number, frames)
            for number, (before, frames) in enumerate(
                zip((0, *self._chunk_frames), self._chunk_frames, strict=False), start=1
            )
            if frames != before
        ]
        chunks = array("Q", (chunks_at + position for position in self._chunk_at))
        runs = [word for number, frames in changes for word in (number, frames, 1)]
        boxes = [
            _box(b"stsd", self.config.sample_descriptions),
            _full(b"stts", 0, 0, *self._durations.table()),
            # old players know no negative ones
            *(
                [_full(b"ctts", int(self._offsets.any_negative), 0, *self._offsets.table())]
                if is_picture
                else []
            ),
            *([_full(b"stss", 0, 0, _u32(len(self._keys)), _big_endian(self._keys))] if is_picture else []),
            _full(b"stsc", 0, 0, _u32(len(changes)), _big_endian(array("I", runs))),
            _full(b"stsz", 0, 0, _u32(0, len(self._sizes)), _big_endian(self._sizes)),
            _full(b"co64", 0, 0, _u32(len(chunks)), _big_endian(chunks)),
        ]
        return _box(b"stbl", *boxes)


class _Runs:
    """A table of values, in runs of equal ones."""

    def __init__(self) -> None:
        self._counts, self._values = array("I"), array("i")

    @property
    def last(self) -> int:
        return self._values[-1]

    @property
    def any_negative(self) -> bool:
        return min(self._values, default=0) < 0

    def add(self, value: int) -> None:
        if self._values and self._values[-1] == value:
            self._counts[-1] += 1
        else:
            self._counts.append(1)
            self._values.append(value)

    def lengthen(self, by: int) -> None:
        """Add to the last value, but not to those that are equal to it."""
        value = self._values[-1]
        self._counts[-1] -= 1
        if not self._counts[-1]:
            self._counts.pop()
            self._values.pop()
        self.add(value + by)

    def table(self) -> Sequence[bytes]:
        pairs = array("i", (word for pair in zip(self._counts, self._values, strict=True) for word in pair))
        return _u32(len(self._counts)), _big_endian(pairs)


def room_for(tracks: int, chapters: Sequence[Chapter], table_bytes: float) -> int:
    """Return the size of a head with tables of so many bytes."""
    return int(_TABLES_BYTES * (tracks + 1) + len(_chapters(chapters)) + table_bytes)


def head(
    tracks: Sequence[Mp4Track], chapters: Sequence[Chapter], media_bytes: int, room: int | None = None
) -> bytes | None:
    """Return everything before the chunks, in exactly `room` bytes or, by default, as few as possible.

    None: there is not enough room.
    """
    least = len(_TYPE) + len(movie(tracks, chapters, 0)) + HEADER_BYTES
    spare = 0 if room is None else room - least
    if room is not None and spare < _FREE_BYTES:
        return None
    return _TYPE + movie(tracks, chapters, least + spare) + _free(spare) + _media_header(media_bytes)


def head_without_index(media_bytes: int, room: int) -> bytes:
    """Return what goes in front of the chunks if `movie` follows them."""
    return _TYPE + _free(room - len(_TYPE) - HEADER_BYTES) + _media_header(media_bytes)


def movie(tracks: Sequence[Mp4Track], chapters: Sequence[Chapter], chunks_at: int) -> bytes:
    """Return `moov`. Its size does not depend on `chunks_at`, the position of the first chunk in the file."""
    end = max((_movie_ticks(track.seconds) for track in tracks), default=0)
    return _box(
        b"moov",
        _full(
            b"mvhd",
            *(1, 0, _dates, struct.pack(">IQIH10x", MOVIE_TIMESCALE, end, 0x10000, _LOUD)),
            *(_UNITY, bytes(24), _u32(len(tracks) + 1)),
        ),
        *(track.box(number, chunks_at) for number, track in enumerate(tracks, start=1)),
        _chapters(chapters),
    )


def _chapters(chapters: Sequence[Chapter]) -> bytes:
    """Return them as Nero and ffmpeg write them, which most players read; the standard has none."""
    if not chapters:
        return b""
    entries = []
    for chapter in chapters[:MAX_CHAPTERS]:
        title = chapter.title.encode()[:MAX_CHAPTERS].decode(errors="ignore").encode()
        entries.append(struct.pack(">QB", round(chapter.start_seconds * 10_000_000), len(title)) + title)
    return _box(b"udta", _full(b"chpl", 1, 0, bytes(4), bytes((len(entries),)), *entries))


_dates = bytes(16)
"""Nobody needs to know when a file was made."""


def _movie_ticks(seconds: Fraction) -> int:
    """Round up, so that no last frame is cut."""
    return -(-seconds * MOVIE_TIMESCALE // 1)


def _packed_language(language: str | None) -> int:
    """Return the three letters of ISO 639-2/T in five bits each (8.4.2)."""
    try:
        letters = Language.get(language).to_alpha3() if language else UNDETERMINED
    except LookupError:
        letters = UNDETERMINED
    first, second, third = (ord(letter) - 0x60 for letter in letters)
    return first << 10 | second << 5 | third


def _media_header(media_bytes: int) -> bytes:
    return struct.pack(">I4sQ", 1, b"mdat", HEADER_BYTES + media_bytes)


def _free(size: int) -> bytes:
    return _box(b"free", bytes(size - _FREE_BYTES)) if size else b""


def _full(kind: bytes, version: int, flags: int, *contents: bytes) -> bytes:
    return _box(kind, _u32(version << 24 | flags), *contents)


def _box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _u32(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def _big_endian(numbers: "array[int]") -> bytes:
    copy = numbers[:]
    copy.byteswap()  # all our machines are little-endian
    return copy.tobytes()


_TYPE = _box(b"ftyp", b"isom", _u32(0x200), b"isomiso2avc1mp41")
