"""How many bytes a file should have, by its own header: a copy that was interrupted has fewer. Pure.

ffprobe corrects the duration of such files to what is left of them.
"""

import re
import struct
from collections.abc import Callable
from uuid import UUID

from backend.core.errors import SourceRejected

MAX_MISSING_BYTES = 64 * 1024
MAX_MISSING_SHARE = 20
"""Sizes may leave out padding and tags: so many bytes, or one in so many, may be missing."""
MAX_STATED_BYTES = 0x7FFF_0000
"""What programs state that cannot go back to their header is close to 2 or 4 GiB."""

_ASF = UUID("75b22630-668e-11cf-a6d9-00aa0062ce6c").bytes_le
_ASF_FILE = UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le
_STATED: tuple[tuple[re.Pattern[bytes], Callable[[bytes], float]], ...] = (
    (re.compile(rb"RIFF(.{4})(?:WAVE|AVI )", re.DOTALL), lambda field: 8 + int.from_bytes(field, "little")),
    (
        re.compile(re.escape(_ASF) + b".{0,4096}?" + re.escape(_ASF_FILE) + b".{24}(.{8})", re.DOTALL),
        lambda field: int.from_bytes(field, "little"),
    ),
    (
        re.compile(rb"FLV.{0,4096}?\0\x08filesize\0(.{8})", re.DOTALL),
        lambda field: float(struct.unpack(">d", field)[0]),
    ),
)


def check_stated_size(head: bytes, size_bytes: int) -> None:
    """`head` is the file's beginning. Raises: SourceRejected: much of the file is missing."""
    for pattern, number in _STATED:
        if found := pattern.match(head):
            stated = number(found[1])
            tolerated = min(MAX_MISSING_BYTES, stated / MAX_MISSING_SHARE)
            if size_bytes + tolerated < stated < MAX_STATED_BYTES:
                raise SourceRejected(
                    f"This file is incomplete: it should have {stated / 1e6:.1f} MB, but has only "
                    f"{size_bytes / 1e6:.1f} MB. Was the recording or copy interrupted?",
                    code="file_incomplete",
                )
