"""No schedule of crashes, freezes, lost, late and repeated calls breaks the protocol (docs/queue.md).

This is what every run of the suite can afford; `python -m tests.simulation` explores further.
"""

from collections import Counter

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.simulation.faults import KINDS
from tests.simulation.schedule import ProtocolBroken, quiet_logs, run_schedule


@settings(
    max_examples=400,
    deadline=None,
    database=None,
    # A smaller seed is not a simpler schedule.
    phases=[Phase.generate],
)
@given(seed=st.integers(0, 2**48))
def test_no_schedule_loses_mixes_or_leaves_anything(seed: int) -> None:
    try:
        with quiet_logs():
            run_schedule(seed)
    except ProtocolBroken as broken:
        pytest.fail(f"{broken}; replay: python -m tests.simulation --seed {seed} --trace")


def test_a_seed_is_one_schedule() -> None:
    def trace_of(seed: int) -> list[str]:
        lines: list[str] = []
        with quiet_logs():
            run_schedule(seed, trace=lines.append)
        return [line.partition(" -> ")[0] for line in lines]  # answers hold nonces

    assert trace_of(7) == trace_of(7)
    assert trace_of(7) != trace_of(8)


def test_schedules_cover_every_kind_of_event() -> None:
    events: Counter[str] = Counter()
    with quiet_logs():
        for seed in range(150):
            events.update(run_schedule(seed).events)

    assert {f"fault: {kind.name.lower()}" for kind in KINDS} <= events.keys()
    for what in ("done", "failed", "deleted", "acknowledged"):
        assert events[f"videos {what}"] > 10
    assert events["take-overs"] > 10
    assert events["retries by people"] > 0
    assert events["uploads not acknowledged"] > 0
