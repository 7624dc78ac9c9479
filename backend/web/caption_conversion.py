"""Converts uploaded captions to WebVTT: SubRip (SRT) is translated, WebVTT is normalized.

Parsing is lenient, as in players: unreadable cues are dropped. A file without any readable cue is rejected.
"""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE

from webvtt import Caption, WebVTT
from webvtt.errors import MalformedCaptionError, MalformedFileError

from backend.core.errors import EmptyUpload, InvalidCaptions

MAX_CAPTIONS_BYTES = 2 * 1024 * 1024
"""Two hours of dense subtitles are a tenth of this."""

_SIGNATURE = re.compile(r"WEBVTT(?=[ \t\r\n]|$)")
_SRT_TIMING = re.compile(r"\d+:\d+:\d+[,.]\d+\s*-->")
_POSITION = re.compile(r"\{\\an?(\d{1,2})\}")
"""SubStation's position tag, also used in SRT files: 7, 8 and 9 mean the top."""
_FOREIGN_TAG = re.compile(r"</?(?:font|s)\b[^<>]*>", re.IGNORECASE)
_NO_TAG = re.compile(r"<(?!/?[biu]>)")


def to_webvtt(body: bytes) -> bytes:
    """Return the captions as WebVTT in UTF-8. The largest files take seconds, so call it in a thread.

    Raises:
        EmptyUpload: the body is blank.
        InvalidCaptions: it is neither SRT nor WebVTT, or has no cue.
    """
    text = _decoded(body)
    if not text.strip():
        raise EmptyUpload
    try:
        captions = WebVTT.from_string(text) if _SIGNATURE.match(text) else _from_srt(text)
        if not captions.captions:
            raise InvalidCaptions("This file has no captions, or none with readable times.")
        # X-TIMESTAMP-MAP, for example, would shift the captions relative to our own segments.
        captions.metadata = []
        return captions.content.encode()
    except (MalformedFileError, MalformedCaptionError, ValueError) as error:
        raise InvalidCaptions from error


def _decoded(body: bytes) -> str:
    encoding = "utf-16" if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidCaptions("This file is not UTF-8 text. Save it as UTF-8 and try again.") from None
    if "\0" in text:
        raise InvalidCaptions
    return text


def _from_srt(text: str) -> WebVTT:
    lines = text.strip().splitlines()
    if not any(_SRT_TIMING.match(line.strip()) for line in lines[:2]):
        raise InvalidCaptions
    if _SRT_TIMING.match(lines[0].strip()):
        lines = _numbered(lines)
    captions = WebVTT.from_buffer(lines, format="srt")
    for caption in captions.captions:
        _convert_cue(caption)
    captions.captions = [caption for caption in captions.captions if caption.lines]
    return captions


def _numbered(lines: list[str]) -> list[str]:
    """Number the cues of a file that has no numbers: the parser requires them."""
    numbered = []
    for line in lines:
        if _SRT_TIMING.match(line.strip()):
            numbered.append("1")
        numbered.append(line)
    return numbered


def _convert_cue(caption: Caption) -> None:
    """Rewrite the text of an SRT cue, which has no escapes, for WebVTT."""
    text = caption.raw_text
    for position in _POSITION.findall(text):
        if position in ("7", "8", "9"):
            caption.settings.line = "0"
    text = _FOREIGN_TAG.sub("", _POSITION.sub("", text)).replace("&", "&amp;").replace("-->", "--&gt;")
    caption.lines = [line for line in _NO_TAG.sub("&lt;", text).split("\n") if line.strip()]
