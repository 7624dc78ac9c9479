"""Every deliberate break of the protocol is caught by the invariant that is meant to catch it."""

import re

import pytest

from tests.simulation.fetch_mutants import FETCH_MUTANTS
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.schedule import ProtocolBroken, quiet_logs, run_schedule
from tests.simulation.unit_mutants import UNIT_MUTANTS

MAX_SCHEDULES = 3000
RARELY_CAUGHT = {
    "no second look at the marker",
    "doubtful end forgotten",
    "uploads of others spared",
}
"""It takes seconds until a schedule shows it."""


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.name, marks=[pytest.mark.heavy] * (mutant.name in RARELY_CAUGHT))
        for mutant in MUTANTS + UNIT_MUTANTS + FETCH_MUTANTS
    ],
)
def test_detects_broken_protocol(mutant: Mutant) -> None:
    with quiet_logs():
        for seed in range(MAX_SCHEDULES):
            try:
                run_schedule(seed, mutant.protocol)
            except ProtocolBroken as broken:
                if re.search(mutant.caught_by, str(broken)):
                    return
    pytest.fail(f"not caught in {MAX_SCHEDULES} schedules")
