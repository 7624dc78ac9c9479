"""Grants and sessions: only signed tokens are accepted."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.ids import new_id
from backend.playback.grants import Grants
from backend.web.auth import Sessions

SECRET = "a-secret-for-tests"
VIDEO = new_id(1_800_000_000_000)
NOW = 1_800_000_000.0


def _grants(secret: str = SECRET, now: float = NOW) -> Grants:
    return Grants(secret, ttl_seconds=400, clock=lambda: now)


def test_grant_names_its_video_and_expires_on_time() -> None:
    token, issued = _grants().issue(VIDEO)
    assert _grants().read(token) == issued
    assert issued.video_id == VIDEO
    assert 300 < issued.expires_unix - NOW <= 400
    assert _grants(now=issued.expires_unix - 1).read(token) == issued
    assert _grants(now=issued.expires_unix).read(token) is None


def test_same_window_gives_the_same_token() -> None:
    assert _grants().issue(VIDEO) == _grants(now=NOW + 99).issue(VIDEO)
    assert _grants().issue(VIDEO) != _grants(now=NOW + 100).issue(VIDEO)


@given(st.integers(0, 51), st.integers(0, 7))
def test_rejects_any_flipped_bit(position: int, bit: int) -> None:
    token, _ = _grants().issue(VIDEO)
    flipped = bytearray(token.encode())
    flipped[position] ^= 1 << bit
    assert _grants().read(flipped.decode("latin-1")) is None


@given(st.text(max_size=80))
def test_rejects_arbitrary_text(text: str) -> None:
    assert _grants().read(text) is None


@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: t + "A", lambda t: t[:-1], lambda t: f" {t}"]
)
def test_rejects_other_spellings_of_a_token(change: Callable[[str], str]) -> None:
    token, _ = _grants().issue(VIDEO)
    assert _grants().read(change(token)) is None


def test_rejects_tokens_of_another_secret_or_purpose() -> None:
    token, _ = _grants().issue(VIDEO)
    assert _grants("another secret").read(token) is None
    assert not Sessions(SECRET, 300, lambda: NOW).is_valid(token)
    assert _grants().read(Sessions(SECRET, 300, lambda: NOW).issue()) is None
