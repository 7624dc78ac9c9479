"""The order of the checks, and which are skipped after a failure."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from backend.core import keys
from backend.core.errors import BucketMissing, ClockSkewed, StoreDenied, StoreError, StoreUnavailable
from backend.core.settings import WorkerSettings
from backend.core.store.probes import CREATES, OUR_CLOCK_ADVICE, Check, Verdict, check_creates, check_store
from backend.core.store.s3 import S3Buckets, S3Store
from vodbucket.doctor.buckets import (
    check_batches,
    check_exists,
    check_import,
    check_lifecycle,
    check_permissions,
    check_times,
    check_versions,
)
from vodbucket.doctor.playback import check_playback
from vodbucket.doctor.webhooks import check_webhooks


async def examine(
    buckets: S3Buckets, origins: Sequence[str], upload_days: int, *, only_worker: bool
) -> AsyncIterator[Check]:
    """Check the store. Stops early if it is unreachable or a bucket is missing.

    The buckets must be opened without `only_worker`, so that they show what the store does.
    """
    reached = await _reach(buckets.raw)
    yield reached
    if reached.verdict is Verdict.FAIL:
        return
    try:
        async for check in _examine_buckets(buckets, origins, upload_days):
            yield _for_one_worker(check) if only_worker else check
    except StoreUnavailable as error:
        advice = "Repair the store, then run this again."
        yield Check("store", Verdict.FAIL, f"stopped responding: {error.message}", advice)


def _for_one_worker(check: Check) -> Check:
    """Return what a store without create-only writes means with ONLY_WORKER: it works, with a risk."""
    if check.verdict is not Verdict.FAIL or check.advice != CREATES.advice:
        return check
    advice = "ONLY_WORKER=true: keys are looked up first. Never start a second worker or API."
    return replace(check, verdict=Verdict.WARN, advice=advice)


async def _examine_buckets(
    buckets: S3Buckets, origins: Sequence[str], upload_days: int
) -> AsyncIterator[Check]:
    roles = {"raw": buckets.raw, "video": buckets.video}
    existing = [await check_exists(store, role) for role, store in roles.items()]
    for check in existing:
        yield check
    if any(check.verdict is Verdict.FAIL for check in existing):
        return
    permissions = [await check_permissions(store, role) for role, store in roles.items()]
    for check in permissions:
        yield check
    if any(check.verdict is Verdict.FAIL for check in permissions):
        return
    async for check in check_store(buckets.raw):
        yield check
    yield replace(await check_creates(buckets.video), name="create-only writes, video bucket")
    yield await check_batches(buckets.raw)
    async for check in check_times(buckets.raw):
        yield check
    async for check in check_playback(buckets.video, origins):
        yield check
    for role, store in roles.items():
        yield await check_lifecycle(store, role, upload_days)
        yield await check_versions(store, role)
    for bucket, imported in buckets.imports.items():
        yield await check_import(imported, bucket)
    async for check in check_webhooks(buckets.video):
        yield check


async def _reach(store: S3Store) -> Check:
    name = "store"
    started = time.perf_counter()
    try:
        await store.list_page(keys.DOCTOR, limit=1)
    except BucketMissing:
        pass  # the store responds; a missing bucket has its own check
    except ClockSkewed as error:
        return Check(name, Verdict.FAIL, error.message, OUR_CLOCK_ADVICE)
    except StoreDenied as error:
        advice = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and the bucket's policy."
        return Check(name, Verdict.FAIL, error.message, advice)
    except StoreError as error:
        advice = "Check S3_ENDPOINT_URL, and that the store is running and reachable from here."
        return Check(name, Verdict.FAIL, error.message, advice)
    return Check(name, Verdict.OK, f"responds in {(time.perf_counter() - started) * 1000:.0f} ms")


async def examine_machine(settings: WorkerSettings) -> AsyncIterator[Check]:
    """Check what a worker needs on this machine."""
    # Imported here because a machine without a worker may lack the worker's dependencies.
    from vodbucket.doctor.machine import check_machine

    async for check in check_machine(settings):
        yield check
