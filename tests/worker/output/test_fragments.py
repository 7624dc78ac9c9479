"""Fragmented MP4 as ffmpeg writes it: read in pieces of any size, moved, cut into segments, or broken."""

import subprocess
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture, tone
from worker.encode.chunk_arguments import FILM_CLOCK, FILM_FRAGMENTS
from worker.encode.grid import SAMPLES_PER_AAC_FRAME
from worker.output.fragments import (
    Fragment,
    FragmentError,
    FragmentReader,
    PictureCutter,
    Segment,
    SoundCutter,
    config_of,
    moved,
)

FPS, RATE_HZ = 24, 48_000
SOUND_STARTS = tuple(range(0, 94, 24))
"""Of segments of half a second."""
B_FRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-g", "12", "-pix_fmt", "yuv420p")
SMALL_FRAGMENTS = ("-frag_duration", "100000")


@cache
def made(*arguments: str) -> bytes:
    argv = (TOOLS.ffmpeg, "-v", "error", *arguments, *FILM_FRAGMENTS, *SMALL_FRAGMENTS, "pipe:1")
    return subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout


@cache
def film(suffix: str) -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory, f"film{suffix}")
        ffmpeg(*picture(), *tone(), *B_FRAMES, "-c:a", "aac", str(path))
        return path.read_bytes()


@cache
def copied(suffix: str, stream: str, seek: float = 0) -> bytes:
    """Copy one stream of the film, from a place on, as a look does."""
    with TemporaryDirectory() as directory:
        path = Path(directory, f"film{suffix}")
        path.write_bytes(film(suffix))
        source = (*FILM_CLOCK, "-ss", str(seek), "-i", str(path))
        return made(*source, "-map", f"0:{stream}", "-c", "copy")


def encoded() -> bytes:
    return made(*picture("64x64"), *B_FRAMES)


def read(stream: bytes, cuts: Sequence[int] = ()) -> tuple[FragmentReader, list[Fragment]]:
    reader, found = FragmentReader(), []
    for start, end in pairwise((0, *sorted(cuts), len(stream))):
        found += reader.feed(stream[start:end])
    reader.finish()
    return reader, found


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_cuts_give_the_same_fragments(data: st.DataObject) -> None:
    stream = encoded()

    reader, found = read(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))

    assert [one.kind for one in found[:2]] == ["init", "media"]
    # behind the fragments ffmpeg writes an index
    assert stream.startswith(b"".join(one.body for one in found))
    assert sum(one.samples for one in found) == 2 * FPS
    config = config_of(found[0].body)
    assert reader.config == config
    assert (config.codec_string, config.width, config.height) == ("avc1.64000a", 64, 64)


def test_frames_are_described_as_they_are() -> None:
    reader, (_, *fragments) = read(encoded())

    tick = (reader.config.timescale if reader.config else 0) // FPS
    frames = [frame for one in fragments for frame in one.frames]
    assert {frame.duration for frame in frames} == {tick}
    assert [number for number, frame in enumerate(frames) if frame.is_key] == [0, 12, 24, 36]
    assert len({frame.offset for frame in frames}) > 1  # there are B-frames
    keys = [one.first_pts for one in fragments if one.frames[0].is_key]
    assert keys == [number * tick for number in (0, 12, 24, 36)]
    assert all(sum(frame.size for frame in one.frames) < len(one.body) for one in fragments)


@pytest.mark.parametrize(
    ("arguments", "codec"),
    [
        ((*picture("64x64"), "-c:v", "libsvtav1", "-preset", "12", "-frames:v", "2"), "av01.0.00M.08"),
        ((*tone(), "-c:a", "aac"), "mp4a.40.2"),
        ((*tone(), "-c:a", "libopus"), "Opus"),
    ],
)
def test_other_codecs_are_described(arguments: Sequence[str], codec: str) -> None:
    reader, _ = read(made(*arguments))

    assert reader.config is not None
    assert reader.config.codec_string == codec


def test_only_what_a_decoder_must_know_tells_configurations_apart() -> None:
    def digest(*arguments: str) -> str:
        config = read(made(*picture("64x64"), *arguments))[0].config
        assert config is not None
        return config.digest

    assert digest(*B_FRAMES) == digest(*B_FRAMES, "-threads", "3", "-frames:v", "5")
    assert digest(*B_FRAMES) != digest(*H264)
    assert digest(*B_FRAMES) != digest(*B_FRAMES, "-video_track_timescale", "90000")


@settings(deadline=None)
@given(st.integers(-(2**40), 2**40))
def test_a_moved_fragment_begins_where_it_should(first_pts: int) -> None:
    _, (init, *fragments) = read(encoded())

    for fragment in fragments[:3]:
        _, (_, again) = read(init.body + moved(fragment, first_pts))

        assert again.first_pts == first_pts
        assert again.frames == fragment.frames


def cut(cutter: PictureCutter | SoundCutter, stream: bytes) -> list[Segment]:
    _, (_, *fragments) = read(stream)
    return [*(segment for one in fragments for segment in cutter.feed(one)), *cutter.finish()]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_cut_alike_wherever_reading_began(suffix: str) -> None:
    whole = cut(SoundCutter(SOUND_STARTS), copied(suffix, "a"))
    init = read(copied(suffix, "a"))[1][0].body

    assert [segment.number for segment in whole] == list(range(len(SOUND_STARTS)))
    _, (_, *again) = read(init + b"".join(segment.body for segment in whole))
    assert [one.first_pts // SAMPLES_PER_AAC_FRAME for one in again] == list(SOUND_STARTS)
    for number, seek in ((1, 0.2), (3, 1.1)):
        part = cut(SoundCutter(SOUND_STARTS, number), copied(suffix, "a", seek))
        assert part == whole[number:]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_groups_of_pictures_become_segments_wherever_reading_began(suffix: str) -> None:
    reader, (init, *fragments) = read(copied(suffix, "v"))
    assert reader.config is not None
    starts = [number * reader.config.timescale for number in (0, 1)]
    starts[1] = next(
        one.first_pts for one in fragments if one.frames[0].is_key and one.first_pts >= starts[1]
    )

    whole = cut(PictureCutter(starts), copied(suffix, "v"))
    part = cut(PictureCutter(starts, 1), copied(suffix, "v", 1.05))

    assert [segment.number for segment in whole] == [0, 1]
    frames = [read(init.body + segment.body)[1][1:] for segment in (*whole, *part)]
    assert sum(one.samples for ones in frames[:2] for one in ones) == 2 * FPS
    assert [segment.number for segment in part] == [1]
    assert [one.frames for one in frames[1]] == [one.frames for one in frames[2]]


@pytest.mark.parametrize(("constant_rate", "done"), [(False, [0, 0, 1, 0]), (True, [0, 1, 0, 0])])
def test_at_a_constant_rate_a_segment_is_known_to_be_whole_at_its_end(
    constant_rate: bool, done: list[int]
) -> None:
    argv = (TOOLS.ffmpeg, "-v", "error", *picture("64x64"), *B_FRAMES, *FILM_FRAGMENTS, "pipe:1")
    stream = subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout
    _, (_, *groups) = read(stream)
    cutter = PictureCutter((0, groups[2].first_pts), constant_rate=constant_rate)

    cut = [cutter.feed(one) for one in groups]

    assert [len(segments) for segments in cut] == done
    whole = [*(segment for segments in cut for segment in segments), *cutter.finish()]
    assert b"".join(segment.body for segment in whole) == b"".join(one.body for one in groups)


def test_a_segment_that_does_not_begin_at_its_keyframe_is_noticed() -> None:
    cutter = PictureCutter((0, 5000), 0)
    _, (_, *fragments) = read(encoded())

    with pytest.raises(FragmentError, match="segment 1"):
        [cutter.feed(one) for one in fragments]


def test_sound_that_is_missing_is_noticed() -> None:
    cutter = SoundCutter(SOUND_STARTS)
    _, (_, *fragments) = read(copied(".mp4", "a"))
    cutter.feed(fragments[0])

    with pytest.raises(FragmentError, match="no sound for segment 1"):
        cutter.feed(fragments[-1])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_broken_stream_is_an_error_or_fragments_but_nothing_else(data: st.DataObject) -> None:
    stream = bytearray(encoded()[:4000])
    for at in data.draw(st.lists(st.integers(0, 1200), min_size=1, max_size=4)):
        stream[at] = data.draw(st.integers(0, 255))
    reader = FragmentReader()

    try:
        found = reader.feed(bytes(stream))
    except FragmentError:
        return
    assert all(len(one.frames) <= len(one.body) for one in found)


def test_a_stream_that_ends_too_early_is_an_error() -> None:
    for length in (0, 100, 1000, 2000):
        with pytest.raises(FragmentError):
            read(encoded()[:length])


def test_what_is_too_large_is_not_collected() -> None:
    reader = FragmentReader(max_bytes=1000)
    _, (init, *_) = read(encoded())
    reader.feed(init.body)

    with pytest.raises(FragmentError, match="2000 bytes"):
        reader.feed((2000).to_bytes(4, "big") + b"moof")
