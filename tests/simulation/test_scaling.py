"""Workers share films well: in virtual time, with modelled times of encoding."""

import pytest

from tests.simulation.scaling import QUICK_LOOK, Film, run


@pytest.mark.heavy
def test_32_workers_on_one_film_of_four_hours_are_nearly_32_times_as_fast() -> None:
    film = Film(4 * 3600, QUICK_LOOK)

    (times,), _ = run([film], workers=32)

    assert film.work_seconds / times.done >= 0.85 * 32


def test_short_films_overtake_long_ones_and_nothing_starves() -> None:
    long, medium, short = Film(3600, QUICK_LOOK), Film(1200, QUICK_LOOK), Film(300, QUICK_LOOK)

    first, second, third, fourth = run([long, medium, short, short], workers=2)[0]

    assert third.done < second.done < first.done
    assert fourth.done < second.done
    assert max(first.gaps()) < 900  # the long one is helped all the time


def test_looks_come_before_the_chunks_of_other_films() -> None:
    films = [Film(1200, QUICK_LOOK, queued_after=60 * number) for number in range(4)]

    times = run(films, workers=2)[0]

    assert max(one.look_began - one.queued for one in times) < 10
