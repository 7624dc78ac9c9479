"""H.264 that was copied: players can begin at its keyframes only if they need nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.output.avc import can_begin_at
from worker.output.fragments import Config, Fragment, Frame

SPS, PPS, SEI, IDR, SLICE = b"\x67sps", b"\x68pps", b"\x06sei", b"\x65idr", b"\x41slice"


def config(width: int = 4) -> Config:
    record = (
        b"avcC\x01\x64\x00\x28" + bytes([0xFC | width - 1]) + b"\xe1\x00\x04" + SPS + b"\x01\x00\x04" + PPS
    )
    return Config("avc1.640028", "", 24, 320, 180, 0, bytes(8) + record)


def fragment(*units: bytes, width: int = 4) -> Fragment:
    first = b"".join(len(unit).to_bytes(width, "big") + unit for unit in units)
    return Fragment(
        "media", b"moof" + first + b"next", (Frame(len(first), 1, 0, True), Frame(4, 1, 0, False))
    )


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize(
    ("units", "can"),
    [
        ((IDR,), True),
        ((SEI, SPS, PPS, IDR, IDR), True),
        ((SLICE,), False),
        ((SEI,), False),
        ((), False),
        ((SPS, b"\x68other", IDR), False),
        ((b"", IDR), True),
    ],
)
def test_only_idr_pictures_with_the_known_parameter_sets(
    units: tuple[bytes, ...], width: int, *, can: bool
) -> None:
    assert can_begin_at(fragment(*units, width=width), config(width)) is can


@given(st.binary(max_size=64))
def test_any_bytes_get_an_answer(body: bytes) -> None:
    one = replace(fragment(), body=body, frames=(Frame(len(body), 1, 0, True),))

    assert can_begin_at(one, config()) in {True, False}
