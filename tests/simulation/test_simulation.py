"""No schedule of crashes, freezes, and lost, late or repeated calls breaks the protocol (docs/queue.md).

These tests explore a few hundred schedules; `python -m tests.simulation` explores more.
"""

import secrets
from collections import Counter

import pytest

from tests.simulation.faults import KINDS
from tests.simulation.schedule import ProtocolBroken, quiet_logs, run_schedule


@pytest.mark.parametrize("schedules", [60, pytest.param(250, marks=pytest.mark.heavy)])
def test_no_schedule_loses_mixes_or_leaves_objects(schedules: int) -> None:
    for _ in range(schedules):
        seed = secrets.randbelow(2**48)
        try:
            with quiet_logs():
                run_schedule(seed)
        except ProtocolBroken as broken:
            pytest.fail(f"{broken}; replay: python -m tests.simulation --seed {seed} --trace")


def test_a_seed_determines_the_schedule() -> None:
    def trace_of(seed: int) -> list[str]:
        lines: list[str] = []
        with quiet_logs():
            run_schedule(seed, trace=lines.append)
        return [line.partition(" -> ")[0] for line in lines]  # responses contain nonces

    assert trace_of(7) == trace_of(7)
    assert trace_of(7) != trace_of(8)


def test_schedules_cover_all_faults_and_outcomes() -> None:
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
