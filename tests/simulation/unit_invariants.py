"""Invariants of units after every change of the buckets.

`UnitLedger` belongs to a `Ledger`, which tells it what it needs to know about the request.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from backend.core import keys
from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import Outputs, StatusError, read_outcome
from backend.core.unit_records import UnitFailure, UnitOutputs, UnitPlan, read_unit_end
from tests.simulation.scheduler import broken
from tests.simulation.takeovers import TakeOvers
from tests.simulation.world import World

JOINED = "media/1.m4s"
"""The output that holds what the units stored."""
SEAM = b"|"
NOT_ENDED = UnitFailure(unit="", error=StatusError(code="", message="it has not ended"), attempts=1).to_json()


@dataclass(slots=True)
class UnitLedger:
    world: World
    take_overs: TakeOvers
    step: Callable[[], int]
    grace_seconds: float
    may_go: Callable[[str], bool]
    """Whether a video is gone or being deleted."""
    plans: dict[tuple[str, int], UnitPlan] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _bodies: dict[str, bytes] = field(default_factory=dict)
    """Plans and ends: they are never replaced."""
    _existing_since: dict[str, int] = field(default_factory=dict)
    """Plans, ends and leases, each with the step that created it."""
    _gone_since: dict[str, int] = field(default_factory=dict)
    """Plans."""
    _named: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Objects that an end names, each with its plan."""
    _unfinished: set[str] = field(default_factory=set)
    """Plans that were there before their request ended."""
    _holders: dict[str, str] = field(default_factory=dict)

    # Reported by the processes

    def claimed(self, claim: UnitClaim) -> None:
        """A worker was told that it may run a unit."""
        first = self._holders.setdefault(claim.key, claim.lease.token)
        if first != claim.lease.token and not self.is_over(claim.job.request):
            broken(f"two holders of one generation: {claim.key} is of {first} and of {claim.lease.token}")
        counts = self.plans[claim.job.request, claim.plan.number]
        if claim.plan != counts and not self.is_over(claim.job.request):
            broken(f"{claim.key} was claimed by another plan than the one that counts")
        self._count("units claimed")

    def renewed(self, claim: UnitClaim, since_step: int) -> None:
        """A heartbeat that began at this step succeeded."""

        def stood(key: str) -> bool:
            return self._existing_since.get(key, since_step) < since_step

        plan = keys.unit_plan(claim.job.request, claim.plan.number)
        if self._gone_since.get(plan, since_step) < since_step:
            broken(f"a heartbeat did not notice that {plan} is gone")
        later = keys.unit_plan(claim.job.request, claim.plan.number + 1)
        end = keys.unit_end(claim.job.request, claim.plan.number, claim.unit)
        successor = keys.unit_lease(claim.job.request, claim.plan.number, claim.unit, claim.generation + 1)
        for key in (later, end, successor):
            if stood(key) and not self._is_obsolete(claim.job.request, claim.plan.number, unless=later):
                broken(f"a heartbeat did not notice that {key} is there")

    def finished(self, claim: UnitClaim, won: bool, since_step: int) -> None:
        """A worker was told whether its outputs are the unit's. It began to ask at this step."""
        self._count("units finished" if won else "units finished in vain")
        plan = keys.unit_plan(claim.job.request, claim.plan.number)
        if won and self._gone_since.get(plan, since_step) < since_step:
            broken(f"the end of {claim.key} did not notice that {plan} is gone")
        body = self._bodies.get(keys.unit_end(claim.job.request, claim.plan.number, claim.unit))
        if body is None or self._is_obsolete(claim.job.request, claim.plan.number):
            return
        end = read_unit_end(body)
        if won != (isinstance(end, UnitOutputs) and end.token == claim.lease.token):
            broken(f"{claim.key} was told that it {'won' if won else 'lost'}, but {end} counts")

    def joining(self, plan: UnitPlan) -> None:
        """A worker begins to join a plan. If it is not the first, its maker may have died before parking."""
        sides = keys.unit_end(plan.request, plan.number, keys.SIDES)
        if plan.number == 0 and sides not in self._bodies and not self.is_over(plan.request):
            broken(f"{plan.request} was taken to be joined before its sides were done")

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # Observed in the buckets

    def raw_changed(self, key: str) -> None:
        name = key.removeprefix(keys.UNITS).split("/")[1:]
        exists = self.world.raw.holds(key)
        match name:
            case [number, "plan"]:
                self._plan_changed(key, int(number), exists)
            case [number, _, "end"]:
                self._end_changed(key, int(number), exists)
            case [number, unit, generation]:
                request, previous = _request_of(key), int(generation) - 1
                before = keys.unit_lease(request, int(number), unit, previous) if previous >= 0 else None
                if exists:
                    over = self._is_obsolete(request, int(number))
                    self.take_overs.written(key, self.world.raw.body(key), before, over=over)
        if exists:
            self._existing_since.setdefault(key, self.step())
        else:
            self._existing_since.pop(key, None)

    def _plan_changed(self, key: str, number: int, exists: bool) -> None:
        request = _request_of(key)
        if exists:
            self._gone_since.pop(key, None)
            if not self.is_over(request):
                self._unfinished.add(key)
            if key not in self._bodies:
                self.plans[request, number] = UnitPlan.from_json(self.world.raw.body(key))
                self._count("plans" if number == 0 else "plans after the first one")
        else:
            self._gone_since.setdefault(key, self.step())
            self._unfinished.discard(key)
            if not self._is_obsolete(request, number):
                broken(f"{key} is gone, and the request has not ended")
        self._check_unchanged(key, exists)

    def _end_changed(self, key: str, number: int, exists: bool) -> None:
        request = _request_of(key)
        if self._is_obsolete(request, number):
            return
        if not exists:
            broken(f"{key} is gone, and the request has not ended")
        is_new = key not in self._bodies
        self._check_unchanged(key, exists)
        end = read_unit_end(self.world.raw.body(key))
        if is_new and isinstance(end, UnitOutputs):
            for path, size_bytes in self._stored(request, number, end):
                self._named[path] = request, number
                if self.world.video.size(path) != size_bytes:
                    broken(f"{key} was created without {path}")
        elif is_new:
            self._count("looks given up")

    def _stored(self, request: str, number: int, end: UnitOutputs) -> Iterator[tuple[str, int]]:
        work, video_id = self.plans[request, number].work, keys.video_of_request(request)
        prefix = keys.unit_outputs(video_id, work, end.unit, end.token)
        return ((prefix + stored.name, stored.size_bytes) for stored in end.objects)

    def _check_unchanged(self, key: str, exists: bool) -> None:
        if not exists:
            return
        body = self.world.raw.body(key)
        if self._bodies.setdefault(key, body) != body and not self.is_over(_request_of(key)):
            broken(f"{key} was replaced")

    def video_changed(self, key: str, video_id: str) -> None:
        if self.world.video.holds(key):
            return
        if key in self._named and not self._is_obsolete(*self._named[key]):
            broken(f"an output of a finished unit is gone: {key}")
        run = keys.run_of_key(video_id, key)
        if run is not None and keys.is_look(run):
            request = keys.request_of_run(video_id, run)
            if not self._look_may_go(request):
                broken(f"{key} is gone, and viewers may still watch it")

    def _look_may_go(self, request: str) -> bool:
        if self.may_go(keys.video_of_request(request)):
            return True
        result = self.world.video.find(keys.result(keys.video_of_request(request), request))
        if result is None or not isinstance(read_outcome(result.body), Outputs):
            return result is not None
        age = self.world.video.now() - result.info.modified
        return age.total_seconds() > self.grace_seconds

    def leases_gone(self, request: str) -> None:
        """The last lease of a request is gone."""
        for key in self.world.raw.keys(keys.units_of_request(request)):
            if key in self._unfinished:
                broken(f"{key} outlives the leases of its request")

    def check_published(self, outputs: Outputs, body: bytes, alone: bytes) -> None:
        """Check that a joined run holds what each unit's one finished attempt stored, in order.

        `alone` is what a run holds that was made in one pass.
        """
        if body == alone:
            return
        plans = [number for request, number in self.plans if request == outputs.request]
        if body not in [self._joined(alone, outputs.request, number) for number in plans]:
            broken(f"{outputs.run} is not what the units of a plan stored: {body!r}")
        if len({encoder_of(part) for part in body.split(SEAM)[2:]}) > 1:
            broken(f"{outputs.run} mixes encoders: {body!r}")
        self._count("videos joined")

    def _joined(self, alone: bytes, request: str, number: int) -> bytes | None:
        """Return what joining this plan must give, or None if not all of its units are done."""
        parts = [alone]
        for unit in self.plans[request, number].units:
            if unit == keys.LOOK:
                continue
            end = read_unit_end(self._bodies.get(keys.unit_end(request, number, unit), NOT_ENDED))
            if not isinstance(end, UnitOutputs):
                return None
            parts += [unit_body(unit, end.token, stored.config) for stored in end.objects]
        return SEAM.join(parts)

    def is_over(self, request: str) -> bool:
        """Return whether a request has ended, or its video is gone or being deleted."""
        video_id = keys.video_of_request(request)
        return self.may_go(video_id) or self.world.video.holds(keys.result(video_id, request))

    def _is_obsolete(self, request: str, number: int, unless: str | None = None) -> bool:
        """Return whether the request is over, or has a later plan than this."""
        later = keys.unit_plan(request, number + 1)
        return self.is_over(request) or (later != unless and later in self._bodies)


def unit_body(unit: str, token: str, config: str) -> bytes:
    """Return what the simulated unit stores: who made it."""
    return f"{unit}-{token}/{config}".encode()


def encoder_of(body: bytes) -> bytes:
    return body.rpartition(b"/")[2]


def _request_of(key: str) -> str:
    return key.removeprefix(keys.UNITS).partition("/")[0]
