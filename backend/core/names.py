"""Cleans titles and file names that clients send, so that they are safe to store and to show."""

import re
import unicodedata

NAME_LENGTH = 300
UNNAMED = "video"

_JOINERS = "\u200c\u200d"
_SIGNS = "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Format characters that are visible, unlike all others, which hide, join or turn text."""
_KEPT_FORMATS = re.compile(f"[{_JOINERS}{_SIGNS}]")
_BLANKS = frozenset(f"{_JOINERS}\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that look like nothing."""


def clean_filename(name: str | None) -> str:
    """Return the last component of the client's file name, without control characters."""
    last = re.split(r"[/\\]", clean_text(name))[-1]
    return last or UNNAMED


def clean_text(text: str | None) -> str:
    """Return the text without what cannot be seen or is not allowed in XML; empty if nothing can be seen."""
    kept = "".join(char for char in text or "" if not _is_hidden(char)).strip()[:NAME_LENGTH].strip()
    return kept if any(map(_is_visible, kept)) else ""


def clean_lines(text: str | None, length: int) -> str:
    """Return a text of several lines, up to so many characters, without what cannot be seen."""
    lines = ("".join(char for char in line if not _is_hidden(char)) for line in (text or "").splitlines())
    return "\n".join(line.rstrip() for line in lines).strip()[:length]


def _is_hidden(char: str) -> bool:
    if char.isprintable():
        return False
    category = unicodedata.category(char)
    if category == "Cf":
        return not _KEPT_FORMATS.fullmatch(char)
    return category in {"Cc", "Cs", "Zl", "Zp"} or _is_noncharacter(ord(char))


def _is_noncharacter(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _is_visible(char: str) -> bool:
    return unicodedata.category(char)[0] not in "MZ" and char not in _BLANKS
