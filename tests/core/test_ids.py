"""Video ids sort by their time of creation."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.errors import InvalidId
from backend.core.ids import descending, new_id, parse_id, unix_ms_of

instants = st.integers(0, 2**48 - 1)
tails = st.integers(0, 2**74 - 1)


@given(unix_ms=instants, tail=tails)
def test_an_id_is_valid_and_contains_its_time(unix_ms: int, tail: int) -> None:
    video_id = new_id(unix_ms, tail)

    assert parse_id(video_id) == video_id
    assert unix_ms_of(video_id) == unix_ms


@given(earlier=instants, later=instants, tail=tails, other_tail=tails)
def test_ids_sort_by_time_and_inverted_ids_in_reverse(
    earlier: int, later: int, tail: int, other_tail: int
) -> None:
    earlier, later = sorted((earlier, later))
    first, second = new_id(earlier, tail), new_id(later, other_tail)

    assert earlier == later or first < second
    assert (descending(first) < descending(second)) == (second < first)


@given(unix_ms=instants, tail=tails)
def test_descending_is_its_own_inverse(unix_ms: int, tail: int) -> None:
    video_id = new_id(unix_ms, tail)

    assert descending(descending(video_id)) == video_id


def test_ids_made_at_the_same_time_differ() -> None:
    assert len({new_id(1) for _ in range(1000)}) == 1000


@given(st.text(max_size=60))
def test_rejects_any_other_text(text: str) -> None:
    with pytest.raises(InvalidId):
        parse_id(text)


@pytest.mark.parametrize(
    "change",
    [str.upper, "{{{}}}".format, "urn:uuid:{}".format, " {}".format, lambda text: text.replace("-", "")],
)
def test_rejects_other_spellings_of_an_id(change: Callable[[str], str]) -> None:
    with pytest.raises(InvalidId):
        parse_id(change("0192a4f0-1c00-7abc-8def-0123456789ab"))


def test_rejects_other_uuid_versions() -> None:
    with pytest.raises(InvalidId):
        parse_id("0192a4f0-1c00-4abc-8def-0123456789ab")
