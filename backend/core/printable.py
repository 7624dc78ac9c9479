"""What may be written to a log or a terminal: no control characters, and no secrets.

Anything that came from outside (paths, headers, names, a store's or a program's words) may carry both.
"""

import re
from urllib.parse import quote

_HIDDEN: set[str] = set()
"""Secrets of this process, in the spellings that could be logged."""
SHORTEST_SECRET = 8

_PATTERNS = (
    (re.compile(r"(/play/+)[^/\s?#'\"]+"), r"\1…"),
    (re.compile(r"\b(vodbucket_session=)[^;,\s'\"]+"), r"\1…"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s,;'\"]+", re.I), r"\1 …"),
    (
        re.compile(
            r"\b(X-Amz-(?:Signature|Credential|Security-Token)|Signature|Credential)=[^&,\s'\"]+", re.I
        ),
        r"\1=…",
    ),
    (
        re.compile(
            r"\b((?:Proxy-)?Authorization|(?:Set-)?Cookie|X-Amz-Security-Token)(b?['\"]?\s*[:=,]\s*b?['\"]?)"
            r"[^'\"\r\n]+",
            re.I,
        ),
        r"\1\2…",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "…"),
)


def hide(secret: str) -> None:
    """Replace this secret in all that `printable` returns from now on."""
    if len(secret) >= SHORTEST_SECRET:
        _HIDDEN.update({secret, quote(secret, safe=""), repr(secret)[1:-1]})


def printable(text: str) -> str:
    """Return the text on one line, with escapes for what a terminal would not show, and without secrets."""
    return escaped(_without_secrets(text))


def escaped(text: str) -> str:
    """Return the text on one line, with escapes for what a terminal would not show. Secrets stay."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """The same for each line, indented, so that no line of it looks like an entry of the log."""
    return "\n".join(f"    {printable(line)}" for line in _without_secrets(text).split("\n"))


def _without_secrets(text: str) -> str:
    for secret in _HIDDEN:
        text = text.replace(secret, "…")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()
