"""`vodbucket jobs`, `retry`, `sweep` and `rotate-key`, as processes on moto."""

import asyncio

import pytest

from backend.core import keys
from backend.core.jobs.job_queue import JobQueue
from backend.core.records import Job, StatusError
from backend.core.store.interface import Buckets, Store
from backend.core.store.prefixes import keys_below
from backend.core.store.s3 import ensure_buckets
from tests.vodbucket.conftest import POLL_SECONDS, Installation, add

UNKNOWN = "01890000-0000-7000-8000-000000000000"


async def _fail(buckets: Buckets) -> None:
    """Fail one waiting job, as a worker does."""
    queue = JobQueue(buckets, owner="host-7", lease_seconds=60)
    claim = await queue.claim(await queue.poll())
    assert claim is not None
    await queue.bury(claim, StatusError(code="unsupported_media", message="This is [not] a video."))


async def test_jobs_prints_a_table(on_moto: Installation) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)
        failed = await add(buckets, "Broken")
        await _fail(buckets)
        running = await add(buckets, "Under way")
        queue = JobQueue(buckets, owner="host-7", lease_seconds=60)
        assert await queue.claim(await queue.poll()) is not None
        queued = await add(buckets, "Patient [b]")

    done = await on_moto.vodbucket("jobs")

    lines = [line.split() for line in done.out.splitlines()]
    assert done.status == 0
    for state, video, title in (
        ("running", running, "Under way"),
        ("queued", queued, "Patient [b]"),
        ("failed", failed, "Broken"),
    ):
        (row,) = (line for line in lines if line[:1] == [state])
        assert row[3:] == [video, *title.split()]
    assert "attempt 1 by host-7, heartbeat " in done.out
    assert "s ago; unsupported_media: This is [not] a video." in done.out
    assert done.out.splitlines()[-1] == "1 running, 1 queued, 1 failed"


async def test_jobs_prints_json_and_filters_by_state(on_moto: Installation) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)
        failed = await add(buckets)
        await _fail(buckets)
        await add(buckets)

    done = await on_moto.vodbucket("jobs", "--json", "--state", "failed")

    assert [(job["state"], job["video_id"]) for job in done.json["jobs"]] == [("failed", failed)]
    assert done.json["counts"]["queued"] == 1


async def test_retry_queues_failed_videos_and_continues_after_an_error(
    on_moto: Installation,
) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)
        videos = [await add(buckets) for _ in range(2)]
        for _ in videos:
            await _fail(buckets)

        done = await on_moto.vodbucket("retry", videos[0], UNKNOWN, "nonsense", videos[1], "--crf", "20")

        jobs = [Job.from_json((await buckets.raw.get(keys.marker(f"{one}.1"))).body) for one in videos]
    assert done.status == 1
    assert done.out.splitlines() == [f"queued: {video}.1" for video in videos]
    assert done.err.splitlines() == [
        f"vodbucket: {UNKNOWN}: There is no such video.",
        "vodbucket: nonsense: This is not a valid id.",
    ]
    assert [job.options.crf for job in jobs] == [20, 20]


async def test_retry_queues_all_failed_videos(on_moto: Installation) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)
        failed = [await add(buckets) for _ in range(2)]
        for _ in failed:
            await _fail(buckets)
        await add(buckets)

    done = await on_moto.vodbucket("retry", "--failed", failed[0])
    again = await on_moto.vodbucket("retry", "--failed")
    nothing = await on_moto.vodbucket("retry")

    assert done.status == 0
    assert sorted(done.out.splitlines()) == sorted(f"queued: {video}.1" for video in failed)
    assert (again.status, again.out) == (0, "")
    assert nothing.status == 2
    assert "give at least one video id, or --failed" in nothing.err


async def test_retry_needs_the_source(on_moto: Installation) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)
        video = await add(buckets)
        await _fail(buckets)
        await buckets.raw.delete(keys.upload(video))

    done = await on_moto.vodbucket("retry", video)

    assert (done.status, done.out) == (1, "")
    assert "is no longer stored" in done.err


async def _wait_a_second_on(store: Store) -> None:
    """Wait until everything is older than 0: the store's clock counts in whole seconds."""
    began = (await store.list_page("", limit=1)).store_now
    while (await store.list_page("", limit=1)).store_now <= began:  # noqa: ASYNC110  # a bucket has no events
        await asyncio.sleep(POLL_SECONDS)


async def test_sweep_removes_what_its_dry_run_lists(on_moto: Installation) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)
        kept = await add(buckets)
        left = await add(buckets)
        await buckets.video.delete(keys.video_record(left))
        await _wait_a_second_on(buckets.raw)

        dry = await on_moto.vodbucket("sweep", "--dry-run", "--grace", "0", "--uploads-older-than", "0")
        after_dry = [info.key async for info in buckets.raw.list_all(keys.UPLOADS)]
        young = await on_moto.vodbucket("sweep", "--json")
        done = await on_moto.vodbucket("sweep", "--json", "--grace", "0", "--uploads-older-than", "0")
        after = [info.key async for info in buckets.raw.list_all(keys.UPLOADS)]

    assert (dry.status, young.status, done.status) == (0, 0, 0)
    assert left in dry.out
    assert "would be cleaned up" in dry.out
    assert set(after_dry) == {keys.upload(kept), keys.upload(left)}
    assert young.json == {"findings": [], "dry_run": False}
    assert left in {finding["key"] for finding in done.json["findings"]}
    assert after == [keys.upload(kept)]


async def test_rotate_key_adds_a_key_and_retires_older_ones(on_moto: Installation) -> None:
    async with on_moto.buckets() as buckets:
        await ensure_buckets(buckets)
        added = [await on_moto.vodbucket("rotate-key") for _ in range(2)]
        both = await keys_below(buckets.video, keys.SIGNING_KEYS)
        retired = await on_moto.vodbucket("rotate-key", "--retire")
        left = await keys_below(buckets.video, keys.SIGNING_KEYS)

    assert [one.status for one in (*added, retired)] == [0, 0, 0]
    assert both == [keys.signing_key(1), keys.signing_key(2)]
    assert left == [keys.signing_key(3)]
    assert "Added key 3." in retired.out
    assert "Deleted 2 older." in retired.out


async def test_missing_bucket_is_one_sentence_and_exit_code_1(on_moto: Installation) -> None:
    done = await on_moto.vodbucket("jobs")

    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1] == "vodbucket: listing queue/: the bucket does not exist"


@pytest.mark.parametrize("arguments", [("jobs",), ("retry", UNKNOWN), ("sweep",)])
async def test_wrong_setting_is_one_sentence_and_exit_code_2(
    on_moto: Installation, arguments: tuple[str, ...]
) -> None:
    done = await on_moto.vodbucket(*arguments, AWS_SECRET_ACCESS_KEY="")

    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        "vodbucket: set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither"
    ]
