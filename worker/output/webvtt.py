"""Converts subtitles, as ffmpeg extracts them, to WebVTT. Pure. The time it takes is linear in their size.

ffmpeg's own conversion shows the commands of drawings as text, and leaves `<` and `&` as they are: players
take what follows for a tag.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby, zip_longest

from worker.source.media import SubtitleInfo

Run = tuple[str, frozenset[str]]
"""A piece of text and its styles: b, i, u."""
Cue = tuple[float, float, str]
"""Start, end, text."""

_LEGACY_ENCODING = "cp1252"
"""For subtitles that are not UTF-8; all but five bytes are valid in it."""
_CLOCK = r"(\d{1,6}):(\d\d):(\d\d)[.,](\d{2,3})"
_SRT_TIMES = re.compile(rf"^(?:\d+\n)?{_CLOCK} --> {_CLOCK}.*\n", re.MULTILINE)
_SRT_TOKEN = re.compile(
    r"</?[biu]>|</?(?:font|span|s|ruby|rt)(?:\s[^<>]*)?>|\{\\[^{}]*\}|[^<{]+|.", re.IGNORECASE
)
_SRT_ENTITIES = {"&lt;": "<", "&gt;": ">", "&nbsp;": "\u00a0", "&quot;": '"', "&amp;": "&"}
_ASS_EVENT = re.compile(rf"^Dialogue:[^,\n]*,{_CLOCK},{_CLOCK},(?:[^,\n]*,){{6}}(.*)$", re.MULTILINE)
_ASS_TOKEN = re.compile(r"\\[Nnh{}]|\\\u2060?|\{[^{}]*\}|[^\\{]+|.")
_ASS_CHARACTERS = {"\\N": "\n", "\\n": "\n", "\\h": "\u00a0", "\\{": "{", "\\}": "}", "\\\u2060": "\\"}
_ASS_STYLE = re.compile(r"\\(?:(p|b|i|u)(\d{1,6})|(r))")


def webvtt_of(body: bytes, source: SubtitleInfo, duration_seconds: float) -> str | None:
    """Return the cues that start before the video ends. None: there are none."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = body.decode(_LEGACY_ENCODING, errors="replace")
    text = text.replace("\0", "\ufffd").replace("\r\n", "\n")
    cues = _srt_cues(text) if source.is_srt else _ass_cues(text, comments=source.codec == "ass")
    shown = sorted(
        (start, min(end, duration_seconds), shown)
        for start, end, shown in cues
        if shown and start < min(end, duration_seconds)
    )
    blocks = (f"{_clock(start)} --> {_clock(end)}\n{text}\n" for start, end, text in shown)
    return "\n".join(("WEBVTT\n", *blocks)) if shown else None


def _srt_cues(text: str) -> Iterator[Cue]:
    found = list(_SRT_TIMES.finditer(text))
    for match, following in zip_longest(found, found[1:]):
        end = following.start() if following else len(text)
        yield _cue(match.groups(), _srt_runs(text[match.end() : end]))


def _srt_runs(text: str) -> Iterator[Run]:
    styles: frozenset[str] = frozenset()
    for token in _SRT_TOKEN.findall(text):
        if len(token) > 1 and token[0] in "<{":
            name = token.strip("</>").lower()
            if name in {"b", "i", "u"}:
                styles = styles - {name} if token[1] == "/" else styles | {name}
            continue
        for entity, character in _SRT_ENTITIES.items():
            token = token.replace(entity, character)
        yield token, styles


def _ass_cues(text: str, *, comments: bool) -> Iterator[Cue]:
    for match in _ASS_EVENT.finditer(text):
        *times, line = match.groups()
        yield _cue(times, _ass_runs(line, comments=comments))


def _ass_runs(line: str, *, comments: bool) -> Iterator[Run]:
    """Yield what is shown. `comments`: any text in braces is hidden, as in ASS itself."""
    styles: frozenset[str] = frozenset()
    drawing = False
    for token in _ASS_TOKEN.findall(line):
        if len(token) > 1 and token[0] == "{" and (comments or token[1] in "\\}"):
            for style, value, _reset in _ASS_STYLE.findall(token):
                if style == "p":
                    drawing = int(value) > 0
                elif style:
                    styles = styles | {style} if int(value) else styles - {style}
                else:
                    styles = frozenset()
        elif not drawing:
            yield _ASS_CHARACTERS.get(token, token), styles


def _cue(clocks: Sequence[str], runs: Iterable[Run]) -> Cue:
    """`clocks` are hours, minutes, seconds and their fraction, of start and end."""
    start, end = (
        int(hours) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction}")
        for hours, minutes, seconds, fraction in (clocks[:4], clocks[4:])
    )
    return start, end, _payload(runs)


def _payload(runs: Iterable[Run]) -> str:
    """Return the text of a cue, without empty lines, which would end it."""
    styled = []
    for styles, same in groupby(runs, key=lambda run: run[1]):
        text = escape("".join(text for text, _ in same), quote=False)
        if inner := text.strip():
            before, _, after = text.partition(inner)
            for style in sorted(styles):
                inner = f"<{style}>{inner}</{style}>"
            text = f"{before}{inner}{after}"
        styled.append(text)
    lines = (line.strip() for line in "".join(styled).splitlines())
    return "\n".join(line for line in lines if line)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours:02}:' if hours else ''}{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
