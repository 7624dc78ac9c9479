"""Finds and reads the index of a source: a few reads at the places that the file names."""

import asyncio
from collections.abc import Awaitable, Callable

from worker.source.ebml import EbmlError, read_header
from worker.source.index import matroska, mp4
from worker.source.index.source_index import MAX_INDEX_BYTES, IndexUnusable, SourceIndex
from worker.source.media import MediaInfo

MAX_TOP_BOXES = 1000
MATROSKA_HEAD_BYTES = 64 * 1024
"""Programs that write cues leave their place in the first kilobytes."""
_LONGEST_HEADER = 16

Read = Callable[[int, int], Awaitable[bytes]]
"""Takes an offset and a number of bytes. Returns fewer only at the end of the file."""


async def read_index(read: Read, media: MediaInfo) -> SourceIndex:
    """Return the keyframes of the source's picture.

    Raises:
        IndexUnusable.
        StoreError.
    """
    if media.video is None:
        raise IndexUnusable("no picture")
    track, origin = media.video.index, media.origin_seconds
    if media.container == "mov":
        moov = await _moov(read)
        return await asyncio.to_thread(mp4.keyframes_of, moov, track, origin)
    if media.container == "matroska":
        places = matroska.find_places(await read(0, MATROSKA_HEAD_BYTES))
        info, tracks, cues = [await _element(read, place) for place in places]
        return await asyncio.to_thread(matroska.keyframes_of, info, tracks, cues, track, origin)
    raise IndexUnusable(f"of {media.container}")


async def _moov(read: Read) -> bytes:
    """Return the content of `moov`, which may come after all media."""
    position = 0
    for _ in range(MAX_TOP_BOXES):
        header = await read(position, _LONGEST_HEADER)
        if len(header) < 8:
            break
        size, length = int.from_bytes(header[:4], "big"), 8
        if size == 1:
            size, length = int.from_bytes(header[8:], "big"), 16
        if header[4:8] == b"moov":
            return await _whole(read, position + length, size - length)
        if size < length:
            break
        position += size
    raise IndexUnusable("no moov box")


async def _element(read: Read, position: int | None) -> bytes:
    """Return the content of a Matroska element."""
    if position is None:
        raise IndexUnusable("the file does not name its parts")
    head = await read(position, _LONGEST_HEADER)
    try:
        header = read_header(head, 0)
    except EbmlError as error:
        raise IndexUnusable(str(error)) from error
    if header is None or header.size is None:
        raise IndexUnusable("an element without an end")
    return await _whole(read, position + header.body, header.size)


async def _whole(read: Read, position: int, size: int) -> bytes:
    if not 0 < size <= MAX_INDEX_BYTES:
        raise IndexUnusable(f"{size} bytes")
    body = await read(position, size)
    if len(body) < size:
        raise IndexUnusable("cut off")
    return body
