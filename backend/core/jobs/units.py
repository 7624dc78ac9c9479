"""The units of divided jobs on S3: claimed by create-only leases, each ended by one create-only object.

docs/queue.md explains the protocol ("Units"). It is that of jobs, one level down: a unit's `end` decides as a
request's result does, and units whose plan is gone are of no use, as jobs whose video is gone.
"""

import random
import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import LeaseLost, ObjectNotFound, VideoDeleted
from backend.core.jobs.job_queue import RUN_TOKEN_BYTES, JobQueue
from backend.core.jobs.leases import LeaseReader
from backend.core.jobs.unit_view import SeenUnit, UnitClaim, UnitState, UnitView
from backend.core.library.videos import CONCURRENT_READS
from backend.core.records import Job, LeaseState, RecordUnreadable, StatusError
from backend.core.store.interface import Buckets, ObjectInfo
from backend.core.store.prefixes import delete_outputs_below
from backend.core.unit_records import (
    UnitEnd,
    UnitFailure,
    UnitKind,
    UnitLease,
    UnitOutputs,
    UnitPlan,
    read_unit_end,
)

CACHED_JOBS = 32
"""Of how many jobs this process remembers plan, leases and ends."""
SPREAD = 2
"""Workers pick one of the first two units at random, and from twice as many after each collision. Chunks are
joined in order, so the first ones should be there first."""
MAX_TRIES = 4
"""To claim a unit of one view."""


def _unit_token() -> str:
    return secrets.token_hex(RUN_TOKEN_BYTES)


class UnitQueue:
    """The units as one worker uses them. `jobs` ends requests, and is the same worker's.

    `rng` and `token` are replaced in tests.
    """

    def __init__(
        self,
        buckets: Buckets,
        jobs: JobQueue,
        *,
        owner: str,
        rng: random.Random | None = None,
        token: Callable[[], str] = _unit_token,
    ) -> None:
        self._buckets = buckets
        self._jobs = jobs
        self._owner = owner
        self._rng = rng or random.Random()  # noqa: S311  # spreads load, guards nothing
        self._token = token
        self._known: dict[str, _Known] = {}
        """By request. The one used last is at the end."""
        self._in_doubt: set[str] = set()  # tokens that an end may still come to name, as its answer was lost

    async def view(self, job: Job) -> UnitView | None:
        """Return the job's units. None: there is no plan (any more).

        Raises: RecordUnreadable: a newer version has planned this job.
        """
        listed = await self._list(job.request)
        known = self._known.pop(job.request, None)
        if listed.plan is None:
            return None
        known = known or _Known(LeaseReader(self._buckets.raw, self._jobs.lease, _parse))
        self._known[job.request] = known
        if len(self._known) > CACHED_JOBS:
            del self._known[next(iter(self._known))]
        key = keys.unit_plan(job.request, listed.plan)
        if key not in known.plans:
            try:
                known.plans[key] = UnitPlan.from_json(await self._get(key))
            except ObjectNotFound:
                return None
        plan = known.plans[key]
        held = [listed.leases[unit][-1][1] for unit in listed.leases.keys() - listed.ended]
        await known.leases.watch(held, listed.store_now)
        units = {unit: _seen(listed, unit, known.leases) for unit in plan.units}
        return UnitView(job, plan, units, listed.store_now - listed.newest)

    async def claim(
        self, view: UnitView, kinds: Collection[UnitKind], *, silent_too: bool = True
    ) -> UnitClaim | None:
        """Claim one of the view's units of these kinds. None: there is none, or others were faster.

        Leases stay as long as the plan does, so an old view never leads to a unit that has already ended,
        unless its holder had been silent: then the first heartbeat notices.
        """
        for tries in range(MAX_TRIES):
            units = view.claimable(kinds, silent_too=silent_too)[: SPREAD << tries]
            if not units:
                break
            unit = self._rng.choice(units)
            view.tried.add(unit)
            claim = self._next(view, unit)
            if await self._buckets.raw.create(claim.key, claim.lease.to_json()):
                return claim
        return None

    def _next(self, view: UnitView, unit: str) -> UnitClaim:
        seen = view.units[unit]
        lease = UnitLease(unit=unit, owner=self._owner, token=self._token(), attempt=1)
        if seen.lease is not None:
            crashed = seen.lease.state is LeaseState.RUNNING
            lease = lease.replace(
                attempt=seen.lease.attempt + crashed,
                outages=seen.lease.outages,
                last_error="The worker stopped in the middle of it." if crashed else seen.lease.last_error,
            )
        return UnitClaim(view.job, view.plan, lease, seen.generation + 1)

    async def renew(self, claim: UnitClaim) -> None:
        """Renew the lease, every third of the lease time.

        Raises:
            LeaseLost: another worker has the unit or has ended it, there is a later plan, or the request has
                ended. Stop, and call `discard`.
        """
        await self._buckets.raw.put(claim.key, claim.lease.to_json())
        await self._check(claim)

    async def finish(self, claim: UnitClaim, outputs: UnitOutputs) -> bool:
        """Make `outputs` the unit's end. False: it has another end, or the request has ended: `discard`.

        Raises: StoreUnavailable: the end is unknown. Repeat it with the same outputs.
        """
        return await self._end(claim, outputs.replace(attempt=claim.lease.attempt))

    async def fail(self, claim: UnitClaim, error: StatusError) -> bool:
        """Give the unit up for good. Returns whether this did.

        A look only ends: its video does not need it. Any other unit ends the request. If this worker dies
        before that is done, the unit is taken over, fails again, and does it.

        Raises: LeaseLost: call `discard`.
        """
        try:
            await self._check(claim)
        except LeaseLost:
            # An ended request may be finished by anybody. A successor would only be as slow.
            if claim.kind is UnitKind.LOOK or not await self._jobs.has_ended(claim.job):
                raise
        if claim.kind is UnitKind.LOOK:
            attempts = claim.lease.attempt
            return await self._end(claim, UnitFailure(unit=claim.unit, error=error, attempts=attempts))
        try:
            return await self._jobs.fail(claim.job, error, claim.lease.attempt)
        except VideoDeleted:
            raise LeaseLost from None

    async def release(
        self, claim: UnitClaim, *, retry_after_seconds: float, error: str | None = None, outage: bool = False
    ) -> None:
        """Give the unit back so that it is tried again. Raises: LeaseLost: call `discard`.

        With `error`, the attempt counts. With `outage`, it counts as an outage: the store failed.
        """
        failed = error is not None
        released = claim.lease.replace(
            state=LeaseState.RELEASED,
            attempt=claim.lease.attempt + (failed and not outage),
            outages=claim.lease.outages + (failed and outage),
            retry_after_seconds=retry_after_seconds,
            last_error=error if failed else claim.lease.last_error,
        )
        await self._check(claim)
        await self._buckets.raw.put(claim.key, released.to_json())

    async def discard(self, claim: UnitClaim) -> None:
        """Delete what this attempt stored, unless the unit's end names it or may still come to.

        What is below the look's prefix is deleted only with its request: the next attempt continues from it.
        """
        if claim.kind is not UnitKind.CHUNK and not await self._jobs.keeps_looks(claim.job):
            look = keys.run_prefix(claim.job.id, claim.plan.look)
            await delete_outputs_below(self._buckets.video, look)
        if claim.kind is UnitKind.LOOK or claim.lease.token in self._in_doubt:
            return
        if await self._end_token(claim) != claim.lease.token:
            await delete_outputs_below(self._buckets.video, claim.outputs)

    async def ends(self, view: UnitView) -> Mapping[str, UnitEnd]:
        """Return the ends of all units that have ended in this view. Each is read once.

        Raises: LeaseLost: they are being deleted, as the request has ended.
        """
        known = self._known.get(view.job.request)
        ends = known.ends if known else {}
        ended = {
            unit: keys.unit_end(view.job.request, view.plan.number, unit)
            for unit, seen in view.units.items()
            if seen.state is UnitState.ENDED
        }
        unread = [key for key in ended.values() if key not in ends]
        for start in range(0, len(unread), CONCURRENT_READS):
            batch = unread[start : start + CONCURRENT_READS]
            try:
                bodies = await self._read_all(batch)
            except ObjectNotFound:
                raise LeaseLost from None
            ends |= {key: read_unit_end(body) for key, body in zip(batch, bodies, strict=True)}
        return {unit: ends[key] for unit, key in ended.items()}

    async def _end(self, claim: UnitClaim, end: UnitEnd) -> bool:
        """Make this the unit's end unless it has one. Returns whether it did and the plan still counts."""
        self._in_doubt.add(claim.lease.token)
        key = keys.unit_end(claim.job.request, claim.plan.number, claim.unit)
        ours = await self._buckets.raw.create(key, end.to_json())
        self._in_doubt.discard(claim.lease.token)
        # A worker that deleted the plan may have missed this end.
        plan = (await self._list(claim.job.request)).plan
        if plan is None:
            await self._buckets.raw.delete_many([key, claim.key])
        return ours and plan == claim.plan.number

    async def _end_token(self, claim: UnitClaim) -> str | None:
        """Return the token that the unit's end names, if it has such an end."""
        try:
            body = await self._get(keys.unit_end(claim.job.request, claim.plan.number, claim.unit))
        except ObjectNotFound:
            return None
        end = read_unit_end(body)
        return end.token if isinstance(end, UnitOutputs) else None

    async def _read_all(self, found: Sequence[str]) -> list[bytes]:
        return await gather_or_cancel(self._get(key) for key in found)

    async def _get(self, key: str) -> bytes:
        return (await self._buckets.raw.get(key)).body

    async def _check(self, claim: UnitClaim) -> None:
        """Raises: LeaseLost: this worker need not go on. Without a plan, its lease has been deleted."""
        listed = await self._list(claim.job.request)
        if listed.plan is None:
            await self._buckets.raw.delete(claim.key)
        taken_over = any(generation > claim.generation for generation, _ in listed.leases.get(claim.unit, ()))
        if listed.plan != claim.plan.number or claim.unit in listed.ended or taken_over:
            raise LeaseLost

    async def _list(self, request: str) -> "_Listed":
        """List all plans and units of a request: one page for every 1,000 keys."""
        prefix, objects, last = keys.units_of_request(request), list[ObjectInfo](), ""
        while True:
            page = await self._buckets.raw.list_page(prefix, start_after=last)
            objects += page.objects
            if not page.truncated:
                break
            last = page.objects[-1].key
        objects = [info for info in objects if info.key != keys.wanted(request)]
        plans = [keys.parse_unit_plan(info.key)[1] for info in objects if keys.is_unit_plan(info.key)]
        plan = max(plans, default=None)
        ended, leases = set[str](), defaultdict[str, list[tuple[int, ObjectInfo]]](list)
        for info in objects:
            if keys.is_unit_plan(info.key):
                continue
            for key in keys.ours(keys.parse_unit, [info.key]):
                if key.plan == plan and key.generation is None:
                    ended.add(key.unit)
                elif key.plan == plan and key.generation is not None:
                    leases[key.unit].append((key.generation, info))
        return _Listed(
            plan,
            page.store_now,
            newest=max((info.modified for info in objects), default=page.store_now),
            ended=frozenset(ended),
            leases={unit: sorted(found, key=lambda one: one[0]) for unit, found in leases.items()},
        )


def _parse(key: str, body: bytes) -> UnitLease:
    lease = UnitLease.from_json(body)
    if lease.unit != keys.parse_unit(key).unit:
        raise RecordUnreadable(f"{key} is not the lease of this unit")
    return lease


@dataclass(slots=True)
class _Known:
    """What this process has read of one job's units."""

    leases: LeaseReader[UnitLease]
    plans: dict[str, UnitPlan] = field(default_factory=dict)
    ends: dict[str, UnitEnd] = field(default_factory=dict)
    """By key, as nobody rewrites these."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a LIST shows of the highest plan's units."""

    plan: int | None
    store_now: datetime
    newest: datetime
    """When anything but a viewer's wish was last written."""
    ended: frozenset[str]
    leases: Mapping[str, list[tuple[int, ObjectInfo]]]
    """By unit, in ascending order of their generations."""


def _seen(listed: _Listed, unit: str, reader: LeaseReader[UnitLease]) -> SeenUnit:
    if unit in listed.ended:
        return SeenUnit(UnitState.ENDED)
    if unit not in listed.leases:
        return SeenUnit(UnitState.FREE)
    generation, info = listed.leases[unit][-1]
    if (lease := reader.known(info)) is None:
        return SeenUnit(UnitState.HELD, generation)
    due = reader.is_due(lease, info, listed.store_now)
    if lease.state is LeaseState.RUNNING:
        return SeenUnit(UnitState.SILENT if due else UnitState.HELD, generation, lease)
    return SeenUnit(UnitState.DUE if due else UnitState.WAITING, generation, lease)
