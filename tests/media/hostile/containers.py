"""Builds malformed media files by hand from MP4 boxes, Matroska elements and PNG chunks."""

import struct
import zlib
from collections.abc import Iterable

MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
MATROSKA_HEAD = bytes.fromhex(
    "1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b614287810442858102"
)
"""An EBML header with DocType matroska."""


def box(kind: bytes, *content: bytes) -> bytes:
    """Return an ISO 14496-12 box."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, *content: bytes, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", flags), *content)


FTYP = box(b"ftyp", b"isom", bytes(4), b"isom")


def movie(*tracks: bytes, seconds: int = 10) -> bytes:
    header = full_box(
        b"mvhd",
        struct.pack(">4I", 0, 0, 1000, seconds * 1000),
        struct.pack(">IH10x", 0x10000, 0x100),
        MATRIX,
        bytes(24),
    )
    return box(b"moov", header, *tracks)


def track(
    codec: bytes,
    *,
    number: int = 1,
    width: int = 320,
    height: int = 180,
    extra: bytes = b"",
    seconds: int = 10,
    frames: int = 10,
    delta: int | None = None,
    sizes: bytes | None = None,
    offset: int = 0,
    dref: bytes = full_box(b"url ", flags=1),
) -> bytes:
    """Return a video track. `sizes` is what follows the flags in stsz, `offset` the position of its chunk."""
    entry = box(
        codec,
        struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 0x480000, 0x480000, 0, 1, 24, -1),
        extra,
    )
    table = box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), entry),
        full_box(
            b"stts", struct.pack(">3I", 1, frames, seconds * 1000 // frames if delta is None else delta)
        ),
        full_box(b"stsc", struct.pack(">4I", 1, 1, frames, 1)),
        full_box(b"stsz", sizes if sizes is not None else struct.pack(">II", 64, frames)),
        full_box(b"stco", struct.pack(">II", 1, offset)),
    )
    media = box(
        b"mdia",
        full_box(b"mdhd", struct.pack(">4IHH", 0, 0, 1000, seconds * 1000, 0x55C4, 0)),
        full_box(b"hdlr", bytes(4), b"vide", bytes(13)),
        box(
            b"minf",
            full_box(b"vmhd", bytes(8), flags=1),
            box(b"dinf", full_box(b"dref", struct.pack(">I", 1), dref)),
            table,
        ),
    )
    header = full_box(
        b"tkhd",
        struct.pack(">5I", 0, 0, number, 0, seconds * 1000),
        bytes(16),
        MATRIX,
        struct.pack(">II", width << 16, height << 16),
        flags=3,
    )
    return box(b"trak", header, media)


def mp4_of(
    codec: bytes, samples: Iterable[bytes], *, width: int, height: int, seconds: int = 1, extra: bytes = b""
) -> bytes:
    """Return a movie with these frames."""
    frames = list(samples)
    sizes = struct.pack(f">II{len(frames)}I", 0, len(frames), *map(len, frames))
    made = track(
        codec,
        extra=extra,
        width=width,
        height=height,
        seconds=seconds,
        frames=len(frames),
        sizes=sizes,
        offset=len(FTYP) + 8,
    )
    return FTYP + box(b"mdat", *frames) + movie(made, seconds=seconds)


def golomb(value: int) -> str:
    """Return the bits of an unsigned Exp-Golomb code (H.264, section 9.1)."""
    binary = f"{value + 1:b}"
    return "0" * (len(binary) - 1) + binary


def bits(*parts: str) -> bytes:
    """Join the parts and add the stop bit and zeros up to a whole byte."""
    joined = "".join(parts) + "1"
    joined += "0" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big")


def element(number: str, content: bytes, *, claimed_bytes: int | None = None) -> bytes:
    """Return an EBML element (RFC 8794) with an eight-byte size. `number` is its id in hexadecimal."""
    size = len(content) if claimed_bytes is None else claimed_bytes
    return bytes.fromhex(number) + ((1 << 56) | size).to_bytes(8, "big") + content


def unsigned(number: str, value: int) -> bytes:
    return element(number, value.to_bytes(8, "big"))


def png(width: int, height: int, *, rows: int | None = None, more: bytes = b"") -> bytes:
    """Return a black picture with only its first `rows` rows. The chunks in `more` precede them."""
    compressor = zlib.compressobj(9)
    body = b"".join(
        compressor.compress(bytes(1 + 3 * width)) for _ in range(height if rows is None else rows)
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + more
        + png_chunk(b"IDAT", body + compressor.flush())
        + png_chunk(b"IEND", b"")
    )


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def riff(kind: bytes, *chunks: tuple[bytes, bytes], claimed_bytes: int | None = None) -> bytes:
    body = b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return (
        b"RIFF" + struct.pack("<I", len(body) + 4 if claimed_bytes is None else claimed_bytes) + kind + body
    )
