"""Reads keyframes from the cues of a Matroska or WebM file (RFC 9559). Pure; input is hostile."""

from collections.abc import Iterator
from typing import NamedTuple

from worker.source.ebml import EbmlError, Header, children
from worker.source.index.source_index import MAX_KEYFRAMES, IndexUnusable, SourceIndex

SEEK_HEAD, CUES, TRACKS, INFO, CLUSTER = 0x114D9B74, 0x1C53BB6B, 0x1654AE6B, 0x1549A966, 0x1F43B675
SEGMENT = 0x18538067
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_TIMESTAMP_SCALE = 0x2AD7B1
_TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE, _VIDEO = 0xAE, 0xD7, 0x83, 1
_CUE_POINT, _CUE_TIME, _CUE_POSITIONS, _CUE_TRACK = 0xBB, 0xB3, 0xB7, 0xF7
_NANOSECONDS = 10**9
_DEFAULT_SCALE = 10**6
MAX_NUMBER_BYTES = 8


class Places(NamedTuple):
    """Where elements of the segment are: offsets in the file. None: they do not exist."""

    info: int | None
    tracks: int | None
    cues: int | None


def find_places(head: bytes) -> Places:
    """Read the beginning of a file, up to where the first cluster begins.

    Raises:
        IndexUnusable.
    """
    segment = next((one for one in _children(head) if one.identifier == SEGMENT), None)
    if segment is None:
        raise IndexUnusable("no segment")
    found: dict[int, int] = {}
    position = segment.body
    for one in _children(head, segment.body):
        if one.identifier == CLUSTER:
            break
        found.setdefault(one.identifier, position)
        if one.identifier == SEEK_HEAD and one.size is not None:
            for identifier, at in _seeks(head[one.body : one.body + one.size]):
                found.setdefault(identifier, segment.body + at)
        position = one.body + (one.size or 0)
    return Places(found.get(INFO), found.get(TRACKS), found.get(CUES))


def keyframes_of(
    info: bytes, tracks: bytes, cues: bytes, track: int, origin_seconds: float = 0.0
) -> SourceIndex:
    """Read the contents of three elements. `track` counts all tracks from 0.

    Nothing here tells whether frames are shown before their keyframe; it is rare in these files.

    Raises:
        IndexUnusable.
    """
    scales = [_unsigned(info, one) for one in _children(info) if one.identifier == _TIMESTAMP_SCALE]
    scale = scales[0] if scales else _DEFAULT_SCALE
    if not scale or _NANOSECONDS % scale:
        raise IndexUnusable(f"a timescale of {scale} ns")
    timescale = _NANOSECONDS // scale
    entries = [_content(tracks, one) for one in _children(tracks) if one.identifier == _TRACK_ENTRY]
    if track >= len(entries):
        raise IndexUnusable("no such track")
    fields = {
        one.identifier: _unsigned(entries[track], one)
        for one in _children(entries[track])
        if one.identifier in {_TRACK_NUMBER, _TRACK_TYPE}
    }
    if fields.get(_TRACK_TYPE) != _VIDEO:
        raise IndexUnusable("not a picture")
    origin = round(origin_seconds * timescale)
    times = sorted({time - origin for time in _cues(cues, fields.get(_TRACK_NUMBER, 0))})
    if not times:
        raise IndexUnusable("no cues of the picture")
    return SourceIndex(timescale, tuple(times))


def _seeks(head: bytes) -> Iterator[tuple[int, int]]:
    """Yield identifiers and offsets within the segment."""
    for seek in _children(head):
        if seek.identifier == _SEEK:
            body = _content(head, seek)
            fields = {one.identifier: _unsigned(body, one) for one in _children(body)}
            if _SEEK_ID in fields and _SEEK_POSITION in fields:
                yield fields[_SEEK_ID], fields[_SEEK_POSITION]


def _cues(cues: bytes, track: int) -> Iterator[int]:
    for number, point in enumerate(_children(cues)):
        if number > MAX_KEYFRAMES:
            raise IndexUnusable("too many cues")
        if point.identifier != _CUE_POINT:
            continue
        body, time = _content(cues, point), None
        for one in _children(body):
            if one.identifier == _CUE_TIME:
                time = _unsigned(body, one)
            elif one.identifier == _CUE_POSITIONS and time is not None:
                place = _content(body, one)
                tracks = [
                    _unsigned(place, field) for field in _children(place) if field.identifier == _CUE_TRACK
                ]
                if track in tracks:
                    yield time


def _children(body: bytes, position: int = 0) -> Iterator[Header]:
    """Raises: IndexUnusable: this is not EBML."""
    try:
        yield from children(body, position)
    except EbmlError as error:
        raise IndexUnusable(str(error)) from error


def _content(body: bytes, one: Header) -> bytes:
    """Raises: IndexUnusable: its size is unknown, or it ends beyond its parent."""
    if one.size is None or one.body + one.size > len(body):
        raise IndexUnusable("an element without an end")
    return body[one.body : one.body + one.size]


def _unsigned(body: bytes, one: Header) -> int:
    content = _content(body, one)
    if len(content) > MAX_NUMBER_BYTES:
        raise IndexUnusable("a number too large")
    return int.from_bytes(content, "big")
