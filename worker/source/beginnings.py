"""Finds where further recordings begin in a file, by the signatures that containers begin with. Pure.

Demuxers that follow an index or a size end with the first recording and never look at what follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

OVERLAP_BYTES = 64
"""No signature is longer."""
MAX_FOUND = 64
"""The last ones are kept: fragmented files may repeat their beginning with every fragment."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`anchor` is the part that is searched for, at `offset` in what `pattern` matches."""

    anchor: bytes
    pattern: re.Pattern[bytes]
    offset: int = 0

    def found_in(self, data: bytes) -> Iterator[int]:
        at = data.find(self.anchor)
        while at >= 0:
            start = at - self.offset
            if start >= 0 and self.pattern.match(data, start):
                yield start
            at = data.find(self.anchor, at + 1)


def _signature(anchor: bytes, pattern: bytes, offset: int = 0) -> Signature:
    return Signature(anchor, re.compile(pattern, re.DOTALL), offset)


_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_WTV = bytes.fromhex("b7d800203749da11a64e0007e95ead8d")
_MXF = bytes.fromhex("060e2b34020501010d0102010102")
SIGNATURES = (
    _signature(b"ftyp", rb"\0\0[\0-\x0f].ftyp[ -~]{4}", 4),
    _signature(b"\x1aE\xdf\xa3", rb"\x1aE\xdf\xa3.{1,48}?B\x82"),
    _signature(b"RIFF", rb"RIFF.{4}(WAVE|AVI )"),
    _signature(b"FORM", rb"FORM.{4}AIF[CF]"),
    _signature(b"FLV\1", rb"FLV\x01[\0-\x05]\0\0\0\x09"),
    _signature(b".RMF\0\0", rb"\.RMF\0\0"),
    _signature(b"caff\0\1", rb"caff\0\x01\0\0"),
    _signature(b"DKIF", rb"DKIF\0\0\x20\0"),
    _signature(b"\x89PNG\r\n", rb"\x89PNG\r\n"),
    _signature(_ASF, re.escape(_ASF)),
    _signature(_WTV, re.escape(_WTV)),
    _signature(_MXF, re.escape(_MXF)),
)


class Beginnings:
    """The offsets in a file at which its own kind of container begins once more."""

    def __init__(self) -> None:
        self._signature: Signature | None = None
        self.found: set[int] = set()

    @property
    def possible(self) -> bool:
        """Whether this kind of container is known here."""
        return self._signature is not None

    def scan(self, offset: int, data: bytes) -> None:
        """Search `data`, which is at `offset`. The first bytes of the file must come first."""
        if offset == 0:
            self._signature = next((one for one in SIGNATURES if one.pattern.match(data)), None)
        for at in self._signature.found_in(data) if self._signature else ():
            if offset + at:
                self.found.add(offset + at)
        while len(self.found) > MAX_FOUND:
            self.found.remove(min(self.found))
