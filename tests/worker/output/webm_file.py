"""WebM files for tests: builds small ones, and checks the index of any."""

from dataclasses import dataclass

from worker.output.webm import (
    BLOCK,
    BLOCK_DURATION,
    BLOCK_GROUP,
    CLUSTER,
    CUE,
    CUE_CLUSTER,
    CUE_POSITIONS,
    CUE_TIME,
    CUES,
    DEFAULT_DURATION,
    EBML,
    KEYFRAME_FLAG,
    REFERENCE,
    SEGMENT,
    SIMPLE_BLOCK,
    TIMESTAMP,
    TRACK,
    TRACK_NUMBER,
    TRACK_TYPE,
    TRACKS,
)
from worker.source.ebml import Header, children, element

VIDEO, SOUND = 1, 2
FRAME_MS = 40
_ENDLESS = b"\x01" + b"\xff" * 7


@dataclass(frozen=True, slots=True)
class Frame:
    """`after_ms` is relative to its cluster's timestamp."""

    track: int = VIDEO
    after_ms: int = 0
    is_key: bool = True
    grouped: bool = False
    payload: bytes = b"frame"

    def written(self) -> bytes:
        flags = KEYFRAME_FLAG if self.is_key and not self.grouped else 0
        head = bytes([0x80 | self.track]) + self.after_ms.to_bytes(2, "big", signed=True) + bytes([flags])
        if not self.grouped:
            return element(SIMPLE_BLOCK, head + self.payload)
        refers = b"" if self.is_key else element(REFERENCE, b"\xff")
        return element(
            BLOCK_GROUP, element(BLOCK, head + self.payload) + refers + element(BLOCK_DURATION, b"\x07")
        )


def cluster(time_ms: int, *frames: Frame) -> bytes:
    body = element(TIMESTAMP, time_ms.to_bytes(4, "big")) + b"".join(frame.written() for frame in frames)
    return element(CLUSTER, body)


def beginning(*tracks: int) -> bytes:
    """Return what a muxer streams before the first cluster."""
    entries = (
        element(
            TRACK,
            element(TRACK_NUMBER, bytes([track]))
            + element(TRACK_TYPE, bytes([track]))
            + (element(DEFAULT_DURATION, (FRAME_MS * 10**6).to_bytes(4, "big")) if track == VIDEO else b""),
        )
        for track in tracks
    )
    return (
        element(EBML, b"\x42\x82\x84webm")
        + SEGMENT.to_bytes(4, "big")
        + _ENDLESS
        + element(TRACKS, b"".join(entries))
    )


@dataclass(frozen=True, slots=True)
class Index:
    """A file's cues and the contents of its clusters; positions are in the file."""

    cues: list[tuple[int, int]]
    clusters: dict[int, list[tuple[int, bool]]]
    """By position: time of each simple block of the first track, and whether it is a keyframe."""


def index_of(file: bytes) -> Index:
    """Read a complete file whose Segment has a size and ends at the end of the file."""
    _, segment = children(file)
    assert segment.size is not None
    assert segment.body + segment.size == len(file)
    index = Index([], {})
    position = segment.body
    for child in children(file, segment.body):
        assert child.size is not None
        end = child.body + child.size
        if child.identifier == CUES:
            for cue in children(file[:end], child.body):
                assert cue.identifier == CUE
                time, positions = children(file[: cue.body + (cue.size or 0)], cue.body)
                _, where = children(file[: positions.body + (positions.size or 0)], positions.body)
                assert (time.identifier, positions.identifier) == (CUE_TIME, CUE_POSITIONS)
                assert where.identifier == CUE_CLUSTER
                index.cues.append((_number(file, time), segment.body + _number(file, where)))
        elif child.identifier == CLUSTER:
            index.clusters[position] = _blocks(file[:end], child.body)
        position = end
    return index


def _blocks(file: bytes, body: int) -> list[tuple[int, bool]]:
    found, start = [], 0
    for one in children(file, body):
        if one.identifier == TIMESTAMP:
            start = _number(file, one)
        elif one.identifier == SIMPLE_BLOCK and file[one.body] == 0x81:
            after = int.from_bytes(file[one.body + 1 : one.body + 3], "big", signed=True)
            found.append((start + after, bool(file[one.body + 3] & KEYFRAME_FLAG)))
    return found


def _number(file: bytes, header: Header) -> int:
    return int.from_bytes(file[header.body : header.body + (header.size or 0)], "big")
