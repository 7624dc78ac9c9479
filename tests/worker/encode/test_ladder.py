"""The ladder: which rungs a video gets, and at which frame rate."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.errors import MachineFault
from backend.core.records import MIN_SIDE, TranscodeOptions
from backend.core.settings import RUNGS
from worker.encode.ladder import Rung, frame_rate, is_small, plan_encoding, rungs_of
from worker.encode.video_encoders import X264_PRESETS
from worker.source.media import AudioInfo, MediaInfo, VideoInfo


def video(width: int = 1920, height: int = 1080, base: str = "24", average: str = "24") -> VideoInfo:
    return VideoInfo(0, width, height, "h264", "yuv420p", Fraction(base), Fraction(average))


def media(picture: VideoInfo | None, *, audio: bool = True) -> MediaInfo:
    sound = (AudioInfo(1, "aac", 2, 48000),) if audio else ()
    return MediaInfo("mov", 10.0, video=picture, audio=sound)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1920, 1080, [(640, 360), (1280, 720), (1920, 1080)]),
        (1080, 1920, [(360, 640), (720, 1280), (1080, 1920)]),
        (3840, 2160, [(640, 360), (1280, 720), (1920, 1080)]),
        (1280, 720, [(640, 360), (1280, 720)]),
        (854, 480, [(640, 360), (854, 480)]),
        (576, 720, [(360, 450), (576, 720)]),
        (1600, 900, [(640, 360), (1280, 720), (1600, 900)]),
        (1920, 800, [(864, 360), (1728, 720), (1920, 800)]),
        (1920, 1088, [(634, 360), (1270, 720), (1904, 1080)]),
        (640, 384, [(600, 360)]),
        (320, 180, [(320, 180)]),
        (321, 181, [(320, 180)]),
    ],
)
def test_video_gets_the_rungs_that_fit(width: int, height: int, expected: list[tuple[int, int]]) -> None:
    assert [(rung.width, rung.height) for rung in rungs_of(width, height)] == expected


def test_larger_rungs_are_made_when_asked_for() -> None:
    labels = [rung.label for rung in rungs_of(3840, 2000, (*RUNGS, 1440, 2160))]

    assert labels == ["360p", "720p", "1080p", "1440p", "2000p"]


@given(
    width=st.integers(MIN_SIDE, 8192),
    height=st.integers(MIN_SIDE, 8192),
    halves=st.sets(st.integers(MIN_SIDE // 2, 2160), min_size=1),
)
def test_rungs_are_even_never_upscaled_and_keep_their_aspect(
    width: int, height: int, halves: set[int]
) -> None:
    rungs = rungs_of(width, height, tuple(2 * half for half in sorted(halves)))

    assert rungs
    assert len({rung.label for rung in rungs}) == len(rungs)
    for rung in rungs:
        assert rung.width % 2 == rung.height % 2 == 0
        assert rung.width <= max(width, MIN_SIDE)
        assert rung.height <= max(height, MIN_SIDE)
        assert (rung.width >= rung.height) == (width >= height) or abs(rung.width - rung.height) <= 2
    assert [min(rung.width, rung.height) for rung in rungs] == sorted(
        {min(rung.width, rung.height) for rung in rungs}
    )


@pytest.mark.parametrize(
    ("base", "average", "expected"),
    [
        ("24000/1001", "24000/1001", "24000/1001"),
        ("60", "60", "60"),
        ("120", "120", "60"),
        ("100", "100", "50"),
        ("144", "144", "48"),
        ("90000", "29", "30000/1001"),
        ("1000", "58", "60000/1001"),
        ("1000", "400", "60"),
    ],
)
def test_keeps_frame_rates_up_to_sixty(base: str, average: str, expected: str) -> None:
    assert frame_rate(video(base=base, average=average)) == Fraction(expected)


@given(base=st.fractions(Fraction(1, 100), 100_000), average=st.fractions(Fraction(1, 100), 100_000))
def test_no_frame_rate_is_above_sixty(base: Fraction, average: Fraction) -> None:
    assert 0 < frame_rate(video(base=str(base), average=str(average))) <= 60


def test_small_is_what_takes_seconds_to_encode_whatever_rates_the_file_names() -> None:
    rates = [(Fraction(24), Fraction(24)), (None, Fraction(24)), (Fraction(24), None), (None, None)]
    large, small = (
        [replace(picture, base_fps=base, average_fps=average) for base, average in rates]
        for picture in (video(), video(320, 180))
    )

    assert all(is_small(media(picture)) for picture in small)
    assert not any(is_small(media(picture)) for picture in large)
    assert not is_small(replace(media(small[0]), duration_seconds=None))


def test_plans_every_rung_in_every_codec_with_the_top_av1_as_webm() -> None:
    plan = plan_encoding(media(video()), ("av1", "h264"), TranscodeOptions())

    assert plan.qualities == ("360p", "720p", "1080p")
    assert set(plan.names) == {
        *(f"{codec}-{label}" for codec in ("av1", "h264") for label in plan.qualities),
        "aac",
    }
    assert plan.webm_video is not None
    assert plan.webm_video.name == "av1-1080p"


def test_encodes_one_av1_stream_for_the_webm_if_the_ladder_has_none() -> None:
    plan = plan_encoding(media(video(), audio=False), ("h264",), TranscodeOptions())

    assert plan.names == ("h264-360p", "h264-720p", "h264-1080p")
    assert plan.webm_video is not None
    assert plan.webm_video.rung == Rung(1920, 1080)


def test_job_options_apply_to_av1_only() -> None:
    plan = plan_encoding(media(video()), ("av1", "h264"), TranscodeOptions(crf=0, cpu_used=3))

    assert {(stream.crf, stream.preset) for stream in plan.video if stream.codec == "av1"} == {(0, 3)}
    assert all(stream.crf > 0 for stream in plan.video if stream.codec == "h264")


def test_h264_uses_a_slower_preset_for_small_rungs() -> None:
    plan = plan_encoding(media(video()), ("h264",), TranscodeOptions())

    presets = {stream.rung.label: X264_PRESETS[stream.preset] for stream in plan.packaged_video}
    assert presets == {"360p": "faster", "720p": "faster", "1080p": "veryfast"}


def test_a_job_may_choose_codecs_and_rungs() -> None:
    options = TranscodeOptions(codecs=("h264",), rungs=(480, 240))

    plan = plan_encoding(media(video()), ("av1", "h264"), options)

    assert [stream.codec for stream in plan.packaged_video] == ["h264"] * len(plan.packaged_video)
    assert [min(stream.rung.width, stream.rung.height) for stream in plan.packaged_video][:2] == [240, 480]
    assert plan.fits_mp4
    assert not plan_encoding(media(video()), ("av1", "h264"), TranscodeOptions(codecs=("av1",))).fits_mp4
    with pytest.raises(MachineFault):
        plan_encoding(media(video()), ("av1",), options)
