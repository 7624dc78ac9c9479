"""Small files that demand a lot: pixels, frames, tracks, memory or time."""

import re
import struct
import zlib

from tests.media.hostile.containers import (
    FTYP,
    MATROSKA_HEAD,
    bits,
    box,
    element,
    golomb,
    movie,
    mp4_of,
    png,
    png_chunk,
    riff,
    track,
    unsigned,
)
from tests.media.hostile.corpus import DAMAGED, DONE, H264, PICTURE, SOUND, TOO_LARGE, Bait, ends


def _claims(bait: Bait, codec: str, suffix: str, *options: str) -> bytes:
    """Return a short film whose container claims 30000x30000, although its frames are smaller."""
    made = bait.made(*PICTURE, "-c:v", codec, *options, suffix=suffix)
    small, large = struct.pack(">HH", 160, 90), struct.pack(">HH", 30000, 30000)
    assert small in made
    return made.replace(small, large)


@ends(TOO_LARGE, DONE)
def a_movie_that_says_30000x30000(bait: Bait) -> bytes:
    return _claims(bait, "libx264", "mp4")


@ends(TOO_LARGE)
def h264_of_30000x30000(_: Bait) -> bytes:
    """A sequence parameter set with that size, a picture parameter set, and truncated frames."""
    side = 30000 // 16 - 1
    sequence = b"\x67\x42\xc0\x33" + bits(
        *(golomb(value) for value in (0, 0, 2, 1)), "0", golomb(side), golomb(side), "1100"
    )
    picture = b"\x68" + bits(golomb(0), golomb(0), "00", *(golomb(0) for _ in range(3)), "000", "111", "000")
    setup = b"\x01\x42\xc0\x33\xff" + b"".join(
        bytes([1 | 0xE0 if unit is sequence else 1]) + struct.pack(">H", len(unit)) + unit
        for unit in (sequence, picture)
    )
    frame = b"\x65" + bits(golomb(0), golomb(7), golomb(0), golomb(0), golomb(0), "00", "1")
    samples = [struct.pack(">I", len(frame)) + frame] * 5
    return mp4_of(b"avc1", samples, width=30000, height=30000, extra=box(b"avcC", setup))


@ends(TOO_LARGE)
def hevc_of_30000x30000(_: Bait) -> bytes:
    """The same for HEVC (H.265, section 7.3.2.2)."""
    profile = "00000001" + "0110" + "0" * 28 + "1001" + "0" * 44 + f"{186:08b}"
    sequence = b"\x42\x01" + bits(
        *("0000", "000", "1", profile, golomb(0), golomb(1), golomb(30000), golomb(30000), "0"),
        *(golomb(value) for value in (0, 0, 4)),
        "1",
        *(golomb(value) for value in (4, 0, 0, 0, 3, 0, 3, 0, 0)),
        *("0", "0", "0", "0", golomb(0), "0", "0", "0", "0", "0"),
    )
    layers = b"\x40\x01" + bits(
        *("0000", "11", "000000", "000", "1", "1" * 16, profile, "1"),
        *(*(golomb(value) for value in (4, 0, 0)), "000000", golomb(0), "00"),
    )
    setup = b"\x01\x01\x60\0\0\0\x90\0\0\0\0\0\xba\xf0\0\xfc\xfd\xf8\xf8\0\0\x0f\x02"
    for unit in (layers, sequence):
        escaped = re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", unit)
        setup += bytes([0x80 | unit[0] >> 1]) + b"\0\x01" + struct.pack(">H", len(escaped)) + escaped
    frame = b"\x26\x01" + bytes(range(128, 228))
    samples = [struct.pack(">I", len(frame)) + frame] * 5
    return mp4_of(b"hvc1", samples, width=30000, height=30000, extra=box(b"hvcC", setup))


@ends(TOO_LARGE)
def vp9_of_30000x30000(_: Bait) -> bytes:
    """A key frame header with that size in a film that claims 320x180 (VP9, section 7.2)."""
    head = f"10000010{0x498342:024b}0010" + f"{29999:016b}" * 2 + "0"
    return _matroska("V_VP9", bits(head) + bytes(200))


@ends(TOO_LARGE)
def av1_of_30000x30000(_: Bait) -> bytes:
    """A sequence header with that size in a film that claims 320x180 (AV1, section 5.5)."""
    header = bits(
        *("000", "0", "0", "0", "0", "00000", "0" * 12, "11111", "0", "1111", "1111"),
        *(f"{29999:016b}" * 2, "0" * 9, "1", "1", "000", "0000", "00", "0", "0"),
    )
    sequence = b"\x0a" + bytes([len(header)]) + header
    setup = element("63a2", b"\x81\x1f\x0c\0" + sequence)
    return _matroska("V_AV1", b"\x12\0" + sequence + b"\x32\x64" + bytes(range(16, 116)), setup)


def _matroska(codec: str, frame: bytes, setup: bytes = b"") -> bytes:
    size = element("e0", unsigned("b0", 320) + unsigned("ba", 180))
    entry = unsigned("d7", 1) + unsigned("73c5", 1) + unsigned("83", 1) + element("86", codec.encode())
    frames = b"".join(element("a3", b"\x81" + struct.pack(">h", at) + b"\x80" + frame) for at in range(5))
    tracks = element("1654ae6b", element("ae", entry + setup + size))
    return MATROSKA_HEAD + element("18538067", tracks + element("1f43b675", unsigned("e7", 0) + frames))


@ends(TOO_LARGE)
def jpegs_of_30000x30000(bait: Bait) -> bytes:
    made = bait.made(*PICTURE, "-c:v", "mjpeg", suffix="avi")
    return made.replace(struct.pack(">HH", 90, 160), struct.pack(">HH", 30000, 30000))


@ends(TOO_LARGE)
def pngs_of_30000x30000(_: Bait) -> bytes:
    return mp4_of(b"png ", [png(30000, 30000, rows=3)] * 5, width=30000, height=30000)


@ends(TOO_LARGE)
def raw_frames_of_30000x30000(_: Bait) -> bytes:
    return FTYP + movie(track(b"raw ", width=30000, height=30000))


@ends(TOO_LARGE)
def prores_of_30000x30000(bait: Bait) -> bytes:
    return _claims(bait, "prores_ks", "mov")


@ends(TOO_LARGE)
def vp8_of_16000x16000(bait: Bait) -> bytes:
    made = bait.made(*PICTURE, "-c:v", "libvpx", "-deadline", "realtime", "-g", "1", suffix="webm")
    head = b"\x9d\x01\x2a"
    return made.replace(head + struct.pack("<HH", 160, 90), head + struct.pack("<HH", 16000, 16000))


@ends(TOO_LARGE)
def a_gif_of_65535x65535(bait: Bait) -> bytes:
    body = bytearray(bait.clip("gif"))
    body[6:10] = b"\xff\xff\xff\xff"
    return bytes(body)


@ends(DONE)
def a_film_that_grows_to_8k_in_the_middle(bait: Bait) -> bytes:
    small = bait.made(*PICTURE, *H264, suffix="ts")
    huge = ("-f", "lavfi", "-i", "color=size=8192x4320:rate=12:duration=0.25")
    return small + bait.made(*huge, *H264, "-output_ts_offset", "2", suffix="ts")


@ends(DAMAGED)
def a_thousand_million_frames_of_one_size(_: Bait) -> bytes:
    return FTYP + movie(track(b"rpza", frames=10**9, delta=1, sizes=struct.pack(">II", 1, 10**9)), seconds=10)


@ends(DAMAGED)
def a_table_of_a_thousand_million_frames(_: Bait) -> bytes:
    return FTYP + movie(track(b"rpza", frames=10**9, delta=0, sizes=struct.pack(">II", 0, 10**9)), seconds=10)


@ends(DAMAGED, DONE, "video_too_long")
def an_avi_of_a_thousand_million_frames(bait: Bait) -> bytes:
    body = bytearray(bait.clip("avi"))
    at = body.index(b"avih") + 8
    body[at + 16 : at + 20] = struct.pack("<I", 10**9)
    stream = body.index(b"strh") + 8
    body[stream + 32 : stream + 36] = struct.pack("<I", 10**9)
    return bytes(body)


@ends(DAMAGED)
def five_thousand_tracks(_: Bait) -> bytes:
    return FTYP + movie(*(track(b"avc1", number=number + 1) for number in range(5000)))


@ends(DAMAGED)
def thirty_thousand_tracks_of_matroska(_: Bait) -> bytes:
    entries = b"".join(
        element(
            "ae",
            unsigned("d7", number) + unsigned("73c5", number) + unsigned("83", 2) + element("86", b"A_OPUS"),
        )
        for number in range(1, 30_001)
    )
    return MATROSKA_HEAD + element("18538067", element("1654ae6b", entries))


@ends(DAMAGED, DONE)
def eight_thousand_programmes(bait: Bait) -> bytes:
    packets = [
        b"\x47" + struct.pack(">H", 0x4000 | pid) + b"\x10" + b"\0\0\x01\xe0" + bytes(180)
        for pid in range(32, 8190)
    ]
    return bait.clip("ts") + b"".join(packets) + bait.clip("ts")


@ends(DAMAGED)
def boxes_in_boxes_in_boxes(_: Bait) -> bytes:
    count = 20_000
    return FTYP + b"".join(struct.pack(">I4s", 8 * (count - number), b"moov") for number in range(count))


@ends(DAMAGED)
def a_head_of_64_mib(_: Bait) -> bytes:
    return FTYP + movie(box(b"udta", box(b"\xa9nam", bytes(64 * 1024**2))), track(b"avc1"))


@ends(DAMAGED)
def a_head_that_claims_16_exbibytes(_: Bait) -> bytes:
    return FTYP + struct.pack(">I4sQ", 1, b"moov", 2**63 - 1) + movie(track(b"avc1"))[8:]


@ends(DAMAGED)
def an_element_that_claims_all_there_is(_: Bait) -> bytes:
    return MATROSKA_HEAD + element(
        "18538067", element("1654ae6b", bytes(100), claimed_bytes=2**55), claimed_bytes=2**55
    )


@ends(DAMAGED)
def a_compressed_head_that_bursts(_: Bait) -> bytes:
    bomb = zlib.compress(bytes(256 * 1024**2), 9)
    packed = box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", 0xFFFFFF00), bomb))
    return FTYP + box(b"moov", packed)


@ends(DAMAGED)
def compressed_frames_that_burst(_: Bait) -> bytes:
    bomb = zlib.compress(bytes(512 * 1024**2), 9)
    packing = element("6d80", element("6240", unsigned("5032", 1) + element("5034", unsigned("4254", 0))))
    size = element("e0", unsigned("b0", 320) + unsigned("ba", 180))
    entry = (
        unsigned("d7", 1) + unsigned("73c5", 1) + unsigned("83", 1) + element("86", b"V_MPEG4/ISO/ASP") + size
    )
    frames = b"".join(element("a3", b"\x81\0\0\x80" + bomb) for _ in range(4))
    tracks = element("1654ae6b", element("ae", entry + packing))
    return MATROSKA_HEAD + element("18538067", tracks + element("1f43b675", unsigned("e7", 0) + frames))


@ends(DAMAGED, DONE)
def pngs_that_burst(_: Bait) -> bytes:
    """8K frames in a few KiB each, with a text and a colour profile that are also decompression bombs."""
    bomb = zlib.compress(bytes(64 * 1024**2), 9)
    more = png_chunk(b"iCCP", b"x\0\0" + bomb) + png_chunk(b"zTXt", b"x\0\0" + bomb)
    return mp4_of(b"png ", [png(8000, 4000, more=more)] * 3, width=8000, height=4000)


@ends(DAMAGED, DONE, "stalled")
def a_gif_of_much_from_little(_: Bait) -> bytes:
    """Three thousand one-pixel frames on a 4000x4000 canvas."""
    head = b"GIF89a" + struct.pack("<HHBBB", 4000, 4000, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    frame = b"\x21\xf9\x04\0\x02\0\0\0" + b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return head + frame * 3000 + b";"


@ends(DAMAGED)
def a_wav_of_65535_channels(_: Bait) -> bytes:
    form = struct.pack("<HHIIHH", 1, 65535, 0xFFFFFFFF, 0xFFFFFFFF, 0, 16)
    return riff(b"WAVE", (b"fmt ", form), (b"data", bytes(100_000)), claimed_bytes=0xFFFFFFFF)


@ends(DAMAGED, DONE, "video_too_long")
def a_wav_that_claims_to_last_for_ever(_: Bait) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, 1, 1, 1, 8)
    return (
        b"RIFF\xff\xff\xff\xffWAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data\xff\xff\xff\xff"
        + bytes(200_000)
    )


@ends(DAMAGED, DONE, "video_too_long")
def a_film_of_a_thousand_years(bait: Bait) -> bytes:
    body = bait.clip("mkv")
    at = body.index(b"\x44\x89\x88") + 3
    return body[:at] + struct.pack(">d", 3e16) + body[at + 8 :].replace(b"DURATION", b"DURATIOM")


@ends(DAMAGED, "video_too_long")
def a_gap_of_a_hundred_years(bait: Bait) -> bytes:
    gap = ("-vf", "setpts=PTS+gte(N\\,12)*3e9/TB", "-fps_mode", "vfr")
    return bait.made(*PICTURE, *H264, *gap, suffix="mkv")


@ends(DAMAGED, DONE)
def time_that_runs_backwards(bait: Bait) -> bytes:
    body = bait.clip("ts")
    return body + body[len(body) // 188 // 2 * 188 :] + body


@ends(DAMAGED, DONE)
def a_tag_of_256_mib_before_a_song(bait: Bait) -> bytes:
    song = bait.made(*SOUND, "-c:a", "libmp3lame", suffix="mp3")
    return b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(50_000) + song
