"""Files under DRM are recognized by what their container says, before anything is decoded."""

import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from backend.core.errors import SourceRejected
from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture, tone
from tests.worker.source.test_probe import served
from worker.source.ffprobe_schema import Report
from worker.source.media import MediaInfo
from worker.source.probe import probe
from worker.source.protection import check_protection

Make = Callable[[Path], None]
KEY = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "0" * 32, "-encryption_kid", "1" * 32)
FILM = (*picture("64x36", seconds=1), *tone(1), *H264)


def made(*arguments: str) -> Make:
    return lambda path: ffmpeg(*FILM, "-c:a", "aac", *arguments, str(path))


def renamed(old: bytes, new: bytes, *arguments: str) -> Make:
    """Rename the sample entry, which is the last place of the name: the index follows the pictures."""

    def make(path: Path) -> None:
        made(*arguments)(path)
        before, _, after = path.read_bytes().rpartition(old)
        path.write_bytes(before + new + after)

    return make


def windows_media(path: Path) -> None:
    """Add a Content Encryption Object to the header (ASF specification, 3.14)."""
    ffmpeg(*FILM[:-6], "-c:v", "wmv2", "-c:a", "wmav2", str(path))
    body = UUID("2211b3fb-bd23-11d2-b4b7-00a0c955fc6e").bytes_le + struct.pack("<Q", 64) + bytes(40)
    header = bytearray(path.read_bytes())
    size, count = struct.unpack("<QI", header[16:28])
    header[16:28] = struct.pack("<QI", size + len(body), count + 1)
    path.write_bytes(header[:30] + body + header[30:])


def scrambled(path: Path) -> None:
    """Mark all packets of the streams, as receivers record encrypted channels."""
    made()(path)
    body = bytearray(path.read_bytes())
    for at in range(0, len(body), 188):
        if int.from_bytes(body[at + 1 : at + 3]) & 0x1FFF in {0x100, 0x101}:
            body[at + 3] |= 0x80
    path.write_bytes(body)


async def probed(path: Path) -> MediaInfo:
    async with served(path) as url:
        return await probe(TOOLS, url)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cenc.mp4", made(*KEY)),
        ("cenc-index-first.mp4", made(*KEY, "-movflags", "+faststart")),
        ("cenc-fragmented.mp4", made(*KEY, "-movflags", "+frag_keyframe+empty_moov")),
        ("fairplay-music.m4a", renamed(b"mp4a\0", b"drms\0", "-vn")),
        ("fairplay-film.mp4", renamed(b"avc1\0", b"drmi\0", "-an")),
        ("windows-media.wmv", windows_media),
        ("scrambled.ts", scrambled),
    ],
)
async def test_protected_file_is_rejected_as_such(tmp_path: Path, name: str, make: Make) -> None:
    make(tmp_path / name)

    with pytest.raises(SourceRejected, match=r"protected \(DRM\)") as refused:
        await probed(tmp_path / name)

    assert refused.value.failure_code == "drm_protected"


@pytest.mark.parametrize("name", ["film.mp4", "film.ts", "film.mkv"])
async def test_unprotected_file_is_accepted(tmp_path: Path, name: str) -> None:
    made()(tmp_path / name)

    assert (await probed(tmp_path / name)).video is not None


@pytest.mark.parametrize(
    ("container", "stream"),
    [
        ("matroska,webm", {"tags": {"enc_key_id": "q7onHovPVSu9LoakNKml2Q=="}}),
        ("mpegts", {"codec_tag": "0x00db"}),
        ("mpegts", {"codec_tag": "0x64617061", "codec_tag_string": "apad"}),
    ],
    ids=["webm", "sample-aes-picture", "sample-aes-audio"],
)
async def test_recognizes_encryption_that_ffmpeg_cannot_write(
    tmp_path: Path, container: str, stream: dict[str, object]
) -> None:
    (tmp_path / "film").write_bytes(b"beginning")
    report = Report.model_validate(
        {"streams": [{"index": 0, **stream}], "format": {"format_name": container}}
    )

    async with served(tmp_path / "film") as url:
        with pytest.raises(SourceRejected) as refused:
            await check_protection(report, url)

    assert refused.value.failure_code == "drm_protected"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\1moov" + (2**63).to_bytes(8),
        b"\0\0\0\0moov",
        b"\0\0\0\x04moov",
        b"\xff\xff\xff\xffmoov\xff\xff\xff\xfftrak" * 3,
        (b"\0\0\0\x08free" * 10000) + b"\0\0\0\x08moov",
    ],
    ids=["empty", "huge", "to-the-end", "too-small", "nested", "many"],
)
async def test_broken_boxes_end_the_search(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "film").write_bytes(body or b"\0")
    report = Report.model_validate({"format": {"format_name": "mov,mp4"}})

    async with served(tmp_path / "film") as url:
        await check_protection(report, url)
