"""Video ids: UUIDv7 strings, so that a plain LIST returns them in order of creation."""

import re
import secrets
import time
from datetime import UTC, datetime
from uuid import UUID

from backend.core.errors import InvalidId

ID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
"""For clients too, so in the syntax that JSON Schema and Python share."""


def new_id(unix_ms: int | None = None, random_bits: int | None = None) -> str:
    """Return a new UUIDv7 (RFC 9562 section 5.7) for `unix_ms`, by default now."""
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    tail = secrets.randbits(74) if random_bits is None else random_bits
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (tail >> 62) << 64
    value |= 0b10 << 62 | tail & 0x3FFF_FFFF_FFFF_FFFF
    return str(UUID(int=value))


def parse_id(text: str) -> str:
    """Return `text` if it is a canonical UUIDv7 string.

    Raises:
        InvalidId: it is not, for example because of upper case or braces.
    """
    if not re.fullmatch(ID_PATTERN, text):
        raise InvalidId
    return text


def unix_ms_of(video_id: str) -> int:
    """Return the time of creation that the id contains, in Unix milliseconds."""
    return UUID(video_id).int >> 80


def id_time(video_id: str) -> datetime:
    """Return the time of creation that the id contains."""
    return datetime.fromtimestamp(min(unix_ms_of(video_id), _LAST_UNIX_MS) / 1000, UTC)


def descending(video_id: str) -> str:
    """Return the id with every hexadecimal digit inverted, so that ascending order is newest first.

    Applied twice, it returns the original id.
    """
    return video_id.translate(_INVERTED_DIGITS)


_LAST_UNIX_MS = int(datetime.max.replace(tzinfo=UTC).timestamp() * 1000) - 1
"""An id may contain a later time than `datetime` can express."""
_INVERTED_DIGITS = str.maketrans("0123456789abcdef", "fedcba9876543210")
