"""EBML elements (RFC 8794): what is written is read back; truncated input waits for more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.source.ebml import (
    MIN_VOID_BYTES,
    VOID,
    EbmlError,
    Header,
    children,
    element,
    read_header,
    void,
)

IDENTIFIERS = st.sampled_from((0xEC, 0x4DBB, 0x2AD7B1, 0x1F43B675))


@given(st.lists(st.tuples(IDENTIFIERS, st.binary(max_size=300))))
def test_written_elements_are_read_back(elements: list[tuple[int, bytes]]) -> None:
    data = b"".join(element(identifier, body) for identifier, body in elements)

    found = list(children(data))

    assert [(one.identifier, data[one.body : one.body + (one.size or 0)]) for one in found] == elements


@given(IDENTIFIERS, st.integers(1, 8), st.data())
def test_reads_headers_of_every_width_once_complete(identifier: int, width: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, (1 << 7 * width) - 2))
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    header = name + (size | 1 << 7 * width).to_bytes(width, "big")

    assert read_header(header, 0) == Header(identifier, len(header), size)
    for cut in range(len(header)):
        assert read_header(header[:cut], 0) is None


@given(st.integers(1, 8))
def test_size_of_all_ones_is_unknown(width: int) -> None:
    header = b"\xa3" + ((1 << 7 * width + 1) - 1).to_bytes(width, "big")

    assert read_header(header, 0) == Header(0xA3, 1 + width, None)


@pytest.mark.parametrize("data", [b"\x00\x81\x00", b"\x08\x81\x00", b"\xa3\x00"])
def test_rejects_bytes_that_cannot_start_an_element(data: bytes) -> None:
    with pytest.raises(EbmlError):
        read_header(data, 0)


@given(st.integers(MIN_VOID_BYTES, 5000))
def test_void_fills_its_room(room: int) -> None:
    filling = void(room)

    assert len(filling) == room
    assert [(one.identifier, one.body + (one.size or 0)) for one in children(filling)] == [(VOID, room)]


def test_no_room_needs_no_void() -> None:
    assert void(0) == b""
