"""How durations and sizes are formatted."""

import pytest

from vodbucket.output.tables import duration, size


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3 * 86_400 + 4 * 3600 + 59, "3 d 4 h"),
        (86_400 + 30, "1 d"),
    ],
)
def test_duration_has_at_most_two_units(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@pytest.mark.parametrize(
    ("size_bytes", "written"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**3, "5.0 GiB"), (3 * 1024**4, "3.0 TiB")],
)
def test_size_has_binary_units(size_bytes: int, written: str) -> None:
    assert size(size_bytes) == written
