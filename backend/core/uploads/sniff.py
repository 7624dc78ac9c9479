"""Recognizes obvious non-videos by their first bytes, before the rest is uploaded.

This only catches mistakes. The worker probes every file that passes, and it alone decides what is a video.
"""

from collections.abc import AsyncIterator

import puremagic

from backend.core.errors import UnsupportedType

SNIFF_BYTES = 4096
CONFIDENCE = 0.3
"""The library counts a tenth for each byte that matched. Below this, it guesses from one or two bytes."""
SURE = 0.8
BEGINNING_BYTES = 16
"""Signatures further in are not used: they also occur by chance within audio and video."""
_MEDIA = ("video/", "audio/", "image/gif", "application/ogg", "application/mxf", "application/x-matroska")
_IMAGE, _TEXT, _PROGRAM = "an image", "a text file", "a program"
_DOCUMENT, _ARCHIVE = "a document", "an archive"
_SURELY_NOT = {
    "application/vnd.apple.mpegurl": "a playlist",
    "audio/x-mpegurl": "a playlist",
    "image/webp": _IMAGE,
    "image/heif": _IMAGE,
    "image/avif": _IMAGE,
}
"""Refused even though their containers, RIFF and MP4, can also hold video."""
_NOT = {
    "image/png": _IMAGE,
    "image/jpeg": _IMAGE,
    "image/tiff": _IMAGE,
    "image/svg": _IMAGE,
    "image/vnd.adobe": _IMAGE,
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
"""By the start of the media type. The library knows a thousand more, some from as few as three bytes."""


class MediaCheck:
    """Checks the first bytes of a file as it arrives."""

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
        """Check what has arrived: there is no more. Raises: UnsupportedType."""
        if self._head is None:
            return
        head, self._head = bytes(self._head), None
        if (what := foreign_type(head)) is not None:
            raise UnsupportedType(f"This isn't a video or audio file; it looks like {what}.")


async def checked_media(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the body as long as it may be a video. Raises: UnsupportedType."""
    check = MediaCheck()
    async for chunk in body:
        check.feed(chunk)
        yield chunk
    check.end()


def foreign_type(head: bytes) -> str | None:
    """Say what kind of file starts like this; None if it may be video or audio."""
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
        if kinds.get(kind, 0) >= (SURE if words == _IMAGE else CONFIDENCE):
            return words
    if any(kind.startswith(_MEDIA) for kind in kinds) or _is_animated_png(head):
        return None
    return next(
        (words for beginning, words in _NOT.items() for kind in kinds if kind.startswith(beginning)), None
    )


def _is_animated_png(head: bytes) -> bool:
    """Whether the chunk that says so comes first, as the specification wants."""
    return head.startswith(b"\x89PNG") and b"acTL" in head
