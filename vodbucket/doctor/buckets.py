"""Checks of the two buckets: existence, permissions, speed and clean-up rules."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from statistics import median

from rich.filesize import decimal

from backend.core import keys
from backend.core.errors import BucketMissing, ObjectNotFound, StoreDenied, StoreError, StoreRejected
from backend.core.store.interface import Store
from backend.core.store.probes import Check, Finding, Key, Probe, Verdict, run_probe, scratch
from backend.core.store.s3 import S3Store

SMALL_ROUNDS = 7
SLOW_SECONDS = 1.0
"""Above this median, lists and the start of playback feel slow."""
PART_BYTES = 8 * 1024**2
SLOW_BYTES_PER_SECOND = 2_000_000
LIFECYCLE = "clean-up rule, {} bucket"
VERSIONS = "old versions, {} bucket"
VERSION_DAYS = 1
"""Heartbeats write a version every few seconds, and deleted sources are large."""
_NO_RULE_ADVICE = (
    "Workers delete them when they sweep; `vodbucket doctor --fix` makes the store do it as well."
)


async def check_exists(store: S3Store, role: str) -> Check:
    name = f"{role} bucket"
    try:
        if await store.exists():
            return Check(name, Verdict.OK, store.name)
    except StoreDenied as error:
        return Check(
            name, Verdict.FAIL, error.message, "Allow s3:ListBucket on it, or choose a bucket of your own."
        )
    return Check(
        name,
        Verdict.FAIL,
        f"{store.name} does not exist",
        "Create it, or run `vodbucket doctor --fix`.",
    )


async def check_permissions(store: Store, role: str) -> Check:
    """Try each kind of operation and report those that are denied."""
    denied: list[str] = []

    async def attempt(action: str, operation: Callable[[], Awaitable[object]]) -> object:
        try:
            return await operation()
        except StoreDenied:
            denied.append(action)
        except StoreError:
            pass  # not about permissions; other checks report it
        return None

    async with scratch(store) as key:
        await attempt("s3:PutObject", lambda: store.put(key("k"), b"x"))
        await attempt("s3:GetObject", lambda: store.get(key("k")))
        await attempt("s3:ListBucket", lambda: store.list_page(key(""), limit=1))
        await attempt("s3:ListBucketMultipartUploads", lambda: anext(store.list_uploads(key("")), None))
        upload_id = await attempt("s3:PutObject (in parts)", lambda: store.open_upload(key("parts")))
        if isinstance(upload_id, str):
            await attempt("s3:AbortMultipartUpload", lambda: store.abort_upload(key("parts"), upload_id))
        await attempt("s3:DeleteObject", lambda: store.delete(key("k")))
    name = f"permissions, {role} bucket"
    if denied:
        missing = ", ".join(denied)
        return Check(name, Verdict.FAIL, f"denied: {missing}", "Grant these permissions to the access key.")
    return Check(name, Verdict.OK, "write, read, list, delete, multipart")


async def check_import(store: Store, bucket: str) -> Check:
    """Check that objects of a bucket in IMPORT_BUCKETS can be listed and read."""
    name, needed = f"import bucket {bucket}", "s3:GetObject and s3:ListBucket"
    try:
        objects = (await store.list_page("", limit=1)).objects
        with suppress(ObjectNotFound):
            await store.head(objects[0].key if objects else keys.DOCTOR)
    except BucketMissing:
        return Check(name, Verdict.WARN, "does not exist", "Create it, or remove it from IMPORT_BUCKETS.")
    except StoreDenied as error:
        return Check(name, Verdict.WARN, error.message, f"Grant {needed} to the access key.")
    return Check(name, Verdict.OK, "can be read")


async def check_batches(store: S3Store) -> Check:
    """Check that many objects can be deleted with one request."""

    async def delete_two(_: Store, key: Key) -> Finding:
        for name in ("a", "b"):
            await store.put(key(name), b"")
        try:
            await store.delete_batch([key("a"), key("b")])
        except StoreRejected as error:
            return Finding(Verdict.WARN, error.message)
        if (await store.list_page(key(""))).objects:
            return Finding(Verdict.FAIL, "a LIST still shows deleted objects")
        return Finding(Verdict.OK, "two objects were deleted with one request")

    advice = (
        "Objects are deleted one at a time: deleting videos and sweeping take longer and cost more requests."
    )
    return await run_probe(store, Probe("deletion of many", advice, delete_two))


async def check_times(store: Store) -> AsyncIterator[Check]:
    """Measure the operations that vodbucket uses most."""
    yield await run_probe(store, SMALL_OPERATIONS)
    yield await run_probe(store, PART_UPLOAD)


async def _small_operations(store: Store, key: Key) -> Finding:
    async def put(name: str) -> None:
        await store.put(name, b"x" * 500)

    async def list_it(name: str) -> None:
        await store.list_page(name)

    operations: dict[str, Callable[[str], Awaitable[object]]] = {
        "PUT": put,
        "GET": store.get,
        "LIST": list_it,
        "DELETE": store.delete,
    }
    seconds: dict[str, list[float]] = {name: [] for name in operations}
    for number in range(SMALL_ROUNDS):
        for name, operation in operations.items():
            started = time.perf_counter()
            await operation(key(str(number)))
            seconds[name].append(time.perf_counter() - started)
    medians = {name: median(taken) for name, taken in seconds.items()}
    verdict = Verdict.WARN if max(medians.values()) > SLOW_SECONDS else Verdict.OK
    return Finding(verdict, ", ".join(f"{name} {taken * 1000:.0f} ms" for name, taken in medians.items()))


async def _part_upload(store: Store, key: Key) -> Finding:
    upload_id = await store.open_upload(key("k"))
    try:
        started = time.perf_counter()
        await store.put_part(key("k"), upload_id, 1, bytes(PART_BYTES))
        taken = time.perf_counter() - started
    finally:
        with suppress(StoreError):
            await store.abort_upload(key("k"), upload_id)
    speed = PART_BYTES / taken
    verdict = Verdict.WARN if speed < SLOW_BYTES_PER_SECOND else Verdict.OK
    return Finding(verdict, f"{decimal(PART_BYTES)} in {taken:.2f} s: {decimal(int(speed))}/s")


async def check_lifecycle(store: S3Store, role: str, upload_days: int) -> Check:
    """Check for a lifecycle rule that deletes incomplete multipart uploads.

    A missing rule is only a warning, because the sweeper deletes them too. A rule with fewer than
    `upload_days` deletes uploads that can still be resumed.
    """
    name = LIFECYCLE.format(role)
    try:
        days = await store.days_until_uploads_are_aborted()
    except StoreError as error:
        return Check(
            name, Verdict.WARN, error.message, "Workers still delete unfinished uploads when they sweep."
        )
    if days is None:
        return Check(name, Verdict.WARN, "no rule deletes unfinished uploads", _NO_RULE_ADVICE)
    if days < upload_days:
        measured = f"uploads are deleted after {days} days, but UPLOAD_TTL_SECONDS needs {upload_days}"
        return Check(name, Verdict.WARN, measured, "Make the rule wait longer, or lower UPLOAD_TTL_SECONDS.")
    return Check(name, Verdict.OK, f"unfinished uploads are deleted after {days} days")


async def check_versions(store: S3Store, role: str) -> Check:
    """Check that the bucket does not keep what is replaced or deleted, or deletes it after a while."""
    name = VERSIONS.format(role)
    try:
        if not await store.is_versioned():
            return Check(name, Verdict.OK, "not kept")
        days = await store.days_until_old_versions_are_deleted()
    except StoreRejected:
        return Check(name, Verdict.OK, "not kept: the store knows no versions")
    except StoreError as error:
        return Check(name, Verdict.WARN, error.message, "Allow s3:GetBucketVersioning to have it checked.")
    if days is None:
        measured = "kept for ever: versioning is on, and no rule deletes them"
        advice = (
            "Deleted videos and each heartbeat keep costing storage: turn versioning off when you create the "
            f"bucket, or let `vodbucket doctor --fix` delete old versions after {VERSION_DAYS} day."
        )
        return Check(name, Verdict.WARN, measured, advice)
    return Check(name, Verdict.OK, f"deleted after {_days(days)}")


def _days(days: int) -> str:
    return f"{days} day" if days == 1 else f"{days} days"


SMALL_OPERATIONS = Probe(
    "small operations",
    "Run vodbucket closer to the store, or find out what makes the store slow.",
    _small_operations,
)
PART_UPLOAD = Probe("upload speed", "The connection to the store limits uploads and workers.", _part_upload)
