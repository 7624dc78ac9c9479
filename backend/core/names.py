"""Cleans titles and file names that clients send, so that they are safe to store and to show."""

import re

NAME_LENGTH = 300
UNNAMED = "video"


def clean_filename(name: str | None) -> str:
    """Return the last component of the client's file name, without control characters."""
    last = re.split(r"[/\\]", clean_text(name))[-1]
    return last or UNNAMED


def clean_text(text: str | None) -> str:
    return _CONTROL.sub("", text or "").strip()[:NAME_LENGTH].strip()


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, lone surrogates, and characters that change the direction of the surrounding text."""
