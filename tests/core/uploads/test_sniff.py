"""The check of a file's first bytes: obvious non-videos are refused, and anything that may be a video passes.

tests/worker/test_formats.py shows that no file of the format matrix is refused.
"""

import bz2
import gzip
import io
import lzma
import random
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.errors import UnsupportedType
from backend.core.uploads.sniff import SNIFF_BYTES, MediaCheck, checked_media, foreign_type


def _zipped(name: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, b"content")
    return packed.getvalue()


FOREIGN = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10", "an image"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1", "an image"),
    "jpeg of a camera": (b"\xff\xd8\xff\xe1\0\x18Exif\0\0", "an image"),
    "tiff": (b"II*\0\x08\0\0\0", "an image"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", "an image"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "an image"),
    "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an image"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg">', "an image"),
    "photoshop": (b"8BPS\0\1", "an image"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    "rtf": (b"{\\rtf1\\ansi", "a document"),
    "old word": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "a document"),
    "docx": (_zipped("[Content_Types].xml"), "a document or an archive"),
    "zip": (_zipped("a.txt"), "a document or an archive"),
    "gzip": (gzip.compress(b"content"), "an archive"),
    "bzip2": (bz2.compress(b"content"), "an archive"),
    "xz": (lzma.compress(b"content"), "an archive"),
    "zstd": (b"(\xb5/\xfd\x04\0", "an archive"),
    "rar": (b"Rar!\x1a\x07\x01\0", "an archive"),
    "7z": (b"7z\xbc\xaf'\x1c\0\4", "an archive"),
    "html": (b"<!DOCTYPE html>\n<html>", "a web page"),
    "xml": (b"<?xml version='1.0'?><MPD>", "a text file"),
    "hls": (b"#EXTM3U\n#EXT-X-VERSION:3\n", "a playlist"),
    "windows program": (b"MZ\x90\0\3\0\0\0", "a program"),
    "linux program": (b"\x7fELF\x02\x01\x01\0", "a program"),
}
MEDIA = {
    "mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "mp4 without a brand": b"\0\0\0\x08wide\0\0\0\0mdat",
    "mov": b"\0\0\0\x14ftypqt  \0\0\2\0qt  ",
    "a fragment of mp4": b"\0\0\0\x18styp",
    "matroska": b"\x1aE\xdf\xa3\xa3B\x86\x81\1",
    "avi": b"RIFF\x24\0\0\0AVI LIST",
    "flv": b"FLV\1\5\0\0\0\x09",
    "mpeg-ts": b"\x47\x40\x11\x10" + b"\xff" * 184 + b"\x47",
    "mpeg-ps": b"\0\0\1\xba\x44",
    "mpeg-1": b"\0\0\1\xb3",
    "mpeg-4 part 2": b"\0\0\1\0\0\0\1\x20",
    "wmv": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel",
    "real": b".RMF\0\0\0\x12\0\1",
    "ogg": b"OggS\0\2",
    "mxf": b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",
    "gxf": b"\0\0\0\0\1\xbc",
    "dv": b"\x1f\x07\0\x3f",
    "wtv": b"\xb7\xd8\0\x20\x37\x49\xda\x11",
    "gif": b"GIF89a\x10\0\x10\0",
    "animated png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(17) + b"\0\0\0\x08acTL" + bytes(12),
    "h.264": b"\0\0\0\1\x67\x42\xc0\x0c",
    "hevc": b"\0\0\0\1\x40\1\x0c\1",
    "amr": b"#!AMR\n",
    "ivf": b"DKIF\0\0\x20\0VP80",
    "wav": b"RIFF\x24\0\0\0WAVEfmt ",
    "aiff": b"FORM\0\0\1\0AIFF",
    "caf": b"caff\0\1\0\0",
    "flac": b"fLaC\0\0\0\x22",
    "mp3": b"\xff\xfb\x90\0",
    "mp3 with a tag": b"ID3\x04\0\0\0\0\0\x23TSSE",
    "adts": b"\xff\xf1\x50\x80",
    "a zero byte": b"\0",
    "words": b"a video",
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("more", [0, 10_000])
def test_obvious_mistakes_are_refused_by_name(kind: str, more: int) -> None:
    beginning, words = FOREIGN[kind]
    with pytest.raises(UnsupportedType, match=f"looks like {words}\\."):
        _check(beginning + bytes(more))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other formats")
def test_a_real_program_is_recognized() -> None:
    with Path(sys.executable).open("rb") as program:
        assert foreign_type(program.read(SNIFF_BYTES)) == "a program"


@pytest.mark.parametrize("kind", MEDIA)
@pytest.mark.parametrize("more", [0, 10_000])
def test_possible_video_and_audio_passes(kind: str, more: int) -> None:
    _check(MEDIA[kind] + bytes(more))


@given(seed=st.integers(0, 2**64), size=st.integers(0, SNIFF_BYTES))
def test_random_bytes_are_never_refused(seed: int, size: int) -> None:
    assert foreign_type(random.Random(seed).randbytes(size)) is None


@given(head=st.binary(max_size=100))
def test_any_bytes_can_be_checked(head: bytes) -> None:
    assert foreign_type(head) is None or foreign_type(head) in {words for _, words in FOREIGN.values()}


@given(seed=st.integers(0, 2**64), kind=st.sampled_from(sorted(MEDIA)))
def test_the_bytes_after_a_media_header_do_not_matter(seed: int, kind: str) -> None:
    assert foreign_type(MEDIA[kind] + random.Random(seed).randbytes(SNIFF_BYTES)) is None


@pytest.mark.parametrize("size", [1, 7, 4096, 20_000])
async def test_a_document_is_refused_within_4_kib_in_chunks_of_any_size(size: int) -> None:
    body = FOREIGN["pdf"][0] + bytes(20_000)
    passed = bytearray()
    with pytest.raises(UnsupportedType):
        await _collect(body, size, passed)
    assert len(passed) < SNIFF_BYTES


@pytest.mark.parametrize("size", [1, 4096, 20_000])
async def test_a_video_passes_unchanged(size: int) -> None:
    body = MEDIA["mp4"] + bytes(20_000)
    passed = bytearray()
    await _collect(body, size, passed)
    assert passed == body


def _check(body: bytes) -> None:
    check = MediaCheck()
    check.feed(body)
    check.end()


async def _collect(body: bytes, size: int, passed: bytearray) -> None:
    async for chunk in checked_media(_pieces(body, size)):
        passed += chunk


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
