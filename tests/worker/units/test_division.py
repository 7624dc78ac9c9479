"""What becomes of a claimed join that cannot be done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.ids import new_id
from backend.core.jobs.leases import Claim
from backend.core.jobs.unit_view import UnitView
from backend.core.records import Job, Lease, UnitPlan
from worker.units.division import Capacity, Division
from worker.units.planner import Whole

VIDEO = new_id()
JOB = Job(
    id=VIDEO, request=VIDEO, source=keys.upload(VIDEO), source_size_bytes=1, created_at=datetime.now(UTC)
)
PLAN = UnitPlan(
    request=JOB.request, number=0, chunks=1, look="l0-aa", work="r0-0-bb", encoder="e", details="{}"
)


@dataclass
class Queue:
    """Notes how a claim was given back."""

    given_back: list[object] = field(default_factory=list)

    async def park(self, claim: Claim, plan: UnitPlan) -> UnitPlan:
        self.given_back.append(plan)
        return plan

    async def release(self, claim: Claim, **how: object) -> None:
        self.given_back.append(how)


class Units:
    async def view(self, job: Job) -> UnitView:
        return UnitView(job, PLAN, {}, timedelta())


@dataclass(frozen=True)
class Failing:
    code: str

    async def run(self, *_: object) -> Mapping[str, object]:
        raise AttemptFailed("It cannot be joined.", code=self.code)


@dataclass(frozen=True)
class Planner:
    may_divide: bool

    async def run(self, job: Job, number: int, look: str, token: str) -> UnitPlan | Whole:
        return PLAN.replace(number=number, look=look) if self.may_divide else Whole(False, cast(Any, None))


@pytest.mark.parametrize(
    ("code", "may_divide", "expected"),
    [
        ("unlike_copy", True, PLAN.replace(number=1)),
        ("unlike_copy", False, {"retry_after_seconds": 0, "whole": True}),
        ("unlike_chunks", True, {"retry_after_seconds": 0, "whole": True}),
    ],
)
async def test_video_is_planned_again_without_a_copy_or_done_as_a_whole(
    code: str, expected: object, *, may_divide: bool
) -> None:
    queue, told = Queue(), list[UnitPlan]()

    async def on_plan(job: Job, plan: UnitPlan) -> None:
        told.append(plan)

    parts = (cast(Any, part) for part in (queue, Units(), None, Planner(may_divide), Failing(code)))
    division = Division(*parts, encoder="e", capacity=Capacity(1), on_plan=on_plan)
    claim = Claim(Lease(job=JOB, owner="test", run="r0-1-cc", attempt=1, plan=0), 1)

    give_back = await division.run(claim, lambda progress: None)
    assert callable(give_back)
    await give_back()

    assert queue.given_back == [expected]
    assert told == [expected] * isinstance(expected, UnitPlan)
