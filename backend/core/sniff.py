"""What a file is, by its first bytes: obvious mistakes are told before the rest of them is moved.

Only a first look. Whatever passes is probed in the worker, which alone decides what is a video.
"""

from collections.abc import AsyncIterator

import puremagic

from backend.core.errors import UnsupportedType

SNIFF_BYTES = 4096
CONFIDENCE = 0.3
"""Below it the library guesses by a byte or two."""
_MEDIA = ("video/", "audio/", "image/gif", "application/ogg", "application/mxf")
_FOREIGN = ("image/", "text/", "application/")
_WORDS = {
    "image/": "a picture",
    "text/": "a text",
    "application/pdf": "a PDF document",
    "application/vnd.openxmlformats": "a document or an archive",
    "application/zip": "an archive",
}
_PLAYLISTS = ("audio/x-mpegurl", "application/vnd.apple.mpegurl")


class MediaCheck:
    """Looks at the beginning of a file as it comes in."""

    def __init__(self) -> None:
        self._head: bytearray | None = bytearray()

    def look(self, chunk: bytes) -> None:
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
        check.look(chunk)
        yield chunk
    check.end()


def foreign_type(head: bytes) -> str | None:
    """Return the media type of these first bytes when they are surely neither video nor sound, else None."""
    try:
        found = [one for one in puremagic.magic_string(head) if one.confidence >= CONFIDENCE]
    except (puremagic.PureError, ValueError):
        return None
    kinds = [one.mime_type for one in found if one.mime_type]
    if any(kind in _PLAYLISTS for kind in kinds):
        return "a playlist"
    if not kinds or any(kind.startswith(_MEDIA) for kind in kinds):
        return None
    return _called(kinds[0]) if kinds[0].startswith(_FOREIGN) else None


def _called(kind: str) -> str:
    for beginning, words in _WORDS.items():
        if kind.startswith(beginning):
            return words
    return f"a file of the type {kind}"
