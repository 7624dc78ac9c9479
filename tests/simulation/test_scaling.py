"""Workers share films well: in virtual time, with modelled times of encoding."""

import pytest

from tests.simulation.scaling import Film, run

pytestmark = pytest.mark.heavy


def test_32_workers_on_one_film_of_four_hours_are_nearly_32_times_as_fast() -> None:
    film = Film(4 * 3600)

    (times,), _ = run([film], workers=32)

    assert film.work_seconds / times.done >= 0.85 * 32


def test_looks_come_first_then_short_films_and_none_starves() -> None:
    films = [
        Film(1800),
        Film(400, queued_after=100),
        Film(100, queued_after=200),
        Film(100, queued_after=210),
    ]

    times = run(films, workers=2)[0]
    long, medium, *short = times

    assert max(one.look_began - one.queued for one in times) < 10
    assert max(one.done for one in short) < medium.done < long.done
    assert max(long.gaps()) < 600  # while chunks of 112 s each are being encoded
