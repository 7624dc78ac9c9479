"""Builds the head of a WebM that ffmpeg writes to a pipe.

ffmpeg cannot seek in a pipe, so its WebM has no index, duration or size. `WebmReader` collects them as the
clusters pass, and `head` writes them (RFC 9559 and the WebM guidelines: the index comes before the clusters).
Both are pure; `worker.output.webm_sink` moves the bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from backend.core.records import Chapter
from worker.source.ebml import (
    MIN_VOID_BYTES,
    EbmlError,
    children,
    element,
    identifier_bytes,
    read_header,
    size_bytes,
    void,
)

EBML, SEGMENT = 0x1A45DFA3, 0x18538067
SEEK_HEAD, SEEK, SEEK_ID, SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
INFO, TIMESTAMP_SCALE, DURATION, MUXING_APP, WRITING_APP = 0x1549A966, 0x2AD7B1, 0x4489, 0x4D80, 0x5741
TRACKS, TRACK, TRACK_NUMBER, TRACK_TYPE, DEFAULT_DURATION = 0x1654AE6B, 0xAE, 0xD7, 0x83, 0x23E383
CHAPTERS, EDITION, CHAPTER, CHAPTER_UID, CHAPTER_START, CHAPTER_END = (
    0x1043A770,
    0x45B9,
    0xB6,
    0x73C4,
    0x91,
    0x92,
)
CHAPTER_DISPLAY, CHAPTER_TITLE, CHAPTER_LANGUAGE = 0x80, 0x85, 0x437C
CUES, CUE, CUE_TIME, CUE_POSITIONS, CUE_TRACK, CUE_CLUSTER = 0x1C53BB6B, 0xBB, 0xB3, 0xB7, 0xF7, 0xF1
CLUSTER, TIMESTAMP, SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3
BLOCK_GROUP, BLOCK, BLOCK_DURATION, REFERENCE = 0xA0, 0xA1, 0x9B, 0xFB

TICK_NANOSECONDS = 1_000_000
"""The timestamp scale that ffmpeg writes and players expect in a WebM."""
VIDEO_TYPE = 1
KEYFRAME_FLAG = 0x80
MAX_HEADER_BYTES = 1024 * 1024
"""Of everything before the first cluster."""
BLOCK_HEADER_BYTES = 11
"""At most: a track number of eight bytes, a timestamp of two and one of flags."""
APPLICATION = b"vodbucket"

_CUE = struct.Struct(">BB BBI BB BBB BBHI")
_CUES_HEADER_BYTES = 4 + 8
_SEGMENT_HEADER_BYTES = 4 + 8
_CONTAINERS = frozenset({CLUSTER, BLOCK_GROUP})
_PARSED = frozenset({TIMESTAMP, SIMPLE_BLOCK, BLOCK, BLOCK_DURATION})


@dataclass(frozen=True, slots=True)
class Cue:
    """Where a player can seek to. `position` is its cluster's, relative to the first cluster."""

    time_ms: int
    track: int
    position: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What the head says about the clusters. `ebml` and `tracks` are as the muxer wrote them."""

    ebml: bytes
    tracks: bytes
    cues: Sequence[Cue]
    duration_ms: float
    clusters_bytes: int


@dataclass(slots=True)
class _Track:
    declared_frame_ms: float | None = None
    seen_frame_ms: int | None = None
    """The shortest time between two frames, used if the track declares no frame duration."""
    time_ms: int | None = None

    def frame_ms_at(self, time_ms: int) -> float:
        """Record a frame and return its duration."""
        if self.time_ms is not None:
            passed = time_ms - self.time_ms
            self.seen_frame_ms = passed if self.seen_frame_ms is None else min(passed, self.seen_frame_ms)
        self.time_ms = time_ms
        return (self.seen_frame_ms or 0.0) if self.declared_frame_ms is None else self.declared_frame_ms


@dataclass(slots=True)
class WebmReader:
    """Parses a streamed WebM in pieces of any size."""

    cues: list[Cue] = field(default_factory=list)
    """Every video keyframe or, for audio only, the start of every cluster."""
    duration_ms: float = 0.0
    clusters_bytes: int = 0

    ebml: bytes = b""
    tracks: bytes = b""
    """Empty until the first cluster."""

    _header: bytearray = field(default_factory=bytearray)
    _tracks: dict[int, _Track] = field(default_factory=dict)
    _indexed_track: int = 0
    _has_video: bool = False
    _pending: bytes = b""
    """The beginning of an element header that continues in the next piece."""
    _skip_bytes: int = 0
    """Bytes of a frame that continue in the next piece."""
    _cluster_at: int = 0
    _cluster_ms: int = 0
    _cluster_is_indexed: bool = False
    _group_start_ms: int = 0
    _group_cue: Cue | None = None
    """For the current block group: becomes a cue unless the block references others."""
    _group_end_ms: float = 0.0
    """The end of that block, unless the group gives its duration."""

    def feed(self, piece: bytes) -> bytes:
        """Return the part of `piece` that belongs to clusters: none of it at first, later all.

        Raises:
            EbmlError: it is not a WebM as ffmpeg writes it.
        """
        if not self.tracks:
            self._header += piece
            start = self._read_header_elements()
            if start is None:
                if len(self._header) > MAX_HEADER_BYTES:
                    raise EbmlError("there is no cluster")
                return b""
            piece = bytes(self._header[start:])
            self._header.clear()
        self._scan(piece)
        self.clusters_bytes += len(piece)
        return piece

    def contents(self) -> Contents:
        """Return what has come so far. Raises: EbmlError: not even the tracks have."""
        if not self.tracks:
            raise EbmlError("there is no cluster")
        self._end_group()
        return Contents(self.ebml, self.tracks, self.cues, self.duration_ms, self.clusters_bytes)

    def _read_header_elements(self) -> int | None:
        """Return the position of the first cluster. None: not reached yet."""
        data, tracks = self._header, b""
        ebml = read_header(data, 0)
        if ebml is None or ebml.size is None:
            return None
        segment_at = ebml.body + ebml.size
        segment = read_header(data, segment_at)
        if segment is None:
            return None
        if (ebml.identifier, segment.identifier) != (EBML, SEGMENT):
            raise EbmlError("this is not a WebM")
        start = segment.body
        for child in children(data, start):
            if child.identifier == CLUSTER:
                if not tracks:
                    raise EbmlError("there are no tracks before the first cluster")
                self.ebml, self.tracks = bytes(data[:segment_at]), tracks
                self._read_tracks()
                return start
            if child.size is None:
                raise EbmlError(f"the element {child.identifier:#x} has no size")
            end = child.body + child.size
            if child.identifier == TRACKS:
                tracks = bytes(data[start:end])
            start = end
        return None

    def _read_tracks(self) -> None:
        whole = read_header(self.tracks, 0)
        for track in children(self.tracks, whole.body if whole else 0):
            if track.identifier != TRACK:
                continue
            body = self.tracks[track.body : track.body + (track.size or 0)]
            values = {child.identifier: _uint(body, child.body, child.size or 0) for child in children(body)}
            frame = values.get(DEFAULT_DURATION)
            number = values.get(TRACK_NUMBER, 0)
            self._tracks[number] = _Track(None if frame is None else frame / TICK_NANOSECONDS)
            if values.get(TRACK_TYPE) == VIDEO_TYPE:
                self._indexed_track, self._has_video = number, True
            self._indexed_track = self._indexed_track or number

    def _scan(self, piece: bytes) -> None:
        """Walk from header to header, without reading or copying the frames."""
        data = self._pending + piece if self._pending else piece
        base = self.clusters_bytes - len(self._pending)
        position, length = self._skip_bytes, len(data)
        while position < length:
            header = read_header(data, position)
            if header is None:
                break
            identifier, body, size = header
            if identifier in _CONTAINERS:
                self._end_group()
                if identifier == CLUSTER:
                    self._cluster_at, self._cluster_is_indexed = base + position, False
                position = body
                continue
            if size is None:
                raise EbmlError(f"the element {identifier:#x} has no size")
            if identifier in _PARSED:
                if body + min(size, BLOCK_HEADER_BYTES) > length:
                    break
                self._parse_element(identifier, data, body, size)
            elif identifier == REFERENCE:
                self._group_cue = None
            position = body + size
        self._pending = data[position:]
        self._skip_bytes = max(0, position - length)

    def _parse_element(self, identifier: int, data: bytes, body: int, size: int) -> None:
        if identifier == TIMESTAMP:
            self._cluster_ms = _uint(data, body, size)
        elif identifier == BLOCK_DURATION:
            self._group_end_ms = self._group_start_ms + _uint(data, body, size)
        else:
            self._end_group()
            self._block(data, body, is_simple=identifier == SIMPLE_BLOCK)

    def _block(self, data: bytes, body: int, *, is_simple: bool) -> None:
        width = 9 - data[body].bit_length()
        at = body + width
        number = _uint(data, body, width) & ((1 << 7 * width) - 1)
        track = self._tracks.get(number)
        if track is None:
            raise EbmlError(f"there is no track {number}")
        time_ms = self._cluster_ms + int.from_bytes(data[at : at + 2], "big", signed=True)
        end_ms = time_ms + track.frame_ms_at(time_ms)
        cue = Cue(max(0, time_ms), number, self._cluster_at) if number == self._indexed_track else None
        if not is_simple:
            self._group_cue, self._group_start_ms, self._group_end_ms = cue, time_ms, end_ms
            return
        self.duration_ms = max(self.duration_ms, end_ms)
        if cue is not None and data[at + 2] & KEYFRAME_FLAG:
            self._add(cue)

    def _end_group(self) -> None:
        self.duration_ms = max(self.duration_ms, self._group_end_ms)
        if self._group_cue is not None:
            self._add(self._group_cue)
            self._group_cue = None

    def _add(self, cue: Cue) -> None:
        if self._has_video or not self._cluster_is_indexed:
            self.cues.append(cue)
            self._cluster_is_indexed = True


def room_for(contents: Contents, chapters: Sequence[Chapter], cues: int) -> int:
    """Return the size of a head with `cues` cues, plus room for a void element."""
    return _bytes_of(contents, _before_cues(contents, chapters), cues) + MIN_VOID_BYTES


def head(contents: Contents, chapters: Sequence[Chapter], room: int | None = None) -> bytes:
    """Return everything before the clusters, in exactly `room` bytes or, by default, as few as possible.

    If the cues do not fit, every second one is dropped until they do.

    Raises:
        EbmlError: there are no cues, or no room for even one.
    """
    before, cues, spare = _before_cues(contents, chapters), contents.cues, 0
    if not cues:
        raise EbmlError("there is no keyframe")
    if room is not None:
        while (spare := room - _bytes_of(contents, before, len(cues))) and spare < MIN_VOID_BYTES:
            if len(cues) == 1:
                raise EbmlError("there is no room for the cues")
            cues = cues[::2]
    clusters_at = len(before) + _cues_bytes(len(cues)) + spare
    return b"".join(
        (
            contents.ebml,
            identifier_bytes(SEGMENT),
            size_bytes(clusters_at + contents.clusters_bytes),
            before,
            element(CUES, b"".join(_cue(cue, clusters_at) for cue in cues)),
            void(spare),
        )
    )


def cues_come_first(beginning: bytes) -> bool:
    """Whether Cues come before the first Cluster."""
    try:
        ebml = read_header(beginning, 0)
        segment = read_header(beginning, ebml.body + (ebml.size or 0)) if ebml else None
        if segment is None or segment.identifier != SEGMENT:
            return False
        names = (child.identifier for child in children(beginning, segment.body))
        return next((name for name in names if name in {CUES, CLUSTER}), None) == CUES
    except EbmlError:
        return False


def chapters_element(chapters: Sequence[Chapter]) -> bytes:
    atoms = [
        element(
            CHAPTER,
            element(CHAPTER_UID, number.to_bytes(4, "big"))
            + element(CHAPTER_START, _nanoseconds(chapter.start_seconds))
            + element(CHAPTER_END, _nanoseconds(chapter.end_seconds))
            + element(
                CHAPTER_DISPLAY,
                element(CHAPTER_TITLE, chapter.title.encode()) + element(CHAPTER_LANGUAGE, b"und"),
            ),
        )
        for number, chapter in enumerate(chapters, start=1)
    ]
    return element(CHAPTERS, element(EDITION, b"".join(atoms)))


def _before_cues(contents: Contents, chapters: Sequence[Chapter]) -> bytes:
    """Return the start of the Segment. Its length depends only on the tracks and chapters."""
    parts = {INFO: _info(contents.duration_ms), TRACKS: contents.tracks}
    if chapters:
        parts[CHAPTERS] = chapters_element(chapters)
    position = len(_seek_head(dict.fromkeys((*parts, CUES), 0)))
    positions: dict[int, int] = {}
    for identifier, part in parts.items():
        positions[identifier] = position
        position += len(part)
    positions[CUES] = position
    return _seek_head(positions) + b"".join(parts.values())


def _seek_head(positions: dict[int, int]) -> bytes:
    entries = (
        element(
            SEEK,
            element(SEEK_ID, identifier_bytes(identifier))
            + element(SEEK_POSITION, position.to_bytes(8, "big")),
        )
        for identifier, position in positions.items()
    )
    return element(SEEK_HEAD, b"".join(entries))


def _info(duration_ms: float) -> bytes:
    return element(
        INFO,
        element(TIMESTAMP_SCALE, TICK_NANOSECONDS.to_bytes(3, "big"))
        + element(DURATION, struct.pack(">d", duration_ms))
        + element(MUXING_APP, APPLICATION)
        + element(WRITING_APP, APPLICATION),
    )


def _bytes_of(contents: Contents, before_cues: bytes, cues: int) -> int:
    return len(contents.ebml) + _SEGMENT_HEADER_BYTES + len(before_cues) + _cues_bytes(cues)


def _cues_bytes(cues: int) -> int:
    return _CUES_HEADER_BYTES + cues * _CUE.size


def _cue(cue: Cue, clusters_at: int) -> bytes:
    """Use short sizes, unlike elsewhere: there are thousands of cues, all of the same length."""
    return _CUE.pack(
        *(CUE, 0x80 | _CUE.size - 2),
        *(CUE_TIME, 0x84, cue.time_ms),
        *(CUE_POSITIONS, 0x80 | 11),
        *(CUE_TRACK, 0x81, cue.track),
        *(CUE_CLUSTER, 0x86, clusters_at + cue.position >> 32, clusters_at + cue.position & 0xFFFFFFFF),
    )


def _uint(data: bytes, position: int, size: int) -> int:
    return int.from_bytes(data[position : position + size], "big")


def _nanoseconds(seconds: float) -> bytes:
    return round(seconds * 1_000_000_000).to_bytes(8, "big")
