"""Where segments and chunks begin: every frame is in one chunk, and every segment begins at a keyframe."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.encode.grid import (
    FEWEST_FRAMES,
    MAX_CHUNKS,
    chunk_seconds,
    chunks_of,
    copied_seek_seconds,
    copy_starts,
    held_frames,
    seconds_of,
    seek_seconds,
    segment_starts,
    total_frames,
)
from worker.source.index.source_index import SourceIndex
from worker.source.media import MediaInfo, VideoInfo

RATES = st.sampled_from([Fraction(rate) for rate in ("1", "10", "24000/1001", "25", "30000/1001", "60")])
FRAMES = st.integers(1, 5_000)
SEGMENTS = st.sampled_from((0.1, 0.5, 1.0, 2.002, 4.0, 6.0))
INDEX = SourceIndex(1000, tuple(range(0, 20_000_000, 2000)))
FILM = VideoInfo(0, 320, 180, "h264", "yuv420p", Fraction(24), Fraction(24), end_seconds=8.0)


@settings(deadline=None)
@given(RATES, FRAMES, SEGMENTS)
@example(Fraction(30000, 1001), 1, 4.0)
def test_each_segment_begins_at_the_first_frame_of_its_slot(
    fps: Fraction, frames: int, seconds: float
) -> None:
    starts = segment_starts(fps, frames, seconds)

    slot = Fraction(str(seconds)) * fps
    in_slots = {frame * slot.denominator // slot.numerator: frame for frame in reversed(range(frames))}
    assert list(starts) == sorted(in_slots.values())


@settings(deadline=None)
@given(RATES, FRAMES, SEGMENTS, st.floats(0.5, 300), st.floats(0, 1))
def test_chunks_are_all_frames_once_in_whole_segments(
    fps: Fraction, frames: int, segment: float, chunk: float, share_held: float
) -> None:
    held = int(frames * share_held)
    chunks = chunks_of(fps, frames, segment, chunk, held, INDEX)

    assert [one.number for one in chunks] == list(range(len(chunks)))
    assert [one.is_last for one in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [one.first_frame for one in chunks[1:]] == [one.first_frame + one.frames for one in chunks[:-1]]
    assert sum(one.frames for one in chunks) == frames
    starts = [one.first_frame + keyframe for one in chunks for keyframe in one.keyframes]
    assert starts == list(segment_starts(fps, frames, segment))
    assert all(one.keyframes[0] == 0 for one in chunks)
    # the picture is still there when the last chunk begins
    assert len(chunks) == 1 or chunks[-1].first_frame + max(fps, FEWEST_FRAMES) <= frames - held
    assert len(chunks) == 1 or min(one.frames for one in chunks) > FEWEST_FRAMES // 2
    assert len(chunks) <= MAX_CHUNKS
    assert all(one.seek_seconds <= max(0, one.first_frame / fps - 1 + Fraction("0.14")) for one in chunks)


@settings(deadline=None)
@given(st.lists(st.integers(FEWEST_FRAMES, 288), min_size=1, max_size=60), st.floats(0.5, 300))
def test_chunks_beside_a_copied_rung_have_its_segments(gaps: list[int], chunk: float) -> None:
    fps, frames = Fraction(24), sum(gaps)
    index = SourceIndex(24_000, tuple(1000 * (sum(gaps[:number])) for number in range(len(gaps))))

    chunks = chunks_of(fps, frames, 4.0, chunk, 0, index, as_copied=True)

    starts = [one.first_frame + keyframe for one in chunks for keyframe in one.keyframes]
    assert starts == [time // 1000 for time in copy_starts(index.keyframes, index.timescale, 4.0)]
    assert sum(one.frames for one in chunks) == frames
    assert all(one.keyframes[0] == 0 for one in chunks)


@settings(deadline=None)
@given(RATES, st.integers(200, 5_000), st.floats(16, 24))
def test_short_chunks_are_equally_long_up_to_a_segment(fps: Fraction, frames: int, seconds: float) -> None:
    sizes = [len(one.keyframes) for one in chunks_of(fps, frames, 4.0, seconds, 0, INDEX)]

    assert max(sizes[:-1], default=0) - min(sizes[:-1], default=0) <= 1
    # the last one may have been joined by what would be too short
    assert sizes[-1] >= min(sizes[:-1], default=1) - 1


def test_the_last_chunks_of_a_long_film_are_shorter_so_that_many_workers_finish_together() -> None:
    sizes = [4 * len(one.keyframes) for one in chunks_of(Fraction(25), 3600 * 25, 4.0, 60, 0, INDEX)]

    assert set(sizes[:40]) == {60, 64}
    assert set(sizes[-10:]) <= {20, 24, 28}
    assert all(after <= before + 4 for before, after in pairwise(sizes))


@pytest.mark.parametrize(
    ("film", "longest", "expected"),
    [(10, 60, 10), (17, 60, 17), (30, 60, 15), (60, 60, 15), (400, 60, 25), (3600, 60, 60), (30, 2, 2)],
)
def test_chunks_of_short_films_are_short(film: float, longest: float, expected: float) -> None:
    assert chunk_seconds(film, longest) == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, unique=True).map(sorted))
def test_a_copied_segment_begins_at_the_first_keyframe_of_its_slot(keyframes: list[int]) -> None:
    starts = copy_starts(keyframes, 90, 4.0)

    assert starts[0] == keyframes[0]
    assert set(starts) <= set(keyframes)
    assert [start // 360 for start in starts] == sorted({keyframe // 360 for keyframe in keyframes})


def test_a_copied_film_without_keyframes_for_long_has_long_segments() -> None:
    assert copy_starts([0, 10_400, 11_900, 15_750, 23_000], 1000, 4.0) == (0, 10_400, 15_750, 23_000)


def test_the_picture_is_counted_with_what_it_is_held() -> None:
    media = MediaInfo("mov", 10.0, video=FILM)

    assert (total_frames(media, Fraction(24)), held_frames(media, Fraction(24))) == (240, 48)
    with pytest.raises(ValueError, match="unknown"):
        total_frames(replace(media, duration_seconds=None), Fraction(24))


def test_a_chunk_is_decoded_from_the_last_keyframe_but_one() -> None:
    index = SourceIndex(90_000, tuple(90_000 * second for second in (0, 2, 4, 30)))

    assert seek_seconds(index, Fraction(0)) == seek_seconds(index, Fraction(4)) == 0
    # a second is decoded in any case
    assert seek_seconds(index, Fraction(5)) == pytest.approx(2.14)
    assert seek_seconds(index, Fraction(30)) == pytest.approx(2.14)
    assert seek_seconds(index, Fraction(31)) == pytest.approx(4.14)


def test_a_chunk_beside_a_copied_rung_is_decoded_from_its_own_keyframe() -> None:
    index = SourceIndex(1000, (0, 4000, 9000, 10_000, 11_000, 20_000))

    assert copied_seek_seconds(index, 0, Fraction(24)) == 0
    assert copied_seek_seconds(index, 4000, Fraction(24)) == pytest.approx(4.14)
    assert copied_seek_seconds(index, 20_000, Fraction(24)) == pytest.approx(20.14)
    # ffmpeg might find the keyframe after it
    assert copied_seek_seconds(index, 10_000, Fraction(24)) == pytest.approx(4.14)
    assert copied_seek_seconds(index, 4000, Fraction(2)) == 0


def test_a_look_is_decoded_from_the_last_keyframe_that_is_not_too_close() -> None:
    index = SourceIndex(90_000, tuple(90_000 * second for second in (0, 2, 4, 30)))

    found = [seek_seconds(index, Fraction(start), quick=True) for start in ("0", "2.05", "2.1", "30", "31")]

    assert found == pytest.approx([0, 0, 2.14, 4.14, 30.14])


@given(RATES, st.integers(0, 10_000_000))
def test_microseconds_of_a_frame_are_not_after_it(fps: Fraction, frame: int) -> None:
    assert frame - Fraction(1, 1000) < Fraction(seconds_of(frame, fps)) * fps <= frame
