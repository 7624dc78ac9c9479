"""Keyframes in Matroska: cues of the picture, wherever the file says its parts are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.source.ebml import element
from worker.source.index.matroska import (
    CLUSTER,
    CUES,
    INFO,
    SEEK_HEAD,
    SEGMENT,
    TRACKS,
    find_places,
    keyframes_of,
)
from worker.source.index.source_index import IndexUnusable, SourceIndex


def number(identifier: int, value: int) -> bytes:
    return element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def cue(time: int, *tracks: int) -> bytes:
    places = (element(0xB7, number(0xF7, track) + number(0xF1, 1234)) for track in tracks)
    return element(0xBB, number(0xB3, time) + b"".join(places))


def entry(track: int, kind: int) -> bytes:
    return element(0xAE, number(0xD7, track) + number(0x83, kind))


SOUND_AND_PICTURE = entry(7, 2) + entry(3, 1)
MILLISECONDS = number(0x2AD7B1, 1_000_000)


@given(st.lists(st.integers(0, 2**40), min_size=1), st.lists(st.integers(0, 2**40)))
def test_cues_of_the_picture_are_its_keyframes(times: list[int], of_sound: list[int]) -> None:
    cues = b"".join((*(cue(time, 3, 7) for time in times), *(cue(time, 7) for time in of_sound)))

    index = keyframes_of(MILLISECONDS, SOUND_AND_PICTURE, cues, 1)

    assert index == SourceIndex(1000, tuple(sorted(set(times))))


def test_times_begin_with_the_film() -> None:
    index = keyframes_of(b"", SOUND_AND_PICTURE, cue(100_000, 3) + cue(104_000, 3), 1, 100.0)

    assert index == SourceIndex(1000, (0, 4000))


def seek(identifier: int, position: int) -> bytes:
    return element(0x4DBB, number(0x53AB, identifier) + number(0x53AC, position))


def test_places_are_found_by_reading_on_and_by_the_seek_head() -> None:
    head = element(SEEK_HEAD, seek(CUES, 5_000_000))
    parts = head + element(INFO, MILLISECONDS) + element(TRACKS, SOUND_AND_PICTURE)
    before = element(0x1A45DFA3, b"") + element(SEGMENT, b"")[:-1] + b"\xff"

    places = find_places(before + parts + element(CLUSTER, bytes(50))[:20])

    assert places == (
        len(before) + len(head),
        len(before) + len(head) + len(element(INFO, MILLISECONDS)),
        len(before) + 5_000_000,
    )


@pytest.mark.parametrize(
    ("info", "tracks", "cues", "track"),
    [
        (MILLISECONDS, SOUND_AND_PICTURE, cue(0, 7), 1),
        (MILLISECONDS, SOUND_AND_PICTURE, cue(0, 7), 0),
        (MILLISECONDS, SOUND_AND_PICTURE, cue(0, 3), 2),
        (number(0x2AD7B1, 0), SOUND_AND_PICTURE, cue(0, 3), 1),
        (MILLISECONDS, SOUND_AND_PICTURE, element(0xBB, element(0xB3, bytes(9))), 1),
        (MILLISECONDS, SOUND_AND_PICTURE, cue(0, 3)[:-3], 1),
    ],
    ids=["no cues", "sound", "no such track", "no timescale", "huge number", "cut off"],
)
def test_unusable_cues_are_refused(info: bytes, tracks: bytes, cues: bytes, track: int) -> None:
    with pytest.raises(IndexUnusable):
        keyframes_of(info, tracks, cues, track)


@given(st.data())
def test_any_damage_is_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(cue(0, 3) + cue(4000, 3, 7) + cue(8000, 3))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        find_places(bytes(whole))
        keyframes_of(MILLISECONDS, SOUND_AND_PICTURE, bytes(whole), 1)
    except IndexUnusable:
        pass
