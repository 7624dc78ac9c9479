"""The part of a file that a request asks for (RFC 9110 section 14)."""

import re
from dataclasses import dataclass

from backend.core.errors import VodbucketError


class RangeNotSatisfiable(VodbucketError):
    """The file ends before the requested range begins."""

    code = "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.content_range = f"bytes */{size_bytes}"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """From `begin` to before `end`, both in bytes."""

    begin: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.begin

    def content_range(self, size_bytes: int) -> str:
        return f"bytes {self.begin}-{self.end - 1}/{size_bytes}"


def requested_range(header: bytes | None, size_bytes: int) -> ByteRange | None:
    """Return the range that the header Range asks for, or None for the whole file.

    None also for several ranges and other units, which a server may ignore. Raises: RangeNotSatisfiable.
    """
    found = _ONE_RANGE.fullmatch(header or b"")
    if found is None or found[1] == found[2] == b"":
        return None
    if not found[1]:
        begin, end = max(0, size_bytes - int(found[2])), size_bytes
    else:
        begin = int(found[1])
        end = min(size_bytes, int(found[2]) + 1) if found[2] else size_bytes
        if found[2] and int(found[2]) < begin:
            return None
    if begin >= end:
        raise RangeNotSatisfiable(size_bytes)
    return ByteRange(begin, end)


_ONE_RANGE = re.compile(rb"bytes= *([0-9]{0,18})-([0-9]{0,18}) *", re.IGNORECASE)
