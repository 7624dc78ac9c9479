"""Adds chapters to a finished WebM: ffmpeg's tee, which writes it beside the packager's pipe, drops them.

They go to the end of the file, and a line about them into the table of contents at its front, where ffmpeg
leaves room for it: nothing that is written moves. The elements are Matroska's (RFC 9559), in EBML (RFC 8794).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backend.core.errors import AttemptFailed
from backend.core.records import Chapter

HEAD_BYTES = 64 * 1024

_SEGMENT, _SEEK_HEAD, _VOID = (bytes.fromhex(name) for name in ("18538067", "114d9b74", "ec"))
_SEEK, _SEEK_ID, _SEEK_POSITION = (bytes.fromhex(name) for name in ("4dbb", "53ab", "53ac"))
_CHAPTERS, _EDITION, _ATOM = (bytes.fromhex(name) for name in ("1043a770", "45b9", "b6"))
_UID, _START, _END = (bytes.fromhex(name) for name in ("73c4", "91", "92"))
_DISPLAY, _STRING, _LANGUAGE = (bytes.fromhex(name) for name in ("80", "85", "437c"))
_SIZE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Element:
    """Where an element's header, body and end are in the file."""

    name: bytes
    start: int
    body: int
    end: int


def add_chapters(path: Path, chapters: Iterable[Chapter]) -> None:
    """Raises: AttemptFailed: the file is not laid out as ffmpeg does it."""
    element = chapters_element(chapters)
    with path.open("r+b") as file:
        head = file.read(HEAD_BYTES)
        segment = element_at(head, max(0, head.find(_SEGMENT)))
        seek_head = element_at(head, segment.body)
        void = element_at(head, seek_head.end)
        names = (segment.name, seek_head.name, void.name)
        if names != (_SEGMENT, _SEEK_HEAD, _VOID) or segment.body - segment.start < 4 + _SIZE_BYTES:
            raise AttemptFailed("The WebM has no room for its chapters.", code="outputs_incomplete")
        position = (segment.end - segment.body).to_bytes(_SIZE_BYTES, "big")
        seek = _element(_SEEK, _element(_SEEK_ID, _CHAPTERS) + _element(_SEEK_POSITION, position))
        contents = _element(_SEEK_HEAD, head[seek_head.body : seek_head.end] + seek)
        room = void.end - seek_head.start - len(contents)
        if room < len(_VOID) + _SIZE_BYTES:
            raise AttemptFailed("The WebM has no room for its chapters.", code="outputs_incomplete")
        file.seek(segment.end)
        file.write(element)
        file.seek(seek_head.start)
        file.write(contents + _element(_VOID, bytes(room - len(_VOID) - _SIZE_BYTES)))
        file.seek(segment.start + len(_SEGMENT))
        file.write(_size(segment.end - segment.body + len(element)))


def chapters_element(chapters: Iterable[Chapter]) -> bytes:
    atoms = [
        _element(
            _ATOM,
            _element(_UID, number.to_bytes(4, "big"))
            + _element(_START, _nanoseconds(one.start_seconds))
            + _element(_END, _nanoseconds(one.end_seconds))
            + _element(_DISPLAY, _element(_STRING, one.title.encode()) + _element(_LANGUAGE, b"und")),
        )
        for number, one in enumerate(chapters, start=1)
    ]
    return _element(_CHAPTERS, _element(_EDITION, b"".join(atoms)))


def element_at(data: bytes, position: int) -> Element:
    name = 9 - data[position].bit_length()
    first = position + name
    width = 9 - data[first].bit_length()
    size = int.from_bytes(data[first : first + width], "big") & ((1 << 7 * width) - 1)
    return Element(data[position:first], position, first + width, first + width + size)


def _element(name: bytes, body: bytes) -> bytes:
    return name + _size(len(body)) + body


def _size(length: int) -> bytes:
    return (length | 1 << 7 * _SIZE_BYTES).to_bytes(_SIZE_BYTES, "big")


def _nanoseconds(seconds: float) -> bytes:
    return round(seconds * 1_000_000_000).to_bytes(8, "big")
