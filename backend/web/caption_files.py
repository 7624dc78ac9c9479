"""Turns what people upload as captions into WebVTT: SubRip (SRT) is converted, WebVTT is brought into form.

Reading is lenient, as players are: a cue that cannot be read is left out. Refused is what has no cue at all.
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
"""SubStation's position tag, which SRT files have taken over: 7, 8 and 9 are at the top."""
_FOREIGN_TAG = re.compile(r"</?(?:font|s)\b[^<>]*>", re.IGNORECASE)
_NO_TAG = re.compile(r"<(?!/?[biu]>)")


def to_webvtt(body: bytes) -> bytes:
    """Return the captions as WebVTT in UTF-8. Takes seconds for the largest files, so call it in a thread.

    Raises:
        EmptyUpload: there is nothing.
        InvalidCaptions: it is neither SRT nor WebVTT, or without any cue.
    """
    text = _decoded(body)
    if not text.strip():
        raise EmptyUpload
    try:
        captions = WebVTT.from_string(text) if _SIGNATURE.match(text) else _from_srt(text)
        if not captions.captions:
            raise InvalidCaptions("There are no captions in this file, or none with readable times.")
        # Such as X-TIMESTAMP-MAP, which would shift the captions against our own segments.
        captions.metadata = []
        return captions.content.encode()
    except (MalformedFileError, MalformedCaptionError, ValueError) as error:
        raise InvalidCaptions from error


def _decoded(body: bytes) -> str:
    encoding = "utf-16" if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidCaptions("The file is not UTF-8 text; save it with that encoding.") from None
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
        _adopt(caption)
    captions.captions = [caption for caption in captions.captions if caption.lines]
    return captions


def _numbered(lines: list[str]) -> list[str]:
    """Give every cue of a file without numbers its number, which the parser insists on."""
    numbered = []
    for line in lines:
        if _SRT_TIMING.match(line.strip()):
            numbered.append("1")
        numbered.append(line)
    return numbered


def _adopt(caption: Caption) -> None:
    """Rewrite the text of an SRT cue, which knows no escapes, as that of a WebVTT cue."""
    text = caption.raw_text
    for position in _POSITION.findall(text):
        if position in ("7", "8", "9"):
            caption.settings.line = "0"
    text = _FOREIGN_TAG.sub("", _POSITION.sub("", text)).replace("&", "&amp;").replace("-->", "--&gt;")
    caption.lines = [line for line in _NO_TAG.sub("&lt;", text).split("\n") if line.strip()]
