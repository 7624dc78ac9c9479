"""The look's plan: what is copied, and segments that are the same part of the film in every rendition."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.records import TranscodeOptions
from worker.encode.ladder import plan_encoding
from worker.encode.look_arguments import LookSource, look_arguments
from worker.encode.look_plan import LookPlan, plan_look
from worker.source.index.source_index import SourceIndex
from worker.source.media import AudioInfo, Colour, MediaInfo, VideoInfo

VIDEO = VideoInfo(
    index=0,
    display_width=1920,
    display_height=1080,
    codec="h264",
    pixel_format="yuv420p",
    base_fps=Fraction(30),
    average_fps=Fraction(30),
    end_seconds=60.0,
    profile="High",
    level=40,
    is_avc=True,
    progressive=True,
    as_coded=True,
)
AUDIO = AudioInfo(1, "aac", 2, 44_100, end_seconds=60.0, profile="LC")
MEDIA = MediaInfo("mov", 60.0, video=VIDEO, audio=(AUDIO,))
INDEX = SourceIndex(600, tuple(range(0, 36_000, 1200)))
SIZE_BYTES = 60_000_000


def look_of(media: MediaInfo, index: SourceIndex = INDEX, size_bytes: int = SIZE_BYTES) -> LookPlan | None:
    plan = plan_encoding(media, ("av1", "h264"), TranscodeOptions())
    return plan_look(media, index, plan, size_bytes, 4.0, cores=2)


def kinds_of(look: LookPlan | None) -> tuple[str, ...]:
    assert look is not None
    return (look.kind, *("copied" if one.copied else "encoded" for one in look.sound))


def test_streams_that_play_everywhere_are_copied() -> None:
    look = look_of(MEDIA)

    assert kinds_of(look) == ("copy", "copied")
    assert look is not None
    assert [one.name for one in look.renditions] == ["h264-1080p", "aac"]
    assert look.picture.starts == tuple(range(0, 36_000, 2400))


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": "hevc"},
        {"profile": "High 10"},
        {"is_avc": False},
        {"pixel_format": "yuv422p"},
        {"colour": Colour(full_range=True)},
        {"colour": Colour(transfer="smpte2084")},
        {"progressive": False},
        {"as_coded": False},
        {"rotation": 90},
        {"average_fps": Fraction(120)},
        {"display_width": 3840, "display_height": 2160},
        {"end_seconds": 50.0},
        {"end_seconds": None},
    ],
    ids=str,
)
def test_other_pictures_are_encoded(changes: dict[str, object]) -> None:
    media = replace(MEDIA, video=replace(VIDEO, **changes))  # type: ignore[arg-type]  # names and types are above

    assert kinds_of(look_of(media)) == ("quick", "copied")


@pytest.mark.parametrize(
    ("index", "size_bytes"),
    [
        (replace(INDEX, is_plain=False), SIZE_BYTES),
        (SourceIndex(600, (0, 600 * 20, 600 * 40)), SIZE_BYTES),
        (SourceIndex(600, (120, 2400)), SIZE_BYTES),
        (INDEX, 200_000_000),
    ],
    ids=["not plain", "far apart", "begins late", "high rate"],
)
def test_pictures_that_cannot_be_cut_well_are_encoded(index: SourceIndex, size_bytes: int) -> None:
    assert kinds_of(look_of(MEDIA, index, size_bytes)) == ("quick", "copied")


def test_segments_that_are_encoded_are_short() -> None:
    look = look_of(replace(MEDIA, video=replace(VIDEO, codec="hevc")))

    assert kinds_of(look) == ("quick", "copied")
    assert look is not None
    assert look.picture.durations == (1, *[2] * 29, 1)


@pytest.mark.parametrize(
    "changes",
    [{"codec": "ac3"}, {"profile": "HE-AAC"}, {"channels": 8}, {"start_seconds": 1.0}, {"end_seconds": 50.0}],
    ids=str,
)
def test_other_sound_is_encoded(changes: dict[str, object]) -> None:
    media = replace(MEDIA, audio=(replace(AUDIO, **changes),))  # type: ignore[arg-type]  # as above

    look = look_of(media)

    assert kinds_of(look) == ("copy", "encoded")
    assert look is not None
    assert look.sound[0].timescale == 48_000


@pytest.mark.parametrize(
    "media",
    [
        MediaInfo("mov", 60.0, audio=(AUDIO,)),
        replace(MEDIA, container="mpegts"),
        replace(MEDIA, duration_is_reliable=False),
        replace(MEDIA, duration_seconds=None),
    ],
    ids=["audio only", "not seekable", "no reliable length", "no length"],
)
def test_no_look(media: MediaInfo) -> None:
    assert look_of(media) is None


def test_frames_of_a_picture_too_heavy_to_decode_are_skipped() -> None:
    heavy = replace(VIDEO, codec="hevc", display_width=3840, display_height=2160)
    look = look_of(replace(MEDIA, video=heavy))

    assert look is not None
    assert look.skips_frames
    tracks = plan_encoding(MEDIA, ("h264",), TranscodeOptions()).audio
    source = LookSource("http://source", MEDIA, heavy, tracks)
    assert "noref" in look_arguments(Path("ffmpeg"), look, source, 3)


FILMS = st.builds(
    lambda seconds, fps, keyframes: (
        replace(
            MEDIA,
            duration_seconds=seconds,
            video=replace(VIDEO, end_seconds=seconds, base_fps=fps, average_fps=fps),
            audio=(replace(AUDIO, end_seconds=seconds), replace(AUDIO, codec="mp3", end_seconds=seconds)),
        ),
        SourceIndex(600, (0, *sorted(time for time in keyframes if 0 < time < 600 * seconds))),
    ),
    st.floats(0.2, 100.0).map(lambda seconds: round(seconds, 3)),
    st.sampled_from([Fraction(24), Fraction(30000, 1001), Fraction(25, 2), Fraction(60)]),
    st.sets(st.integers(1, 60_000)),
)


@given(FILMS)
def test_segments_are_the_same_part_in_every_rendition(
    film: tuple[MediaInfo, SourceIndex],
) -> None:
    look = look_of(*film)

    assert look is not None
    for one in look.renditions:
        assert len(one.starts) == look.segments
        assert all(seconds > 0 for seconds in one.durations)
        assert float(sum(one.durations)) == pytest.approx(film[0].duration_seconds, abs=0.05)
        for start, of_picture in zip(one.starts[1:], look.picture.starts[1:], strict=True):
            difference = Fraction(start, one.timescale) - Fraction(of_picture, look.picture.timescale)
            assert 0 <= difference < Fraction(1024, one.timescale)
