"""Does the unit that is a look: the whole video in a quick version, to be watched before all is encoded."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from backend.core import keys
from backend.core.errors import AttemptFailed, StoreError
from backend.core.jobs.unit_view import UnitClaim
from backend.core.jobs.wants import Wants
from backend.core.records import Job, UnitOutputs, UnitPlan
from worker.encode.look_arguments import LookSource
from worker.output.sink import headers_of
from worker.source.feeder import SourceFeeder
from worker.units.attempt import UnitAttempt, Workshop
from worker.units.details import PlanDetails
from worker.units.look import LookMaker
from worker.units.opening import Openings

log = structlog.get_logger(__name__)


class LookUnitMaker:
    """Does units that are looks, any number at a time. `on_playable` is called when one can be played."""

    def __init__(
        self,
        workshop: Workshop,
        on_playable: Callable[[Job, UnitPlan], Awaitable[None]],
        openings: Openings,
    ) -> None:
        self._workshop = workshop
        self._on_playable = on_playable
        self._openings = openings
        self._maker = LookMaker(workshop.tools.ffmpeg)

    async def run(self, claim: UnitClaim, details: PlanDetails) -> UnitOutputs:
        """Store what is missing of the look below its prefix.

        Raises:
            SourceRejected, AttemptFailed, MachineFault, StoreError: as `Transcoder.run`.
        """
        attempt = UnitAttempt(self._workshop, claim, details)

        async def make(_: SourceFeeder, source: str, directory: Path) -> UnitOutputs:
            await self._make(attempt, source, directory, can_be_played)
            return UnitOutputs(unit=claim.unit, token=claim.lease.token)

        with self._openings.opening() as can_be_played:
            return await attempt.run(make)

    async def _make(
        self, attempt: UnitAttempt, source: str, directory: Path, can_be_played: Callable[[], None]
    ) -> None:
        claim, details, video = attempt.claim, attempt.details, attempt.buckets.video
        look, media = details.look, details.media
        if look is None or media.video is None:
            raise AttemptFailed("The plan has no look.")
        prefix = keys.run_prefix(claim.job.id, claim.plan.look)
        stored = [info.key.removeprefix(prefix) async for info in video.list_all(prefix)]
        playable, wants = asyncio.Event(), Wants(self._workshop.buckets.raw)

        async def put(path: str, body: bytes) -> None:
            await video.put(prefix + path, body, headers_of(path))

        async def tell() -> None:
            await playable.wait()
            log.info("look_playable", kind=look.kind, segments=look.segments)
            with suppress(StoreError):  # each unit that ends says it again
                await self._on_playable(claim.job, claim.plan)
            can_be_played()

        making = self._maker.run(
            look,
            LookSource(source, media, media.video, details.encoding.audio),
            directory,
            put,
            playable.set,
            lambda: wants.newest(claim.job.request),
            stored=stored,
            progress=attempt.activity.touch,
        )
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(tell())
            await making
            playable.set()
            await telling
