"""What a file is, by its first bytes: obvious mistakes are told before the rest of them is moved.

Only a first look. Whatever passes is probed in the worker, which alone decides what is a video.
"""

from collections.abc import AsyncIterator

import puremagic

from backend.core.errors import UnsupportedType

SNIFF_BYTES = 4096
CONFIDENCE = 0.3
"""The library's own measure, a tenth for each byte: below it, it guesses by one or two."""
SURE = 0.8
BEGINNING_BYTES = 16
"""What has to be found further in is found in the middle of sound and pictures, too."""
_MEDIA = ("video/", "audio/", "image/gif", "application/ogg", "application/mxf", "application/x-matroska")
_PICTURE, _TEXT, _PROGRAM = "a picture", "a text", "a program"
_DOCUMENT, _ARCHIVE = "a document", "an archive"
_SURELY_NOT = {
    "application/vnd.apple.mpegurl": "a playlist",
    "audio/x-mpegurl": "a playlist",
    "image/webp": _PICTURE,
    "image/heif": _PICTURE,
    "image/avif": _PICTURE,
}
"""Refused although what is around them, RIFF or MP4, may be a film as well."""
_NOT = {
    "image/png": _PICTURE,
    "image/jpeg": _PICTURE,
    "image/tiff": _PICTURE,
    "image/svg": _PICTURE,
    "image/vnd.adobe": _PICTURE,
    "text/html": "a web page",
    "application/xml": _TEXT,
    "application/pdf": "a PDF document",
    "application/rtf": _DOCUMENT,
    "application/msword": _DOCUMENT,
    "application/vnd.openxmlformats": "a document or an archive",
    "application/zip": _ARCHIVE,
    "application/x-rar": _ARCHIVE,
    "application/vnd.rar": _ARCHIVE,
    "application/x-7z": _ARCHIVE,
    "application/x-gzip": _ARCHIVE,
    "application/x-bzip2": _ARCHIVE,
    "application/x-xz": _ARCHIVE,
    "application/zstd": _ARCHIVE,
    "application/x-iso9660-appimage": _PROGRAM,
    "application/vnd.microsoft.portable-executable": _PROGRAM,
}
"""By the beginning of the media type. The library knows a thousand more, by as little as three bytes."""


class MediaCheck:
    """Looks at the beginning of a file as it comes in."""

    def __init__(self) -> None:
        self._head: bytearray | None = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises: UnsupportedType."""
        if self._head is None:
            return
        self._head += chunk[: SNIFF_BYTES - len(self._head)]
        if len(self._head) >= SNIFF_BYTES:
            self.end()

    def end(self) -> None:
        """There is no more to look at. Raises: UnsupportedType."""
        if self._head is None:
            return
        head, self._head = bytes(self._head), None
        if (what := foreign_type(head)) is not None:
            raise UnsupportedType(f"This file is neither a video nor sound; it looks like {what}.")


async def sniffed(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass a whole body on while it may be a video. Raises: UnsupportedType."""
    check = MediaCheck()
    async for chunk in body:
        check.feed(chunk)
        yield chunk
    check.end()


def foreign_type(head: bytes) -> str | None:
    """Return in words what begins so when that is surely neither video nor sound, else None."""
    try:
        found = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return None
    kinds = {
        one.mime_type: one.confidence
        for one in sorted(found, key=lambda one: one.confidence)
        if one.mime_type and one.confidence >= CONFIDENCE and one.offset < BEGINNING_BYTES
    }
    for kind, words in _SURELY_NOT.items():
        if kinds.get(kind, 0) >= (SURE if words == _PICTURE else CONFIDENCE):
            return words
    if any(kind.startswith(_MEDIA) for kind in kinds):
        return None
    return next(
        (words for beginning, words in _NOT.items() for kind in kinds if kind.startswith(beginning)), None
    )
