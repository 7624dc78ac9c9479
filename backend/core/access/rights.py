"""Under which right something was given, so that it can end with that right."""

from dataclasses import dataclass
from enum import IntEnum

HOLDER_DIGITS = 32


class RightKind(IntEnum):
    """The numbers are part of every grant, so they never change."""

    PUBLIC = 0
    """Anyone, while the video is public."""
    SESSION = 1
    """A signed-in browser. The holder is the session's id."""
    ADMIN = 2
    """A client that sent the admin token. The holder is its fingerprint, in what outlasts a request."""
    TOKEN = 3
    """A client that sent a person's token. The holder is the token's id."""
    CODE = 4
    """Anyone who sends an access code. The holder is the code's id."""
    LINK = 5
    """A guest with an upload link, who may only upload. The holder is the link's id."""


@dataclass(frozen=True, slots=True)
class Right:
    """A right and who holds it: `HOLDER_DIGITS` hexadecimal digits, zeros for everyone."""

    kind: RightKind
    holder: str = "0" * HOLDER_DIGITS


EVERYONE = Right(RightKind.PUBLIC)
