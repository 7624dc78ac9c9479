"""Seek previews: how many tiles there are, and where WebVTT places them."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.records import TranscodeOptions
from worker.encode.ladder import plan_encoding
from worker.encode.storyboard import MAX_TILES, TILES_PER_SHEET, Storyboard, storyboard_of
from worker.source.media import MediaInfo, VideoInfo

CUE = re.compile(
    r"(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})\n(\d{3})\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)\n"
)


def storyboard(seconds: float | None, width: int = 1920, height: int = 1080, fps: str = "25") -> Storyboard:
    video = VideoInfo(0, width, height, "h264", "yuv420p", Fraction(fps), Fraction(fps))
    media = MediaInfo("mov", seconds, video=video)
    board = storyboard_of(plan_encoding(media, ("h264",), TranscodeOptions()), media)
    assert board is not None
    return board


@pytest.mark.parametrize(("seconds", "interval"), [(5.0, 2), (1000.0, 2), (2000.0, 4), (None, 10)])
def test_tiles_are_two_seconds_apart_or_more_in_long_videos(seconds: float | None, interval: int) -> None:
    assert storyboard(seconds).interval_seconds == interval


def test_tiles_have_the_aspect_of_the_video() -> None:
    assert (storyboard(5).width, storyboard(5).height) == (160, 90)
    assert (storyboard(5, 1080, 1920).width, storyboard(5, 1080, 1920).height) == (90, 160)


def test_audio_only_has_no_storyboard() -> None:
    media = MediaInfo("mp3", 5.0)

    assert storyboard_of(plan_encoding(media, ("h264",), TranscodeOptions()), media) is None


@settings(deadline=None)
@given(seconds=st.floats(0.04, 24 * 3600), fps=st.sampled_from(["24000/1001", "25", "60"]))
def test_cues_cover_the_duration_and_stay_within_their_sheets(seconds: float, fps: str) -> None:
    board = storyboard(seconds, fps=fps)
    tiles = board.tiles(seconds)

    cues = CUE.findall(board.webvtt(seconds, sheets=-(-tiles // TILES_PER_SHEET)))

    assert 1 <= len(cues) == tiles <= MAX_TILES
    assert [cue[0] for cue in cues[1:]] == [cue[1] for cue in cues[:-1]]
    assert cues[0][0] == "00:00:00.000"
    assert {(int(x) // 160, int(y) // 90) for *_, x, y, _, _ in cues[:11]} <= {
        (n % 10, n // 10) for n in range(11)
    }
    assert int(cues[-1][2]) == -(-tiles // TILES_PER_SHEET)


def test_no_cue_names_a_missing_sheet() -> None:
    assert "002.jpg" not in storyboard(500.0).webvtt(500.0, sheets=1)
