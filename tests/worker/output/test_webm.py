"""What the reader finds in streams of any shape, and that the head is correct to the byte."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.records import Chapter
from tests.worker.output.webm_file import FRAME_MS, SOUND, VIDEO, Frame, beginning, cluster, index_of
from worker.output.webm import (
    CLUSTER,
    CUES,
    SEGMENT,
    Contents,
    Cue,
    WebmReader,
    cues_come_first,
    head,
    room_for,
)
from worker.source.ebml import EbmlError, element

CHAPTERS = (Chapter(start_seconds=0, end_seconds=1, title="Größe"),)
CLUSTER_MS = 1000

frames = st.builds(
    Frame,
    track=st.sampled_from((VIDEO, SOUND)),
    after_ms=st.integers(-1, CLUSTER_MS),
    is_key=st.booleans(),
    grouped=st.booleans(),
    payload=st.binary(max_size=40),
)


def read(stream: bytes, cuts: Sequence[int] = ()) -> tuple[Contents, bytes]:
    reader, clusters = WebmReader(), b""
    for start, end in pairwise((0, *sorted(cuts), len(stream))):
        clusters += reader.feed(stream[start:end])
    return reader.contents(), clusters


@given(st.lists(st.lists(frames, max_size=8), min_size=1, max_size=6), st.data())
def test_index_lists_every_keyframe_for_any_chunking(groups: list[list[Frame]], data: st.DataObject) -> None:
    written = [cluster(number * CLUSTER_MS, *group) for number, group in enumerate(groups)]
    stream = beginning(VIDEO, SOUND) + b"".join(written)

    contents, clusters = read(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))

    assert clusters == b"".join(written)
    assert contents.clusters_bytes == len(clusters)
    assert contents.cues == [
        Cue(max(0, number * CLUSTER_MS + frame.after_ms), VIDEO, sum(map(len, written[:number])))
        for number, group in enumerate(groups)
        for frame in group
        if frame.track == VIDEO and frame.is_key
    ]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(0, 45), st.booleans())
def test_head_fills_its_room_and_its_cues_point_to_keyframes(
    gops: list[int], cues_expected: int, has_chapters: bool
) -> None:
    written = [
        cluster(number * 500, *(Frame(after_ms=at * FRAME_MS, is_key=at == 0) for at in range(frames)))
        for number, frames in enumerate(gops)
    ]
    contents, clusters = read(beginning(VIDEO) + b"".join(written))
    chapters = CHAPTERS if has_chapters else ()
    room = room_for(contents, chapters, max(1, cues_expected))

    made = head(contents, chapters, room)

    assert len(made) == room
    index = index_of(made + clusters)
    for time_ms, position in index.cues:
        assert (time_ms, True) in index.clusters[position]
    times = [time for time, _ in index.cues]
    every = 1 if len(gops) <= max(1, cues_expected) else times[1] // 500 if len(times) > 1 else len(gops)
    assert times == [number * 500 for number in range(0, len(gops), every)]
    assert index_of(head(contents, chapters) + clusters).cues[0] == (0, len(head(contents, chapters)))


def test_audio_only_index_lists_each_cluster_once() -> None:
    sounds = [cluster(at, *(Frame(SOUND, after) for after in (0, 20, 40))) for at in (0, 5000)]

    contents, _ = read(beginning(SOUND) + b"".join(sounds))

    assert contents.cues == [Cue(0, SOUND, 0), Cue(5000, SOUND, len(sounds[0]))]
    assert contents.duration_ms == 5060


def test_duration_includes_the_last_frame() -> None:
    assert read(beginning(VIDEO) + cluster(0, Frame()))[0].duration_ms == FRAME_MS
    assert read(beginning(VIDEO) + cluster(100, Frame(grouped=True)))[0].duration_ms == 107


@pytest.mark.parametrize(
    "stream",
    [
        b"no webm",
        beginning(VIDEO).replace(b"\x16\x54\xae\x6b", b"\x12\x54\xc3\x67") + cluster(0, Frame()),
        beginning(SOUND) + cluster(0, Frame(VIDEO)),
        beginning(VIDEO) + element(CLUSTER, b"\x00"),
        beginning(VIDEO),
    ],
    ids=["letters", "no-tracks", "unknown-track", "garbage", "no-cluster"],
)
def test_rejects_streams_that_are_not_webm(stream: bytes) -> None:
    with pytest.raises(EbmlError):
        read(stream)


def test_head_needs_a_keyframe_and_room_for_its_cue() -> None:
    none, _ = read(beginning(VIDEO) + cluster(0, Frame(is_key=False)))
    one, _ = read(beginning(VIDEO) + cluster(0, Frame()))

    with pytest.raises(EbmlError, match="no keyframe"):
        head(none, ())
    with pytest.raises(EbmlError, match="no room"):
        head(one, CHAPTERS, room_for(one, (), 1))


@pytest.mark.parametrize(("order", "first"), [((CUES, CLUSTER), True), ((CLUSTER, CUES), False), ((), False)])
def test_index_must_come_before_the_media(order: tuple[int, ...], first: bool) -> None:
    body = b"".join(element(name, bytes(20)) for name in (0x114D9B74, *order))

    assert cues_come_first(element(0x1A45DFA3, bytes(4)) + element(SEGMENT, body)) is first


def test_file_that_is_not_webm_has_no_index() -> None:
    assert not cues_come_first(b"no webm")
