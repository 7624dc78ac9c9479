"""How long a source may be, given the duration it claims and its size."""

from dataclasses import replace

import pytest

from backend.core.errors import SourceRejected
from worker.sandbox.guards import MAX_DURATION_SECONDS
from worker.source.duration_limits import (
    MAX_STRAY_FRAMES,
    StreamEnd,
    check_claimed_duration,
    check_encoded_duration,
    max_encoded_seconds,
)
from worker.source.media import AudioInfo, MediaInfo

HOUR = 3600.0


def media(seconds: float | None, *, sure: bool = True) -> MediaInfo:
    return MediaInfo(container="matroska", duration_seconds=seconds, duration_is_reliable=sure)


def test_encoders_stop_soon_after_the_indexed_duration() -> None:
    assert 100 < max_encoded_seconds(media(100), source_bytes=10**9) < 130


@pytest.mark.parametrize("seconds", [None, 100.0])
def test_size_limits_the_duration_without_an_index(seconds: float | None) -> None:
    unsure = media(seconds, sure=False)

    assert max_encoded_seconds(unsure, source_bytes=100_000) < 4 * HOUR
    assert max_encoded_seconds(unsure, source_bytes=10**12) == MAX_DURATION_SECONDS


@pytest.mark.parametrize(
    ("seconds", "source_bytes", "code"),
    [
        (25 * HOUR, 10**10, "video_too_long"),
        (20 * HOUR, 100_000, "duration_mismatch"),
        (20 * HOUR, 10**7, None),
        (0.9 * HOUR, 1_000, None),
        (None, 1_000, None),
    ],
)
def test_rejects_a_duration_too_long_for_the_size(
    seconds: float | None, source_bytes: int, code: str | None
) -> None:
    found = None
    try:
        check_claimed_duration(media(seconds), source_bytes)
    except SourceRejected as refused:
        found = refused.failure_code

    assert found == code


def test_rejects_audio_that_starts_hours_late() -> None:
    track = AudioInfo(1, "aac", 2, start_seconds=10 * HOUR)

    with pytest.raises(SourceRejected, match=r"its audio starts only after 10\.0 hours"):
        check_claimed_duration(replace(media(11 * HOUR), audio=(track,)), 10**9)


@pytest.mark.parametrize(
    ("longest", "code"), [(100.0, "duration_mismatch"), (float(MAX_DURATION_SECONDS), "video_too_long")]
)
def test_stops_a_source_that_exceeds_its_duration(longest: float, code: str) -> None:
    check_encoded_duration(longest, longest)
    with pytest.raises(SourceRejected) as refused:
        check_encoded_duration(longest + 1, longest)

    assert refused.value.failure_code == code


def end_of(*seconds: float) -> float | None:
    end = StreamEnd(expected_seconds=10)
    for each in seconds:
        end.add(each)
    return end.seconds


def test_stray_timestamp_does_not_move_the_end() -> None:
    assert end_of(9, 9.5, 60_000, 10) == 10
    assert end_of(60_000, 9.9) == 9.9
    assert end_of(60_000) is None


def test_many_late_timestamps_are_a_gap() -> None:
    assert end_of(9, *(60_000 + index for index in range(MAX_STRAY_FRAMES + 1))) == 60_000 + MAX_STRAY_FRAMES


def test_end_is_the_latest_of_unordered_packets() -> None:
    assert end_of(9.0, 9.2, 9.1) == 9.2
