"""Keyframes in MP4: sample tables give what their definition says, and hostile ones are refused."""

import struct
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.source.index.mp4 import keyframes_of
from worker.source.index.source_index import FrameTable, IndexUnusable, SourceIndex

TIMESCALE, MOVIE_TIMESCALE = 12_800, 1000
RUNS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 2000)), min_size=1, max_size=6)


def box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def table(kind: bytes, rows: list[tuple[int, ...]]) -> bytes:
    numbers = b"".join(struct.pack(">i", number) for row in rows for number in row)
    return box(kind, bytes(4), struct.pack(">I", len(rows)), numbers)


def moov(
    durations: list[tuple[int, int]],
    *,
    keyframes: list[int] | None = None,
    offsets: list[tuple[int, int]] | None = None,
    edits: list[tuple[int, int]] | None = None,
    entries: int = 1,
    before: bytes = b"",
    sizes: list[int] | None = None,
) -> bytes:
    """The content of a `moov`. `keyframes` count from 0; `edits` are durations and media times."""
    tables = [box(b"stsd", bytes(4), struct.pack(">I", entries)), table(b"stts", list(durations))]
    if keyframes is not None:
        tables.append(table(b"stss", [(number + 1,) for number in keyframes]))
    if offsets is not None:
        tables.append(table(b"ctts", list(offsets)))
    if sizes is not None:
        tables.append(box(b"stsz", bytes(8), struct.pack(f">{1 + len(sizes)}I", len(sizes), *sizes)))
    media = box(
        b"mdia",
        box(b"mdhd", bytes(12), struct.pack(">II", TIMESCALE, 0)),
        box(b"hdlr", bytes(8), b"vide"),
        box(b"minf", box(b"stbl", *tables)),
    )
    edited = b"" if edits is None else box(b"edts", table(b"elst", [(*edit, 1 << 16) for edit in edits]))
    movie = box(b"mvhd", bytes(12), struct.pack(">II", MOVIE_TIMESCALE, 0))
    return movie + before + box(b"trak", edited, media)


@given(RUNS, st.data())
def test_keyframes_are_shown_when_the_tables_say(runs: list[tuple[int, int]], data: st.DataObject) -> None:
    deltas = [delta for count, delta in runs for _ in range(count)]
    numbers = sorted(data.draw(st.sets(st.integers(0, len(deltas) - 1), min_size=1)))
    decoded = [0, *accumulate(deltas)]
    delay = data.draw(st.integers(0, 5000))

    index = keyframes_of(moov(runs, keyframes=numbers, offsets=[(len(deltas), delay)]), 0)

    assert index == SourceIndex(
        TIMESCALE, tuple(decoded[number] + delay for number in numbers), is_plain=numbers[0] == 0
    )


@given(RUNS, st.data())
def test_table_says_how_long_frames_last_and_how_large_groups_are(
    runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    deltas = [delta for count, delta in runs for _ in range(count)]
    numbers = sorted(data.draw(st.sets(st.integers(0, len(deltas) - 1), min_size=1)))
    sizes = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=len(deltas), max_size=len(deltas)))

    index = keyframes_of(moov(runs, keyframes=numbers, sizes=sizes), 0)

    if len(deltas) < 2:
        assert index.table is None
    else:
        groups = tuple(sum(sizes[one:end]) for one, end in pairwise((*numbers, len(sizes))))
        lasting = deltas[:-1]
        assert index.table == FrameTable(len(deltas), min(lasting), max(lasting), groups)


def test_sizes_of_other_frames_are_not_used() -> None:
    assert keyframes_of(moov([(4, 512)], sizes=[1, 2, 3]), 0).table is None


def test_without_a_table_every_frame_is_a_keyframe() -> None:
    assert keyframes_of(moov([(3, 512)]), 0).keyframes == (0, 512, 1024)


def test_edit_list_moves_the_film_to_its_start() -> None:
    index = keyframes_of(moov([(4, 512)], keyframes=[0, 2], offsets=[(4, 1024)], edits=[(160, 1024)]), 0)
    late = keyframes_of(moov([(4, 512)], keyframes=[0, 2], edits=[(500, -1), (160, 0)]), 0)

    assert index == SourceIndex(TIMESCALE, (0, 1024))
    assert late.keyframes == (6400, 7424)
    assert (
        keyframes_of(moov([(4, 512)], keyframes=[0, 2], edits=[(500, -1), (160, 0)]), 0, 0.5).keyframes[0]
        == 0
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(moov([(200, 512)], keyframes=[0], edits=[(4000, 0)]), id="the end is cut off"),
        pytest.param(moov([(200, 512)], keyframes=[0], entries=2), id="two configurations"),
        pytest.param(moov([(200, 512)], keyframes=[5]), id="begins without a keyframe"),
        pytest.param(
            moov([(4, 512)], keyframes=[0, 2], offsets=[(2, 1024), (1, 2048), (1, 0)]), id="open group"
        ),
    ],
)
def test_film_that_a_copy_would_change_is_not_plain(content: bytes) -> None:
    assert not keyframes_of(content, 0).is_plain


HOSTILE = {
    "several edits": moov([(4, 512)], edits=[(100, 0), (100, 1024)]),
    "empty": b"",
    "fragmented": moov([(4, 512)], before=box(b"mvex")),
    "box without a name": moov([(4, 512)]).replace(b"stbl", b"????"),
    "keyframe beyond the end": moov([(4, 512)], keyframes=[4]),
    "keyframe 0": moov([(4, 512)], keyframes=[-1]),
    "keyframes out of order": moov([(4, 512)], keyframes=[2, 1]),
    "no keyframes": moov([(4, 512)], keyframes=[]),
    "no frames": moov([]),
    "more frames than are looked up": moov([(2**31 - 1, 1)]),
    "box larger than the file": moov([(4, 512)]) + struct.pack(">I4s", 100, b"trak"),
    "huge count of sizes": moov([(4, 512)], sizes=[1] * 4).replace(
        struct.pack(">5I", 4, 1, 1, 1, 1), struct.pack(">5I", 2**32 - 1, 1, 1, 1, 1)
    ),
    "huge count": moov([(4, 512)]).replace(struct.pack(">II", 1, 4), struct.pack(">II", 2**32 - 1, 4)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_tables_are_refused(content: bytes) -> None:
    with pytest.raises(IndexUnusable):
        keyframes_of(content, 0)


@given(st.data())
def test_any_damage_is_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(
        moov([(40, 512)], keyframes=[0, 20], offsets=[(20, 1024), (20, 512)], edits=[(1600, 1024)])
    )
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.integers(0, len(whole)))]

    try:
        index = keyframes_of(bytes(cut), data.draw(st.integers(0, 1)))
    except IndexUnusable:
        return
    assert list(index.keyframes) == sorted(set(index.keyframes))
