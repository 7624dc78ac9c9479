"""Pauses between attempts grow, are bounded, and differ between clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.backoff import JITTER, Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(1, 5, jitter=0)
    assert [backoff.pause_seconds(failures) for failures in range(6)] == [0, 1, 2, 4, 5, 5]


@given(st.integers(1, 10**9))
def test_pauses_stay_within_the_jitter_however_often_it_failed(failures: int) -> None:
    exact, jittered = Backoff(0.2, 30, jitter=0), Backoff(0.2, 30)
    pause = exact.pause_seconds(failures)
    assert pause <= jittered.pause_seconds(failures) <= pause * (1 + JITTER)


def test_pauses_of_two_clients_differ() -> None:
    backoff = Backoff(1, 5)
    assert len({backoff.pause_seconds(3) for _ in range(20)}) > 1


@pytest.mark.parametrize("failures", [1, 2, 50])
def test_a_short_longest_pause_limits_the_first(failures: int) -> None:
    assert Backoff(1, 0.25, jitter=0).pause_seconds(failures) == 0.25
