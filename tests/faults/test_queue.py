"""The queue under real processes and a real store: kills at every call, races, odd markers, deletions."""

import asyncio
import os
import signal
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.ids import new_id
from backend.core.jobs.job_queue import JobQueue
from backend.core.records import Job, Lease, Outputs
from backend.core.store.interface import PresignedGet, Store
from backend.core.store.prefixes import keys_below
from backend.core.sweep.sweeper import SweepRules, sweep
from tests.faults import victims
from tests.faults.lab import MIB, WireLab, film, run_worker
from tests.faults.light import LightPipeline
from tests.faults.registry import row
from tests.lab.product import NotStarted, product_on
from tests.lab.proxy import FaultProxy
from tests.lab.server import StoreServer
from tests.lab.wire_faults import Call, Forwarded, HeaderDropped, Reset, calls

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

SMALL = 300_000
MOST_CALLS = 80
VICTIM_SECONDS = 30
MOST_SECONDS = 180
SHORT_LEASE_SECONDS = 1.0


class Executioner:
    """Kills a process with SIGKILL at its n-th call to the store, which still reaches the store.

    A kill just before a call is the same as a kill just after the call before it.
    """

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self.kills = 0

    async def strike(self, victim: BaseProcess, number: int) -> bool:
        """Let the process run until that call. Return whether it was killed: it may end earlier."""
        rule = self._proxy.inject(
            calls(),
            Forwarded(),
            skip=number - 1,
            then=lambda _: os.kill(victim.pid or 0, signal.SIGKILL),
        )
        await asyncio.to_thread(victim.join, VICTIM_SECONDS)
        self._proxy.forget(rule)
        self.kills += rule.struck
        return bool(rule.struck)


@row(
    "worker-killed-at-every-call",
    fault="kill -9 of a worker at its n-th store call, for every n",
    expected="a later worker does the job, once; clean",
)
async def test_job_survives_worker_killed_at_any_call(lab: WireLab) -> int:
    executioner = Executioner(lab.proxy)
    body = film(SMALL)
    left: list[tuple[WireLab, str]] = []
    for number in range(1, MOST_CALLS):
        apart = await lab.with_buckets_of_its_own()
        left.append((apart, await apart.upload(body)))
        if not await executioner.strike(victims.start_worker(apart.through), number):
            break
    await asyncio.gather(*(apart.drain(lease_seconds=SHORT_LEASE_SECONDS) for apart, _ in left))
    for apart, video in left:
        await apart.assert_done((video, body))
    assert 15 < executioner.kills < MOST_CALLS - 1
    return executioner.kills


@row(
    "upload-killed-at-every-call",
    fault="kill -9 at the n-th store call of a two-part upload, for every n",
    expected="acknowledged ones published; the sweeper removes the rest",
)
async def test_upload_killed_at_any_call_is_kept_or_removed(lab: WireLab, tmp_path: Path) -> int:
    executioner = Executioner(lab.proxy)
    body = tmp_path / "film"
    body.write_bytes(film(9 * MIB))
    acknowledged = set()
    for number in range(1, MOST_CALLS):
        said = tmp_path / str(number)
        lived = not await executioner.strike(victims.start_upload(lab.through, body, said), number)
        if said.exists():
            acknowledged.add(said.read_text())
        if lived:
            break
    at_once = SweepRules(grace=timedelta(seconds=-5), uploads_after=timedelta(seconds=-5))
    async with lab.store() as buckets:
        await sweep(buckets, JobQueue(buckets, owner="sweeper", lease_seconds=1), at_once)
    await lab.drain()
    done = await lab.done()
    assert acknowledged <= done
    await lab.assert_done(*((video, body.read_bytes()) for video in done))
    assert executioner.kills >= 9
    return executioner.kills


@row(
    "killed-after-publication",
    fault="kill -9 of a worker between publication and deletion of the source",
    expected="the next worker only finishes; nothing encoded twice",
)
async def test_kill_after_publication_causes_no_second_encode(lab: WireLab) -> int:
    body = film(SMALL)
    video = await lab.upload(body)
    victim = victims.start_worker(lab.through)
    rule = lab.proxy.inject(
        calls("DeleteObject", key="uploads/"),
        Reset("request"),
        then=lambda _: os.kill(victim.pid or 0, signal.SIGKILL),
    )
    await asyncio.to_thread(victim.join, VICTIM_SECONDS)
    await lab.assert_source_is(video, body)
    await lab.drain(lease_seconds=SHORT_LEASE_SECONDS)
    assert lab.attempts == 0
    await lab.assert_done((video, body), attempt=1)
    return rule.struck


@row(
    "sixteen-workers",
    fault="16 workers rush at one job, three times",
    expected="claimed and published once",
)
async def test_one_of_sixteen_workers_claims_a_job(lab: WireLab) -> int:
    uploaded = []
    runs = 0
    for number in range(3):
        body = film(SMALL, seed=number)
        uploaded.append((await lab.upload(body), body))
        async with lab.buckets() as buckets:
            pipelines = [LightPipeline(buckets) for _ in range(16)]
            await asyncio.gather(*(run_worker(buckets, pipeline) for pipeline in pipelines))
        runs += sum(len(pipeline.runs) for pipeline in pipelines)
    assert runs == 3
    await lab.assert_done(*uploaded, attempt=1)
    return 3 * 16


@row(
    "many-leases",
    fault="1,200 leases precede a job in the LIST (two pages)",
    expected="found and done; other leases untouched",
)
async def test_finds_job_after_pages_of_other_leases(lab: WireLab) -> int:
    leases = await _foreign_leases(lab, 1200)
    body = film(SMALL)
    video = await lab.upload(body)
    async with lab.buckets() as buckets, asyncio.timeout(MOST_SECONDS):
        worker = asyncio.create_task(run_worker(buckets, LightPipeline(buckets), lease_seconds=600))
        while video not in await lab.done():  # noqa: ASYNC110  # a bucket has no events
            await asyncio.sleep(0.2)
        # The job's own lease is deleted last, after the job is done.
        await _until_there_are(leases, buckets.raw, keys.LEASES)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    async with lab.store() as buckets:
        await buckets.raw.delete_many(leases)
    await lab.assert_done((video, body), attempt=1)
    return len(leases)


@row(
    "odd-markers",
    fault="markers: unreadable, of a missing video, of a finished job",
    expected="none blocks others; all but the unreadable removed",
)
async def test_invalid_markers_stop_no_other_job(lab: WireLab) -> int:
    done_body, body = film(SMALL, 1), film(SMALL, 2)
    done_video = await lab.upload(done_body)
    async with lab.store() as buckets:
        again = (await buckets.raw.get(keys.marker(done_video))).body
        await lab.drain()
        await buckets.raw.put(keys.marker(done_video), again)
        nobodys = _job(new_id())
        await buckets.raw.put(keys.marker(nobodys.request), nobodys.to_json())
        unreadable = keys.marker(new_id())
        await buckets.raw.put(unreadable, b"{}")
        video = await lab.upload(body)
        async with lab.buckets() as through, asyncio.timeout(MOST_SECONDS):
            pipeline = LightPipeline(through)
            worker = asyncio.create_task(run_worker(through, pipeline))
            await _until_there_are([unreadable], buckets.raw)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        await buckets.raw.delete(unreadable)
    assert len(pipeline.runs) == 1
    await lab.assert_done((done_video, done_body), (video, body), attempt=1)
    return 3


@row(
    "deleted-meanwhile",
    fault="video deleted during its job, at three moments",
    expected="stops within a heartbeat; clean, and stays so",
)
async def test_deleting_video_stops_its_job(lab: WireLab) -> int:
    struck = 0
    for segment in (1, 3, 5):
        video = await lab.upload(film(6 * MIB))
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell(_: Call, loop: asyncio.AbstractEventLoop = loop, reached: asyncio.Event = reached) -> None:
            loop.call_soon_threadsafe(reached.set)

        rule = lab.proxy.inject(calls("PutObject", key="/media/"), Forwarded(), skip=segment - 1, then=tell)
        working = asyncio.create_task(lab.drain(lease_seconds=3, seconds_per_segment=0.3))
        await reached.wait()
        async with lab.api() as client:
            assert (await client.delete(f"/api/videos/{video}")).status_code == 204
            await working
            assert (await client.get(f"/api/videos/{video}/status")).status_code == 404
        await lab.assert_nothing_is_left()
        struck += rule.struck
    return struck


@row(
    "presigned-expired",
    fault="a player's presigned URL has expired",
    expected="refused; the same playback link yields a new one",
)
async def test_playback_link_replaces_expired_url(lab: WireLab) -> int:
    body = film(SMALL)
    video = await lab.upload(body)
    await lab.drain()
    outcome = await lab.outcome(video)
    assert isinstance(outcome, Outputs)
    key = keys.run_prefix(video, outcome.run) + keys.DOWNLOAD
    async with lab.store() as buckets, lab.api() as client:
        url = buckets.video.presign_get(key, PresignedGet(expires_seconds=1))
        playback = (await client.get(f"/api/videos/{video}/playback")).json()["webm"]
        async with lab.player() as player:
            async with asyncio.timeout(10):
                while (await player.get(url)).status_code != 403:  # noqa: ASYNC110  # the store's clock
                    await asyncio.sleep(0.2)
            del client.headers["authorization"]  # with it, media is not redirected
            fresh = await client.get(playback)
            assert fresh.status_code == 307
            assert (await player.get(fresh.headers["location"])).content == body
    await lab.assert_done((video, body))
    return 1


@row(
    "conditions-ignored",
    fault="the store ignores If-None-Match",
    expected="API and worker refuse to run and say why",
)
def test_api_and_worker_refuse_a_store_that_ignores_conditions(
    moto_server: StoreServer, tmp_path: Path
) -> int:
    with FaultProxy(moto_server) as proxy:
        rule = proxy.inject(calls("PutObject", conditional=True), HeaderDropped("if-none-match"), times=None)
        store = proxy.server
        with product_on(store.endpoint_url, store.access_key, store.secret_key, tmp_path) as product:
            with pytest.raises(NotStarted, match="does not honour create-only writes"):
                product.start_api()
            assert product.start_worker("--drain").wait(VICTIM_SECONDS) == 2
            assert "does not honour create-only writes" in product.log_of("worker")
    return rule.struck


def _job(video_id: str) -> Job:
    return Job.model_validate(
        {
            "id": video_id,
            "request": video_id,
            "source": keys.upload(video_id),
            "source_size_bytes": 1,
            "created_at": "2026-01-01T00:00:00Z",
        }
    )


async def _until_there_are(wanted: list[str], store: Store, prefix: str = "") -> None:
    while await keys_below(store, prefix) != wanted:  # noqa: ASYNC110  # a bucket has no events
        await asyncio.sleep(0.2)


async def _foreign_leases(lab: WireLab, count: int) -> list[str]:
    """Enter leases of another worker that lives; return their keys in order."""
    at_once = asyncio.Semaphore(32)
    async with lab.store() as buckets:

        async def enter(video_id: str) -> str:
            key = keys.lease(video_id, 0)
            async with at_once:
                lease = Lease(job=_job(video_id), owner="another", run="r0-0-another", attempt=1)
                await buckets.raw.put(key, lease.to_json())
            return key

        return sorted(await asyncio.gather(*(enter(new_id()) for _ in range(count))))
