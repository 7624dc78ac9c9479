"""Renditions are removed by age and budget, and made again: nothing is lost in any order of events."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest

from backend.core import keys
from backend.core.errors import LeaseLost, VideoDeleted, VideoNotFound
from backend.core.jobs.retry import rebuild_video, retry_video
from backend.core.library.videos import delete_video, read_item, reduce_video
from backend.core.records import Job, Retention, Stage, StatusError
from backend.core.store.interface import Buckets
from backend.core.sweep.retention import CleanReport, RetentionRules, clean
from backend.core.sweep.sweeper import SweepRules, sweep
from tests.core.jobs.queue_lab import Fault, Lab, WorkerCrashed, crash
from tests.core.sweep.retention_lab import KEPT, SEGMENT_BYTES, SEGMENTS, add, outputs_key, paths_of, work
from tests.lab.turns import Race, Turns, TurnStore, every_order

DAY = 86_400
WEEK = RetentionRules(unwatched=timedelta(days=7))
ALL = RetentionRules(max_bytes=1)


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def _watch(lab: Lab, job: Job) -> None:
    await lab.video.put(keys.watched(job.id), b"")


async def _stored(lab: Lab) -> int:
    return (await clean(lab.buckets, RetentionRules(), dry_run=True)).stored_bytes


def _reduced(report: CleanReport) -> list[str]:
    return [reduction.video_id for reduction in report.reductions]


async def test_over_budget_those_go_first_that_were_not_watched_for_the_longest_time(lab: Lab) -> None:
    jobs = []
    for _ in range(4):
        jobs.append(await add(lab))
        lab.clock.advance(DAY)
    await _watch(lab, jobs[0])
    budget = RetentionRules(max_bytes=await _stored(lab) - SEGMENT_BYTES - 1)
    before = await lab.video_keys()

    dry = await clean(lab.buckets, budget, dry_run=True)
    assert await lab.video_keys() == before
    report = await clean(lab.buckets, budget)

    assert report.reductions == dry.reductions
    assert _reduced(report) == [jobs[1].id, jobs[2].id]
    assert {reduction.size_bytes for reduction in report.reductions} == {SEGMENT_BYTES}
    for job in jobs[1:3]:
        assert await paths_of(lab, job) == KEPT.keys()
        item = await read_item(lab.buckets, job.id)
        assert (item.status.stage, item.status.reduced) == (Stage.COMPLETE, True)
    for job in (jobs[0], jobs[3]):
        assert await paths_of(lab, job) >= SEGMENTS.keys()
    assert _reduced(await clean(lab.buckets, budget)) == []


async def test_renditions_live_as_long_as_somebody_watches_them(lab: Lab) -> None:
    watched, forgotten = await add(lab), await add(lab)
    lab.clock.advance(6 * DAY)
    await _watch(lab, watched)
    assert _reduced(await clean(lab.buckets, WEEK)) == []
    lab.clock.advance(2 * DAY)

    assert _reduced(await clean(lab.buckets, WEEK)) == [forgotten.id]
    assert await paths_of(lab, watched) >= SEGMENTS.keys()


@pytest.mark.parametrize("left", [None, b"", b"w"])
async def test_nothing_is_removed_that_could_not_be_made_again(lab: Lab, left: bytes | None) -> None:
    job = await add(lab)
    key = outputs_key(await lab.result(job), keys.DOWNLOAD)
    await lab.video.delete(key)
    if left is not None:
        await lab.video.put(key, left)

    assert _reduced(await clean(lab.buckets, ALL)) == []
    assert await paths_of(lab, job) >= SEGMENTS.keys()


async def test_a_rebuild_uses_the_kept_original_and_leaves_it(lab: Lab) -> None:
    job = await add(lab, Retention(keep=True))
    await clean(lab.buckets, ALL)

    again = await rebuild_video(lab.buckets, job.id)

    assert again is not None
    assert (again.request, again.source) == (f"{job.id}.1", keys.upload(job.id))
    assert (await read_item(lab.buckets, job.id)).status.stage is Stage.QUEUED
    assert await work(lab, lab.worker("two"))
    assert await lab.raw_keys() == [keys.upload(job.id)]
    item = await read_item(lab.buckets, job.id)
    assert (item.kept, item.status.request, item.status.reduced) == (None, again.request, False)


@pytest.mark.parametrize("keeps", [True, False, None])
async def test_without_the_original_a_rebuild_uses_the_download_and_leaves_it(
    lab: Lab, keeps: bool | None
) -> None:
    job = await add(lab)
    first = await lab.result(job)
    await clean(lab.buckets, ALL)

    again = await rebuild_video(lab.buckets, job.id)

    assert again is not None
    download = outputs_key(first, keys.DOWNLOAD)
    assert (again.source, again.source_size_bytes) == (download, len(KEPT[keys.DOWNLOAD]))
    assert await work(lab, lab.worker("two", keep_originals=keeps))
    assert download in await lab.video_keys()
    assert await lab.raw_keys() == []
    await sweep(lab.buckets, lab.worker("sweeper"), SweepRules())
    lab.clock.advance(2 * DAY)
    await sweep(lab.buckets, lab.worker("sweeper"), SweepRules())
    assert download not in await lab.video_keys()
    assert await paths_of(lab, job) == SEGMENTS.keys() | KEPT.keys()


async def test_after_a_failed_rebuild_the_download_stays_and_only_a_person_tries_again(lab: Lab) -> None:
    job = await add(lab)
    await clean(lab.buckets, ALL)
    assert await rebuild_video(lab.buckets, job.id)
    queue = lab.worker("two")
    await queue.bury(await lab.claimed(queue), StatusError(code="encoder_failed", message="It crashed."))

    item = await read_item(lab.buckets, job.id)
    assert item.kept is not None
    assert (item.status.stage, item.status.reduced) == (Stage.FAILED, True)
    assert await rebuild_video(lab.buckets, job.id) is None
    assert await paths_of(lab, job) == KEPT.keys()
    await retry_video(lab.buckets, job.id)
    assert await work(lab, queue)
    assert (await read_item(lab.buckets, job.id)).kept is None


async def test_the_budget_counts_what_is_being_made_again(lab: Lab) -> None:
    watched = await add(lab)
    await clean(lab.buckets, ALL)
    lab.clock.advance(DAY)
    other = await add(lab)
    assert await rebuild_video(lab.buckets, watched.id)
    room = RetentionRules(max_bytes=await _stored(lab) + SEGMENT_BYTES // 2)

    report = await clean(lab.buckets, room)

    assert (report.rebuilt_bytes, _reduced(report)) == (SEGMENT_BYTES, [other.id])


async def _results(buckets: Buckets) -> AsyncIterator[str]:
    async for info in buckets.video.list_all(keys.VIDEOS):
        if any(keys.ours(keys.request_of_result, [info.key])):
            yield info.key


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_removal_that_was_killed_at_any_step_is_finished_and_loses_nothing(after: bool) -> None:
    for at_call in range(1, 100):
        lab = Lab()
        job = await add(lab)
        lab.clock.advance(8 * DAY)
        fault = Fault(at_call, crash, after)
        with suppress(WorkerCrashed):
            await clean(lab.faulty(fault), WEEK)
        if not fault.struck:
            break
        assert await paths_of(lab, job) >= KEPT.keys()
        item = await read_item(lab.buckets, job.id)
        whole = await paths_of(lab, job) >= SEGMENTS.keys()
        assert whole or item.status.reduced
        if item.status.reduced:  # the next sweep finishes it, even if the limit was lifted meanwhile
            await sweep(lab.buckets, lab.worker("sweeper"), SweepRules())
        else:
            await clean(lab.buckets, WEEK)
        assert await paths_of(lab, job) == KEPT.keys()
    assert at_call > 5


async def test_two_viewers_at_once_start_one_rebuild() -> None:
    """However fast workers are: the other one's rebuild is finished before the first one continues."""

    async def begin(turns: Turns) -> Race:
        lab = Lab(raw=TurnStore(turns), video=TurnStore(turns))
        job = await add(lab)
        await clean(lab.buckets, ALL)

        async def view() -> Job | None:
            again = await rebuild_video(lab.buckets, job.id)
            if again is not None:
                await work(lab, lab.worker("two"))
            return again

        return Race(lab.buckets, view(), view())

    async for ended in every_order(begin, whole=True):
        requests = {job.request for job in (ended.first, ended.second) if isinstance(job, Job)}
        assert len(requests) == 1, ended
        results = [key async for key in _results(ended.buckets)]
        assert len(results) == 2


async def test_a_removal_and_a_deletion_at_once_leave_nothing() -> None:
    async def begin(turns: Turns) -> Race:
        lab = Lab(raw=TurnStore(turns), video=TurnStore(turns))
        outputs = await lab.result(await add(lab))
        return Race(lab.buckets, reduce_video(lab.buckets, outputs, 1), delete_video(lab.buckets, outputs.id))

    async for ended in every_order(begin, whole=True):
        assert not isinstance(ended.first, Exception), ended
        assert [info.key async for info in ended.buckets.video.list_all(keys.VIDEOS)] == []


class SlowTurns(Turns):
    """Holds each call back for a random while."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    async def take(self) -> None:
        for _ in range(self._rng.choice((0, 0, 1, 3, 20))):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(40))
async def test_removals_rebuilds_sweeps_and_a_deletion_in_any_order_lose_nothing(seed: int) -> None:
    rng = random.Random(seed)
    turns = SlowTurns(rng)
    lab = Lab(raw=TurnStore(turns), video=TurnStore(turns))
    job = await add(lab, rng.choice((None, Retention(keep=True))))
    deletes, rules = rng.random() < 0.3, SweepRules(grace=timedelta(seconds=0))

    async def act(name: str) -> None:
        for _ in range(rng.randrange(6)):
            lab.clock.advance(1)
            if name == "remove":
                await clean(lab.buckets, ALL)
            elif name == "sweep":
                await sweep(lab.buckets, lab.worker("sweeper"), rules)
            elif name == "view":
                with suppress(VideoNotFound):
                    await rebuild_video(lab.buckets, job.id)
            else:
                with suppress(LeaseLost, VideoDeleted):
                    await work(lab, lab.worker(name))

    async def delete() -> None:
        for _ in range(rng.randrange(200)):
            await asyncio.sleep(0)
        await delete_video(lab.buckets, job.id)

    names = ("remove", "remove", "sweep", "view", "view", "worker-1", "worker-2")
    await asyncio.gather(*map(act, names), *([delete()] if deletes else []))
    if not deletes:
        item = await read_item(lab.buckets, job.id)
        assert item.status.stage is not Stage.FAILED
        await rebuild_video(lab.buckets, job.id)
    while await work(lab, lab.worker("last")):
        pass
    lab.clock.advance(2 * DAY)
    await sweep(lab.buckets, lab.worker("sweeper"), rules)

    if deletes:
        assert await lab.video_keys() == await lab.raw_keys() == []
        return
    item = await read_item(lab.buckets, job.id)
    assert (item.kept, item.status.stage) == (None, Stage.COMPLETE)
    assert await paths_of(lab, job) == SEGMENTS.keys() | KEPT.keys()
    assert item.status.outputs is not None
    assert {item.status.outputs + path for path in SEGMENTS} <= set(await lab.video_keys())
    assert await lab.raw_keys() == ([keys.upload(job.id)] if job.original else [])
