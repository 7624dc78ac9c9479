"""Runs one worker job in its own process and measures it; started by `bench.media`.

A last word, `divide`, divides it; with `copy`, the source may be its top H.264 rung, too.

Python's startup and the upload are not counted: workers are long-lived, and uploads have their own table.
"""

import asyncio
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel, gather_pair
from backend.core.ids import new_id
from backend.core.jobs.unit_view import UnitClaim
from backend.core.records import Job, Rendition
from backend.core.settings import WorkerSettings
from backend.core.store.interface import PLAIN, Body, Buckets, ObjectHeaders, Store
from backend.core.unit_records import UnitEnd, UnitKind, UnitLease, UnitPlan, kind_of_unit
from backend.core.uploads.one_shot import store_source
from tests.lab.buckets import fresh_buckets
from tests.lab.server import StoreServer
from worker.sandbox.tools import find_tools
from worker.transcode.transcoder import EncodingProfile, Transcoded, Transcoder
from worker.units.attempt import Workshop
from worker.units.join import Joiner
from worker.units.making import UnitMaker
from worker.units.opening import Openings
from worker.units.planner import Planner

RUN = "r0-0-aa"
LOOK = "l0-aa"
CHUNK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class JobCost:
    """The job's cost. `first_playable_seconds` is the time until the master playlist is in the store."""

    wall_seconds: float
    cpu_seconds: float
    first_playable_seconds: float
    source_bytes: int
    read_bytes: int


class _WatchedStore:
    """Counts the bytes read, and records when the master playlist is first written."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.read_bytes = 0
        self.playable_at: float | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        async for chunk in self._inner.read(key, offset, etag=etag):
            self.read_bytes += len(chunk)
            yield chunk

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await self._inner.put(key, body, headers)
        if self.playable_at is None and key.endswith(keys.MASTER_PLAYLIST):
            self.playable_at = time.perf_counter()

    def as_store(self) -> Store:
        """Return itself as a `Store`: type checkers do not see the verbs in `__getattr__`."""
        return cast(Store, self)


async def _transcode(
    server: StoreServer, source: Path, source_bytes: int, results: Path, *, way: str
) -> None:
    async with fresh_buckets(server) as buckets:
        job = await _upload(buckets.raw, source, source_bytes)
        raw, video = _WatchedStore(buckets.raw), _WatchedStore(buckets.video)
        with tempfile.TemporaryDirectory() as work_dir:
            watched = Buckets(raw.as_store(), video.as_store())
            profile = EncodingProfile(copies_source=way == "copy")
            workshop = Workshop(watched, find_tools(WorkerSettings()), profile, Path(work_dir))
            began, cpu = time.perf_counter(), _cpu_seconds()
            transcoded = await (_by_units if way else _at_once)(workshop, job)
            ended, cpu = time.perf_counter(), _cpu_seconds() - cpu
        if video.playable_at is None:
            raise AssertionError("the job ended without a master playlist")
        cost = JobCost(
            wall_seconds=ended - began,
            cpu_seconds=cpu,
            first_playable_seconds=video.playable_at - began,
            source_bytes=source_bytes,
            read_bytes=raw.read_bytes,
        )
        (results / "cost.json").write_text(json.dumps(asdict(cost)))
        for rendition in transcoded.renditions:
            await _save(buckets.video, keys.run_prefix(job.id, RUN), rendition, results)


async def _at_once(workshop: Workshop, job: Job) -> Transcoded:
    transcoder = Transcoder(workshop.buckets, workshop.tools, workshop.profile, workshop.work_dir)
    return await transcoder.run(job, RUN, lambda progress: None)


async def _by_units(workshop: Workshop, job: Job) -> Transcoded:
    """Divide the job as workers do, and do its units as one worker does: one chunk at a time, and the join
    beside the last one."""
    settings = WorkerSettings()
    plan = await Planner(workshop, "", settings.chunk_seconds).run(job, 0, LOOK, "bb")
    if not isinstance(plan, UnitPlan):
        raise AssertionError("the job is not divided")

    async def tell(job: Job, plan: UnitPlan) -> None:
        return

    maker, ends = UnitMaker(workshop, tell, Openings(lambda: None)), dict[str, UnitEnd]()

    async def do(*units: str) -> None:
        for unit in units:
            lease = UnitLease(unit=unit, owner="bench", token="cc", attempt=1)
            ends[unit] = await maker.run(UnitClaim(job, plan, lease, 0))

    async def ended() -> Mapping[str, UnitEnd]:
        return ends

    beside = [unit for unit in plan.units if kind_of_unit(unit) is not UnitKind.CHUNK]
    chunks = [unit for unit in plan.units if unit not in beside]
    await gather_or_cancel([do(*chunks[:-1]), *(do(unit) for unit in beside)])
    joining = Joiner(workshop).run(job, plan, RUN, ended, lambda progress: None)
    return (await gather_pair(joining, do(chunks[-1])))[0]


async def _upload(raw: Store, source: Path, size: int) -> Job:
    video_id = new_id()

    async def chunks() -> AsyncIterator[bytes]:
        with source.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    await store_source(raw, keys.upload(video_id), chunks(), declared_bytes=size, max_bytes=size)
    return Job(
        id=video_id,
        request=video_id,
        source=keys.upload(video_id),
        source_size_bytes=size,
        created_at=datetime.now(UTC),
    )


async def _save(video: Store, run_prefix: str, rendition: Rendition, results: Path) -> None:
    """Write a rendition's segments as one file, and its description as JSON."""
    prefix = f"{run_prefix}media/{rendition.name}/"
    names = [info.key async for info in video.list_all(prefix)]
    init = [name for name in names if name.endswith("/init.mp4")]
    with (results / f"{rendition.name}.mp4").open("wb") as file:
        for name in [*init, *sorted(set(names) - set(init))]:
            file.write((await video.get(name)).body)
    (results / f"{rendition.name}.json").write_text(rendition.model_dump_json())


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of all children it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    endpoint_url, access_key, secret_key, source, results, *how = sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    server = StoreServer("rgw", endpoint_url, access_key, secret_key)
    way = how[0] if how else ""
    asyncio.run(_transcode(server, Path(source), Path(source).stat().st_size, Path(results), way=way))


if __name__ == "__main__":
    main()
