"""Recognizes files under DRM, whose pictures and audio nobody can decode without a key."""

from uuid import UUID

import aiohttp

from backend.core.errors import SourceRejected
from worker.source.ffprobe_schema import Report

PROTECTED = "This file is protected (DRM) and cannot be decoded. Upload one without protection."
_BLOCK_BYTES = 64 * 1024
_MAX_BOXES = 2000
_INSIDE = {b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"stsd": 8}
"""Boxes that lead to the sample entries, and how many bytes precede the boxes inside them."""
_PROTECTED_ENTRIES = frozenset({b"encv", b"enca", b"enct", b"encs", b"encm", b"drms", b"drmi", b"drmt"})
"""Sample entries of Common Encryption (ISO/IEC 23001-7) and of Apple's FairPlay."""
_ASF_OBJECTS = tuple(
    UUID(name).bytes_le
    for name in (
        "2211b3fb-bd23-11d2-b4b7-00a0c955fc6e",  # Content Encryption
        "298ae614-2622-4c17-b935-dae07ee9289c",  # Extended Content Encryption
        "43058533-6981-49e6-9b74-ad12cb86d58c",  # Advanced Content Encryption
    )
)
_SAMPLE_AES_TYPES = frozenset({"0x00db", "0x00cf", "0x00c1", "0x00c2"})
_SAMPLE_AES_NAMES = frozenset({"zavc", "apad", "ac3d", "ec3d", "zaac", "zach", "zacp", "zac3", "zec3"})
"""Stream types and descriptors of MPEG-TS (Apple's "MPEG-2 Stream Encryption Format for HLS")."""
_TS_PACKET, _TS_SYNC = 188, b"G"


async def check_protection(report: Report, url: str) -> None:
    """Raises: SourceRejected: it is protected."""
    container = report.format.format_name.partition(",")[0]
    # the feeder waits for the store, as long as the operator wants
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout()) as session:
        source = _Source(session, url)
        match container:
            case "mov":
                protected = await _has_protected_entry(source)
            case "asf":
                head = await source.at(0, _BLOCK_BYTES)
                protected = any(name in head for name in _ASF_OBJECTS)
            case "mpegts":
                protected = _is_scrambled(await source.at(0, _BLOCK_BYTES)) or any(
                    stream.codec_tag in _SAMPLE_AES_TYPES or stream.codec_tag_string in _SAMPLE_AES_NAMES
                    for stream in report.streams
                )
            case _:
                protected = any(stream.tags.enc_key_id for stream in report.streams)
    if protected:
        raise SourceRejected(PROTECTED, code="drm_protected")


class _Source:
    """Reads from the source in blocks."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._start = 0
        self._block = b""

    async def at(self, offset: int, length: int) -> bytes:
        """Return these bytes, or fewer at the end of the file."""
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._block):
            last = offset + max(length, _BLOCK_BYTES) - 1
            async with self._session.get(self._url, headers={"Range": f"bytes={offset}-{last}"}) as answer:
                self._block = await answer.read() if answer.status == 206 else b""
            self._start, begin = offset, 0
        return self._block[begin : begin + length]


async def _has_protected_entry(source: _Source) -> bool:
    """Look through the index of an MP4 or MOV (ISO/IEC 14496-12) for its sample entries."""
    todo: list[tuple[int, int | None]] = [(0, None)]
    for _ in range(_MAX_BOXES):
        if not todo:
            break
        position, end = todo.pop()
        header = await source.at(position, 16)
        size, kind, begin = int.from_bytes(header[:4]), header[4:8], 8
        if size == 1:  # its real size follows
            size, begin = int.from_bytes(header[8:16]), 16
        if kind in _PROTECTED_ENTRIES:
            return True
        if size < begin:
            continue
        if kind != b"moov" and (end is None or position + size < end):
            todo.append((position + size, end))
        if kind in _INSIDE:
            todo.append((position + begin + _INSIDE[kind], position + size))
    return False


def _is_scrambled(head: bytes) -> bool:
    """Whether most packets of an MPEG-TS are marked as scrambled (ISO/IEC 13818-1)."""
    for start in range(_TS_PACKET):
        if head[start : start + 4 * _TS_PACKET : _TS_PACKET] == _TS_SYNC * 4:
            headers = (head[at : at + 4] for at in range(start, len(head) - 3, _TS_PACKET))
            marks = [header[3] & 0xC0 for header in headers if header[:1] == _TS_SYNC]
            return sum(mark != 0 for mark in marks) > len(marks) / 2
    return False
