"""The queue protocol: every job is published exactly once, and nothing is lost or left behind."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest

from backend.core import keys
from backend.core.errors import AlreadyQueued, LeaseLost, StoreError, StoreUnavailable, VideoDeleted
from backend.core.ids import new_id
from backend.core.jobs import job_queue
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Leases, highest_generations
from backend.core.jobs.retry import next_request_number
from backend.core.library.videos import delete_video
from backend.core.records import Job, StatusError, Tombstone
from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Buckets,
    Listing,
    ObjectHeaders,
    Store,
    StoredObject,
)
from tests.core.jobs.queue_lab import LEASE_SECONDS, Clock, Fault, Lab, WorkerCrashed, crash, lost_answer
from tests.lab.memory_store import MemoryStore


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def test_sixteen_workers_claim_one_job_once(lab: Lab) -> None:
    for _ in range(20):
        await lab.add_job()
        claims = await asyncio.gather(*(lab.claim(lab.worker(f"w{n}")) for n in range(16)))
        assert sum(claim is not None for claim in claims) == 1


async def test_two_workers_encode_each_of_ten_jobs_once(lab: Lab) -> None:
    jobs = [await lab.add_job() for _ in range(10)]
    runs: list[str] = []

    async def work(name: str) -> None:
        queue = lab.worker(name)
        while claim := await lab.turn(queue):
            runs.append(claim.request)

    await asyncio.gather(work("one"), work("two"))

    assert sorted(runs) == sorted(job.request for job in jobs)
    assert await lab.raw_keys() == []


async def test_claiming_moves_the_job_from_its_marker_to_a_lease(lab: Lab) -> None:
    job = await lab.add_job()

    claim = await lab.claimed(lab.worker("one"))

    assert claim.lease.job == job
    assert await lab.raw_keys() == [keys.lease(job.request, 0), keys.upload(job.id)]


async def test_a_published_job_leaves_only_its_outputs(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one"))
    await lab.assert_published_and_clean(job)


async def test_keeps_the_source_if_originals_are_kept(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.turn(lab.worker("one", keep_originals=True))
    assert await lab.raw_keys() == [keys.upload(job.id)]


async def test_a_renewed_lease_is_not_taken_over(lab: Lab) -> None:
    await lab.add_job()
    holder, rival = lab.worker("holder"), lab.worker("rival")
    claim = await lab.claimed(holder)
    for _ in range(10):
        lab.clock.advance(LEASE_SECONDS / 3)
        await holder.renew(claim)
        assert await lab.claim(rival) is None


async def test_a_video_that_was_changed_a_thousand_times_is_not_taken_for_a_deleted_one(lab: Lab) -> None:
    job = await lab.add_job()
    worker = lab.worker("one")
    claim = await lab.claimed(worker)
    for number in range(1, LIST_PAGE + 1):
        await lab.video.put(keys.revision(job.id, number), b"{}")

    await worker.renew(claim)

    assert await lab.video.head(keys.video_record(job.id))


async def test_a_silent_workers_job_is_taken_over_after_the_lease_expires(lab: Lab) -> None:
    job = await lab.add_job()
    assert await lab.claim(lab.worker("silent"))
    rival = lab.worker("rival")

    lab.clock.advance(LEASE_SECONDS)
    assert await lab.claim(rival) is None
    lab.clock.advance(1)
    claim = await lab.claimed(rival)

    assert (claim.generation, claim.lease.attempt) == (1, 2)
    assert await lab.raw_keys() == [keys.lease(job.request, 1), keys.upload(job.id)]


async def test_one_of_sixteen_workers_takes_over_a_dead_lease(lab: Lab) -> None:
    await lab.add_job()
    assert await lab.claim(lab.worker("silent"))
    lab.clock.advance(LEASE_SECONDS + 1)
    claims = await asyncio.gather(*(lab.claim(lab.worker(f"w{n}")) for n in range(16)))
    assert sum(claim is not None for claim in claims) == 1


async def test_a_worker_that_wakes_up_late_notices_that_it_lost_and_cleans_up(lab: Lab) -> None:
    job = await lab.add_job()
    sleeper = lab.worker("sleeper")
    claim = await lab.claimed(sleeper)
    await lab.write_outputs(claim)
    lab.clock.advance(LEASE_SECONDS + 1)
    await lab.claimed(lab.worker("rival"))

    with pytest.raises(LeaseLost):
        await sleeper.renew(claim)
    await sleeper.discard_run(claim)

    assert keys.lease(job.request, 0) not in await lab.raw_keys()
    assert not any(claim.lease.run in key for key in await lab.video_keys())


async def test_a_worker_that_wakes_up_after_publication_notices_that_it_lost(lab: Lab) -> None:
    job = await lab.add_job()
    sleeper = lab.worker("sleeper")
    claim = await lab.claimed(sleeper)
    lab.clock.advance(LEASE_SECONDS + 1)
    await lab.turn(lab.worker("rival"))

    with pytest.raises(LeaseLost):
        await sleeper.renew(claim)
    await sleeper.clean_up_lost(claim)

    await lab.assert_published_and_clean(job)


async def test_the_first_finished_run_is_published_and_the_second_deleted(lab: Lab) -> None:
    job = await lab.add_job()
    sleeper, rival = lab.worker("sleeper"), lab.worker("rival")
    late = await lab.claimed(sleeper)
    late_outputs = await lab.write_outputs(late)
    lab.clock.advance(LEASE_SECONDS + 1)
    first = await lab.turn(rival)
    assert first is not None

    assert await sleeper.publish(late, late_outputs) is False

    assert (await lab.result(job)).run == first.lease.run
    await lab.assert_published_and_clean(job)


async def test_a_released_job_waits_until_it_is_due_and_counts_the_attempt(lab: Lab) -> None:
    await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    await queue.release(claim, retry_after_seconds=30, error="The encoder crashed.")

    lab.clock.advance(29)
    assert await lab.claim(lab.worker("two")) is None
    lab.clock.advance(1)
    again = await lab.claimed(lab.worker("two"))

    assert (again.lease.attempt, again.lease.last_error) == (2, "The encoder crashed.")


async def test_a_stopping_worker_hands_the_job_back_without_counting_the_attempt(lab: Lab) -> None:
    await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    await queue.release(claim, retry_after_seconds=0)
    lab.clock.advance(1)

    again = await lab.claimed(lab.worker("two"))

    assert again.lease.attempt == 1


async def test_a_failed_job_keeps_its_source_and_its_error(lab: Lab) -> None:
    job = await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    await lab.write_outputs(claim)

    await queue.bury(claim, StatusError(code="unsupported_media", message="Not a video."))

    assert await lab.raw_keys() == [keys.dead_letter(job.request), keys.upload(job.id)]
    status = await lab.status(job)
    assert (status.status, status.error) == (
        "error",
        StatusError(code="unsupported_media", message="Not a video."),
    )
    assert not any(claim.lease.run in key for key in await lab.video_keys())


async def test_a_heartbeat_notices_that_the_video_was_deleted(lab: Lab) -> None:
    job = await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    await delete_video(lab.buckets, job.id)
    await lab.write_outputs(claim)

    with pytest.raises(VideoDeleted):
        await queue.renew(claim)
    await queue.discard_deleted(claim)

    assert await lab.raw_keys() == []
    assert await lab.video_keys() == []


async def test_any_worker_cleans_up_the_job_of_a_deleted_video(lab: Lab) -> None:
    job = await lab.add_job()
    claim = await lab.claimed(lab.worker("dies"))
    await lab.write_outputs(claim)
    await delete_video(lab.buckets, job.id)
    lab.clock.advance(LEASE_SECONDS + 1)

    assert await lab.claim(lab.worker("finder")) is None

    assert await lab.raw_keys() == []
    assert await lab.video_keys() == []


async def test_a_tombstone_does_not_count_as_a_video(lab: Lab) -> None:
    job = await lab.add_job()
    assert await lab.claim(lab.worker("dies"))
    await lab.video.put(keys.video_record(job.id), Tombstone(removed=True).to_json())
    lab.clock.advance(LEASE_SECONDS + 1)

    assert await lab.claim(lab.worker("finder")) is None

    assert await lab.raw_keys() == []


async def test_a_worker_that_lost_its_connection_leaves_the_lease_for_a_successor(lab: Lab) -> None:
    job = await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    await lab.write_outputs(claim)

    await queue.clean_up_lost(claim)

    assert await lab.raw_keys() == [claim.key, keys.upload(job.id)]
    assert not any(claim.lease.run in key for key in await lab.video_keys())


@pytest.mark.parametrize("published", [False, True])
async def test_a_look_goes_with_its_run_unless_its_request_is_published(lab: Lab, published: bool) -> None:
    job = await lab.add_job()
    loser = lab.worker("loser")
    claim = await lab.claimed(loser)
    looks = [
        keys.run_prefix(job.id, keys.look_of_run(run)) + keys.MASTER_PLAYLIST
        for run in (claim.lease.run, keys.fallback_run(claim.lease.run))
    ]
    for look in looks:
        await lab.video.put(look, b"")
    lab.clock.advance(LEASE_SECONDS + 1)
    winner = lab.worker("winner")
    won = await lab.claimed(winner)
    if published:
        await winner.publish(won, await lab.write_outputs(won))

    await loser.clean_up_lost(claim)

    left = [key for key in await lab.video_keys() if key in looks]
    assert left == (looks if published else [])


async def test_a_worker_removes_a_lease_that_its_late_heartbeat_restored(lab: Lab) -> None:
    job = await lab.add_job()
    sleeper = lab.worker("sleeper")
    claim = await lab.claimed(sleeper)
    lab.clock.advance(LEASE_SECONDS + 1)
    await lab.turn(lab.worker("rival"))
    await lab.raw.put(claim.key, claim.lease.to_json())  # a late heartbeat

    await sleeper.clean_up_lost(claim)

    await lab.assert_published_and_clean(job)


async def test_outputs_of_a_publication_in_doubt_are_kept() -> None:
    """A write may arrive later than its worker waits for the response."""
    clock = Clock()
    doubtful = InDoubt(clock)
    lab = Lab(clock, video=doubtful)
    job = await lab.add_job()
    queue = lab.worker("one")
    claim = await lab.claimed(queue)
    outputs = await lab.write_outputs(claim)
    with pytest.raises(StoreUnavailable):
        await queue.publish(claim, outputs)

    await queue.release(claim, retry_after_seconds=0, error="doubt", outage=True)
    await queue.discard_run(claim)
    await doubtful.arrive()
    lab.clock.advance(1)
    await lab.turn(lab.worker("two"))

    await lab.assert_published_and_clean(job)


class InDoubt(MemoryStore):
    """A video bucket whose first publication arrives long after its writer has given up."""

    on_its_way: tuple[str, bytes] | None = None

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        if "/results/" in key and self.on_its_way is None:
            self.on_its_way = (key, body)
            raise StoreUnavailable
        return await super().create(key, body, headers)

    async def arrive(self) -> None:
        assert self.on_its_way is not None
        assert await super().create(*self.on_its_way)


async def test_a_lease_that_was_rewritten_since_the_list_is_not_taken_over(lab: Lab) -> None:
    await lab.add_job()
    holder, rival = lab.worker("holder"), lab.worker("rival")
    claim = await lab.claimed(holder)
    lab.clock.advance(LEASE_SECONDS + 1)
    seen = (await lab.raw.list_page(keys.LEASES)).objects

    await holder.release(claim, retry_after_seconds=LEASE_SECONDS, error="It broke.")
    leases = Leases(lab.raw, LEASE_SECONDS)

    assert await leases.takeable(highest_generations(seen), lab.clock()) == []
    assert await lab.claim(rival) is None


class DeletedAfterList:
    """A video bucket whose video is deleted right after a LIST."""

    def __init__(self, lab: Lab, job: Job) -> None:
        self._lab = lab
        self._job = job

    def __getattr__(self, name: str) -> object:
        return getattr(self._lab.video, name)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        page = await self._lab.video.list_page(prefix, start_after=start_after, limit=limit)
        await delete_video(self._lab.buckets, self._job.id)
        return page


async def test_a_video_deleted_while_its_job_is_cleaned_up_leaves_nothing(lab: Lab) -> None:
    job = await lab.add_job()
    dead = lab.worker("dead")
    claim = await lab.claimed(dead)
    outputs = await lab.write_outputs(claim)
    await lab.video.create(keys.result(job.id, job.request), outputs.to_json())
    lab.clock.advance(LEASE_SECONDS + 1)
    video = cast(Store, DeletedAfterList(lab, job))  # the other methods come from __getattr__
    finder = JobQueue(Buckets(lab.raw, video), owner="finder", lease_seconds=LEASE_SECONDS, now=lab.clock)

    assert await lab.claim(finder) is None

    assert await lab.raw_keys() == []
    assert await lab.video_keys() == []


async def _let_others_finish(lab: Lab) -> None:
    """Let other workers do whatever is left."""
    for name in ("second", "third"):
        lab.clock.advance(LEASE_SECONDS + 1)
        while await lab.turn(lab.worker(name)):
            pass


async def _strike_every_call(
    raises: Callable[[], BaseException], *, after_the_call: bool, after_a_dead_worker: bool = False
) -> None:
    """Fail a worker's whole turn at each of its store calls, from the first to the last."""
    at_call, struck = 0, True
    while struck:
        at_call += 1
        lab = Lab()
        job = await lab.add_job()
        if after_a_dead_worker:
            assert await lab.claim(lab.worker("first"))
            lab.clock.advance(LEASE_SECONDS + 1)
        fault = Fault(at_call, raises, after_the_call)
        try:
            await lab.turn(lab.worker("struck", fault=fault), lab.faulty(fault).video)
        except (WorkerCrashed, StoreError):
            await _let_others_finish(lab)
        struck = fault.struck
        await lab.assert_published_and_clean(job)
    assert at_call > 12


@pytest.mark.parametrize("after_the_call", [False, True], ids=["before", "after"])
async def test_a_worker_killed_at_any_store_call_loses_nothing_and_leaves_nothing(
    after_the_call: bool,
) -> None:
    await _strike_every_call(crash, after_the_call=after_the_call)


async def test_a_worker_killed_at_any_call_of_a_takeover_loses_nothing_and_leaves_nothing() -> None:
    await _strike_every_call(crash, after_the_call=True, after_a_dead_worker=True)


async def test_a_response_lost_at_any_store_call_loses_nothing_and_leaves_nothing() -> None:
    await _strike_every_call(lost_answer, after_the_call=True)


async def test_attempts_of_a_job_that_kills_every_worker_are_counted(lab: Lab) -> None:
    await lab.add_job()
    attempts = []
    for number in range(5):
        claim = await lab.claimed(lab.worker(f"w{number}"))
        attempts.append(claim.lease.attempt)
        lab.clock.advance(LEASE_SECONDS + 1)
    assert attempts == [1, 2, 3, 4, 5]


async def test_a_marker_left_by_a_crash_does_not_run_the_job_again(lab: Lab) -> None:
    job = await lab.add_job()
    await lab.raw.create(keys.lease(job.request, 0), b"")
    marker = (await lab.raw.get(keys.marker(job.request))).body
    await lab.raw.delete(keys.lease(job.request, 0))
    await lab.turn(lab.worker("one"))
    await lab.raw.put(keys.marker(job.request), marker)

    assert await lab.claim(lab.worker("two")) is None

    assert await lab.raw_keys() == []


async def test_unreadable_markers_do_not_block_other_jobs(lab: Lab) -> None:
    for _ in range(20):
        await lab.raw.put(keys.marker(new_id()), b'{"schema_version": 2}')
    job = await lab.add_job()

    claim = await lab.claimed(lab.worker("one"))

    assert claim.lease.job == job


async def test_polling_finds_queue_and_leases_among_a_thousand_uploads(lab: Lab) -> None:
    jobs = [await lab.add_job() for _ in range(3)]
    for number in range(1100):
        await lab.raw.put(f"uploads/{number:05}", b"")
    queue: JobQueue = lab.worker("one")
    claim = await lab.claimed(queue)
    snapshot = await queue.poll()
    assert [lease.request for lease in snapshot.leases] == [claim.request]
    assert len(snapshot.markers) == len(jobs) - 1


async def test_new_worker_among_many_running_jobs_reads_few_leases(lab: Lab) -> None:
    class Counting(MemoryStore):
        lease_reads = 0

        async def get(self, key: str) -> StoredObject:
            self.lease_reads += key.startswith(keys.LEASES)
            return await super().get(key)

    lab.raw = Counting(lab.clock)
    lab.buckets = Buckets(lab.raw, lab.video)
    busy = lab.worker("busy")
    for _ in range(200):
        await lab.add_job()
        await lab.claimed(busy)
    waiting = await lab.add_job()
    lab.clock.advance(LEASE_SECONDS / 2)
    assert isinstance(lab.raw, Counting)
    lab.raw.lease_reads = 0

    claim = await lab.claimed(lab.worker("new"))

    assert claim.request == waiting.request
    assert lab.raw.lease_reads <= 16


async def test_new_worker_finds_the_silent_lease_among_running_ones_at_once(lab: Lab) -> None:
    silent = await lab.add_job()
    await lab.claimed(lab.worker("dead"))
    lab.clock.advance(LEASE_SECONDS)
    busy = lab.worker("busy")
    for _ in range(100):
        await lab.add_job()
        await lab.claimed(busy)
    lab.clock.advance(2)

    claim = await lab.claimed(lab.worker("new"))

    assert (claim.request, claim.generation) == (silent.request, 1)


async def _claimed_first(lab: Lab, number: int) -> Counter[str]:
    """Let so many workers claim one job each. Return how many took the small one."""
    ranks = Counter[str]()
    for name in range(number):
        queue = lab.worker(str(name))
        snapshot = await queue.poll()
        waiting = snapshot.next_waiting(random.Random(name), 1)
        assert waiting is not None
        ranks[waiting.rank] += 1
    return ranks


async def test_what_costs_little_mostly_goes_before_what_waits_longer(lab: Lab) -> None:
    for unix_ms, rank in enumerate((keys.LARGE, keys.MEDIUM, keys.SMALL)):
        await lab.add_job(rank=rank, video_id=new_id(unix_ms))

    ranks = await _claimed_first(lab, 100)

    assert ranks[keys.SMALL] > 60
    assert ranks[keys.LARGE] > 10  # the oldest
    assert ranks[keys.MEDIUM] == 0


async def test_costly_jobs_are_seen_behind_any_number_of_cheap_ones(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_queue, "POLL_KEYS", 4)
    large = await lab.add_job(rank=keys.LARGE)
    fetched = await lab.add_job(rank=keys.FETCHED)
    for _ in range(9):
        await lab.add_job()

    snapshot = await lab.worker("one").poll()

    assert snapshot.truncated
    assert {large.request, fetched.request} <= {waiting.request for waiting in snapshot.markers}


async def test_jobs_of_every_rank_are_done_retried_and_deleted(lab: Lab) -> None:
    queue = lab.worker("one")
    for rank in keys.RANKS:
        job = await lab.add_job(rank=rank)
        with pytest.raises(AlreadyQueued):
            await next_request_number(lab.buckets, job.id)
        await delete_video(lab.buckets, job.id)
        assert await lab.raw_keys() == []
        done = await lab.add_job(rank=rank)
        assert await lab.turn(queue)
        await lab.assert_published_and_clean(done)
        await delete_video(lab.buckets, done.id)
