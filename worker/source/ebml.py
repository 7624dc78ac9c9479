"""Reads and writes EBML elements (RFC 8794), the encoding of Matroska. `worker.output.webm` interprets them.

Sizes are always written in eight bytes, so the length of the output does not depend on their values.
"""

from collections.abc import Iterator
from typing import NamedTuple

SIZE_BYTES = 8
MAX_ID_BYTES = 4
VOID = 0xEC
MIN_VOID_BYTES = 1 + SIZE_BYTES


class EbmlError(ValueError):
    """The bytes are not valid EBML."""


class Header(NamedTuple):
    """An element's header. `body` is the position of its content; `size` is None if unknown."""

    identifier: int
    body: int
    size: int | None


def read_header(data: bytes | bytearray, position: int) -> Header | None:
    """Return the header at `position`. None: more bytes are needed.

    Raises:
        EbmlError.
    """
    end = len(data)
    if position >= end:
        return None
    width = 9 - data[position].bit_length()
    if width > MAX_ID_BYTES:
        raise EbmlError(f"no element starts with {data[position]:#04x}")
    at = position + width
    if at >= end:
        return None
    first = data[at]
    size_width = 9 - first.bit_length()
    if size_width > SIZE_BYTES:
        raise EbmlError("a size takes more than eight bytes")
    body = at + size_width
    if body > end:
        return None
    unknown = (1 << 7 * size_width) - 1
    size = int.from_bytes(data[at:body], "big") & unknown
    return Header(int.from_bytes(data[position:at], "big"), body, None if size == unknown else size)


def children(body: bytes | bytearray, position: int = 0) -> Iterator[Header]:
    """Yield consecutive elements from `position`; the last one may be truncated.

    Raises:
        EbmlError.
    """
    while (header := read_header(body, position)) is not None:
        yield header
        if header.size is None:
            return
        position = header.body + header.size


def element(identifier: int, body: bytes) -> bytes:
    return identifier_bytes(identifier) + size_bytes(len(body)) + body


def identifier_bytes(identifier: int) -> bytes:
    return identifier.to_bytes(-(-identifier.bit_length() // 8), "big")


def size_bytes(size: int) -> bytes:
    return (size | 1 << 7 * SIZE_BYTES).to_bytes(SIZE_BYTES, "big")


def void(room: int) -> bytes:
    """Return an element that fills `room` bytes: 0, or at least MIN_VOID_BYTES."""
    return element(VOID, bytes(room - MIN_VOID_BYTES)) if room else b""
