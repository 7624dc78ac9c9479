"""Files that are not media at all, or that are truncated, overwritten or altered."""

import random

from tests.media.hostile.containers import box, png
from tests.media.hostile.corpus import DAMAGED, DONE, FILM, MP4, NOT_A_VIDEO, UNDECODABLE, Bait, add, ends


@ends(NOT_A_VIDEO)
def nothing(_: Bait) -> bytes:
    return b""


@ends(NOT_A_VIDEO)
def one_byte(_: Bait) -> bytes:
    return b"\0"


@ends(NOT_A_VIDEO)
def zeros(_: Bait) -> bytes:
    return bytes(2_000_000)


@ends(NOT_A_VIDEO)
def noise(_: Bait) -> bytes:
    return random.Random(1).randbytes(2_000_000)


@ends(NOT_A_VIDEO)
def a_picture(bait: Bait) -> bytes:
    return png(320, 180)


@ends(NOT_A_VIDEO)
def an_archive(_: Bait) -> bytes:
    return b"PK\x03\x04" + random.Random(2).randbytes(100_000)


for _kind, _length in {
    "mp4": 32,
    "mov": 40,
    "mkv": 60,
    "ts": 188,
    "avi": 12,
    "flv": 13,
    "ogv": 58,
}.items():
    add(f"only-the-head-of-{_kind}", lambda bait, k=_kind, n=_length: bait.clip(k)[:n], UNDECODABLE, "head")

for _kind in ("mp4", "mov", "fragmented.mp4", "mkv", "webm", "ts", "avi", "flv", "ogv", "mpg", "wmv", "gif"):
    for _percent in (5, 50, 95):
        add(
            f"{_kind}-cut-after-{_percent}-percent",
            lambda bait, k=_kind, p=_percent: bait.clip(k)[: len(bait.clip(k)) * p // 100],
            DAMAGED | {DONE},
            f"{_kind} that is cut",
        )
    add(
        f"{_kind}-with-zeros-in-its-second-half",
        lambda bait, k=_kind: bait.clip(k)[: len(bait.clip(k)) // 2] + bytes(len(bait.clip(k)) // 2),
        DAMAGED | {DONE},
        "zeros in the second half",
    )


def _with_strays(flv: bytes, kind: int, first: int, count: int, hours: int = 18) -> bytes:
    """Return an FLV in which some frames (8: audio, 9: video) have timestamps `hours` too late."""
    body, at, number = bytearray(flv), 13, 0
    while at < len(body):
        if body[at] == kind:
            if first <= number < first + count:
                milliseconds = int.from_bytes(body[at + 4 : at + 7]) + hours * 3_600_000
                # the most significant of the four bytes comes last
                body[at + 4 : at + 8] = (milliseconds & 0xFFFFFF).to_bytes(3) + bytes([milliseconds >> 24])
            number += 1
        at += 11 + int.from_bytes(body[at + 1 : at + 4]) + 4
    return bytes(body)


@ends(DONE)
def an_flv_with_one_frame_of_sound_18_hours_off(bait: Bait) -> bytes:
    return _with_strays(bait.clip("flv"), 8, first=40, count=1)


@ends(DONE)
def an_flv_with_one_picture_18_hours_off(bait: Bait) -> bytes:
    return _with_strays(bait.clip("flv"), 9, first=10, count=1)


@ends("duration_mismatch")
def an_flv_whose_second_half_is_18_hours_off(bait: Bait) -> bytes:
    return _with_strays(bait.clip("flv"), 8, first=40, count=10_000)


@ends("source_damaged")
def a_film_whose_sound_begins_18_hours_late(bait: Bait) -> bytes:
    """ffmpeg may not buffer that much silence. The padding makes the file large enough to be that long."""
    late = bait.made(*FILM, *MP4, "-bsf:a", "setts=ts=TS+65000/TB", suffix="mp4")
    return late + box(b"free", bytes(800_000))


def flipped(body: bytes, seed: int, share: float) -> bytes:
    """Return the body with one bit flipped in this share of its bytes."""
    chance, damaged = random.Random(seed), bytearray(body)
    for _ in range(max(1, int(len(body) * share))):
        damaged[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def spliced(body: bytes, seed: int) -> bytes:
    """Return the body with pieces removed, repeated, reversed or replaced by parser-breaking numbers."""
    chance, damaged = random.Random(seed), bytearray(body)
    for _ in range(chance.randint(1, 12)):
        start = chance.randrange(len(damaged))
        end = start + chance.randint(1, 64)
        piece = bytes(damaged[start:end])
        extreme = chance.choice(
            (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", bytes(8), b"\0\0\0\1")
        )
        damaged[start:end] = chance.choice((b"", piece * 3, piece[::-1], extreme))
        if not damaged:
            break
    return bytes(damaged)


for _kind in ("mp4", "fragmented.mp4", "mkv", "ts", "avi", "ogv", "flv", "mpg", "wmv"):
    for _share in (0.0005, 0.02):
        add(
            f"{_kind}-with-bits-flipped-in-{_share:.2%}".replace(".", "-").replace("%", "-percent"),
            lambda bait, k=_kind, s=_share: flipped(bait.clip(k), 1, s),
            DAMAGED | {DONE},
            f"{_kind} with flipped bits",
        )
