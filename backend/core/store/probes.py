"""Probes: test what vodbucket needs from a store, on new objects that are deleted afterwards.

Some stores accept conditions and ignore them, so only a test shows whether they work. `check_creates` is a
quick test that workers run when they start. `check_store` tests everything, for `vodbucket doctor`.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from backend.core import keys
from backend.core.concurrency import run_shielded
from backend.core.errors import (
    BucketMissing,
    ConfigurationError,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from backend.core.store.interface import MIN_PART_BYTES, Buckets, Store

START_WRITERS = 8
RACE_WRITERS = 16
RACE_ROUNDS = 5
REPETITIONS = 5
"""How many times a write is read back. A store that lags does not lag every time."""
CLEAN_UP_SECONDS = 5.0
ONE_CLOCK_SECONDS = 5.0
"""The tolerance between `Last-Modified` and `Date`, which are both in whole seconds."""
CLOCK_WARN_SECONDS = 5.0
CLOCK_FAIL_SECONDS = 300.0
UPLOAD_DATE_SECONDS = 300.0


class Verdict(StrEnum):
    OK = "ok"
    INFO = "info"
    """Information only; no outcome is wrong."""
    WARN = "warn"
    """It works, with the drawback that the advice describes."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of a report: what was measured, and what to do about it."""

    name: str
    verdict: Verdict
    measured: str
    advice: str = ""
    """One line; empty if there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    measured: str


Key = Callable[[str], str]
"""Turns a name into a key of this probe. The empty name gives the prefix of all its keys."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One test. If `run` raises a StoreError, that counts as a failure."""

    name: str
    advice: str
    run: Callable[[Store, Key], Awaitable[Finding]]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def scratch(store: Store) -> AsyncIterator[Key]:
    """Provide keys that nobody else uses. Their objects are deleted at the end."""
    nonce = secrets.token_hex(8)
    handed_out: set[str] = set()

    def key(name: str) -> str:
        if name:
            handed_out.add(keys.probe(nonce, name))
        return keys.probe(nonce, name)

    async def remove() -> None:
        # If this fails, a check has failed too. The sweeper deletes the rest later.
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await store.delete_many(sorted(handed_out))

    try:
        yield key
    finally:
        await run_shielded(remove())


async def require_creates(buckets: Buckets, *, writers: int = 0) -> None:
    """Test whether both buckets honour create-only writes, and with `writers` if exactly one of them wins.

    Jobs are claimed in one bucket and published in the other. With ONLY_WORKER, the stores that
    `backend.core.store.s3` opens pass, because they look up a key before they create it.

    Raises:
        ConfigurationError: one does not.
        StoreUnavailable, StoreDenied, BucketMissing: the test could not be run.
    """
    for store in (buckets.raw, buckets.video):
        # fails faster than a create when the store is away: a create retries to learn what became of it
        await store.list_page(keys.DOCTOR, limit=1)
        check = await check_creates(store, writers=writers)
        if check.verdict is not Verdict.OK:
            raise ConfigurationError(
                f"this store does not honour create-only writes ({check.measured}), so two workers would "
                "take the same job. Use another store, or set ONLY_WORKER=true for the API and the worker "
                "and never start a second one. `vodbucket doctor` has details"
            )


async def check_creates(store: Store, *, writers: int = START_WRITERS) -> Check:
    """Test with about 20 requests whether exactly one of several writers of a key wins.

    Raises:
        StoreUnavailable, StoreDenied, BucketMissing: the test could not be run, so there is no verdict.
    """
    async with scratch(store) as key:
        try:
            finding = await _create_twice(store, key)
            if writers and finding.verdict is Verdict.OK:
                finding = await _race(store, key("race"), writers)
        except (StoreUnavailable, StoreDenied, BucketMissing):
            raise
        except StoreError as error:
            finding = Finding(Verdict.FAIL, error.message)
    return _check(CREATES, finding)


async def check_store(store: Store, *, now: Callable[[], datetime] = _utc_now) -> AsyncIterator[Check]:
    """Run all probes one after another. If the store rejects a probe's request, that check fails."""

    async def our_clock(store: Store, _: Key) -> Finding:
        return await _our_clock(store, now)

    for probe in (*PROBES, Probe("this machine's clock", OUR_CLOCK_ADVICE, our_clock)):
        yield await run_probe(store, probe)


async def run_probe(store: Store, probe: Probe) -> Check:
    async with scratch(store) as key:
        try:
            finding = await probe.run(store, key)
        except StoreError as error:
            finding = Finding(Verdict.FAIL, error.message)
    return _check(probe, finding)


def _check(probe: Probe, finding: Finding) -> Check:
    advice = probe.advice if finding.verdict in {Verdict.WARN, Verdict.FAIL} else ""
    return Check(probe.name, finding.verdict, finding.measured, advice)


async def _create_twice(store: Store, key: Key) -> Finding:
    first = await store.create(key("twice"), _nonce())
    second = await store.create(key("twice"), _nonce())
    if not first:
        return Finding(Verdict.FAIL, "the first write of a new key was rejected as if the key existed")
    if second:
        return Finding(Verdict.FAIL, "the condition is ignored: a second write replaced the first")
    return Finding(Verdict.OK, "a second write of a key is rejected")


async def _races(store: Store, key: Key) -> Finding:
    for number in range(RACE_ROUNDS):
        finding = await _race(store, key(f"race-{number}"), RACE_WRITERS)
        if finding.verdict is not Verdict.OK:
            return finding
    return Finding(Verdict.OK, f"{RACE_ROUNDS} rounds of {RACE_WRITERS} writers: one winner each")


async def _race(store: Store, key: str, writers: int) -> Finding:
    bodies = [_nonce() for _ in range(writers)]
    answers = await asyncio.gather(*(store.create(key, body) for body in bodies), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    winners = [body for body, won in zip(bodies, answers, strict=True) if won]
    if len(winners) != 1:
        return Finding(
            Verdict.FAIL, f"{len(winners)} of {writers} writers of one key were told that they won"
        )
    if (await store.get(key)).body != winners[0]:
        return Finding(Verdict.FAIL, "the stored body is not the winner's")
    return Finding(Verdict.OK, f"one of {writers} writers of a key won")


async def _read_after_write(store: Store, key: Key) -> Finding:
    for number in range(REPETITIONS):
        written = _nonce()
        await store.put(key(str(number)), written)
        if (await store.get(key(str(number)))).body != written:
            return Finding(Verdict.FAIL, "a read after a write returned another body")
    return Finding(Verdict.OK, f"{REPETITIONS} of {REPETITIONS} reads saw the preceding write")


async def _list_after_write(store: Store, key: Key) -> Finding:
    for number in range(REPETITIONS):
        await store.put(key(str(number)), b"")
        listed = {info.key for info in (await store.list_page(key(""))).objects}
        if key(str(number)) not in listed:
            return Finding(Verdict.FAIL, _LIST_LAGS)
    return Finding(Verdict.OK, f"{REPETITIONS} of {REPETITIONS} LISTs saw the preceding write")


async def _list_pages(store: Store, key: Key) -> Finding:
    names = [key(name) for name in ("a", "b/1", "c")]
    for name in names:
        await store.put(name, b"")
    page = await store.list_page(key(""), start_after=names[0], limit=1)
    if ([info.key for info in page.objects], page.truncated) != (names[1:2], True):
        return Finding(Verdict.FAIL, "a LIST of one key after a given key returned something else")
    return Finding(Verdict.OK, "a LIST can start after any key and be limited to any length")


async def _overwrite(store: Store, key: Key) -> Finding:
    for number in range(REPETITIONS):
        written = _nonce() * (number + 1)
        await store.put(key("k"), written)
        found, info = await store.get(key("k")), await store.head(key("k"))
        if found.body != written or info.size_bytes != len(written):
            return Finding(Verdict.FAIL, "a read after an overwrite returned the old body")
    return Finding(Verdict.OK, f"{REPETITIONS} of {REPETITIONS} reads saw the latest body")


async def _delete(store: Store, key: Key) -> Finding:
    await store.put(key("k"), b"")
    await store.delete(key("k"))
    try:
        await store.head(key("k"))
        return Finding(Verdict.FAIL, "a deleted object still exists")
    except ObjectNotFound:
        pass
    if (await store.list_page(key(""))).objects:
        return Finding(Verdict.FAIL, "a LIST still shows a deleted object")
    await store.delete(key("k"))
    return Finding(Verdict.OK, "deleted at once, and deleting again is not an error")


async def _ranged_read(store: Store, key: Key) -> Finding:
    body = bytes(range(256)) * 8
    await store.put(key("k"), body)
    tail = b"".join([chunk async for chunk in store.read(key("k"), 1000)])
    if tail != body[1000:]:
        return Finding(Verdict.FAIL, "a read from the middle of an object returned the wrong bytes")
    return Finding(Verdict.OK, "a read can start at any byte")


async def _multipart(store: Store, key: Key) -> Finding:
    name = key("k")
    async with _open_upload(store, name, to_complete=True) as upload_id:
        parts = [
            await store.put_part(name, upload_id, 1, bytes(MIN_PART_BYTES)),
            await store.put_part(name, upload_id, 2, b"the end"),
        ]
        await store.complete_upload(name, upload_id, parts)
    tail = b"".join([chunk async for chunk in store.read(name, MIN_PART_BYTES)])
    size_bytes = (await store.head(name)).size_bytes
    if size_bytes != MIN_PART_BYTES + len(b"the end") or tail != b"the end":
        return Finding(Verdict.FAIL, "the object differs from its parts")
    return Finding(Verdict.OK, "two parts became one object")


async def _copied_range(store: Store, key: Key) -> Finding:
    source, name, body = key("source"), key("k"), bytes(range(256)) * (MIN_PART_BYTES // 256 + 1)
    await store.put(source, body)
    try:
        async with _open_upload(store, name, to_complete=True) as upload_id:
            part = await store.copy_part(name, upload_id, 1, source, 128, MIN_PART_BYTES)
            await store.complete_upload(name, upload_id, [part])
    except StoreRejected as error:
        return Finding(Verdict.WARN, error.message)
    if (await store.get(name)).body != body[128 : 128 + MIN_PART_BYTES]:
        return Finding(Verdict.FAIL, "something else than the range was copied")
    return Finding(Verdict.OK, "a part can be a range of another object")


async def _aborted_upload(store: Store, key: Key) -> Finding:
    name = key("k")
    async with _open_upload(store, name) as upload_id:
        await store.put_part(name, upload_id, 1, b"never to be seen")
    if [upload async for upload in store.list_uploads(key(""))]:
        return Finding(Verdict.FAIL, "an aborted upload is still listed")
    if (await store.list_page(key(""))).objects:
        return Finding(Verdict.FAIL, "an aborted upload left an object")
    return Finding(Verdict.OK, "it leaves nothing")


async def _open_uploads(store: Store, key: Key) -> Finding:
    name = key("k")
    async with _open_upload(store, name) as upload_id:
        listed = [upload async for upload in store.list_uploads(key(""))]
        store_now = (await store.list_page(key(""))).store_now
    if [(upload.key, upload.upload_id) for upload in listed] != [(name, upload_id)]:
        return Finding(Verdict.FAIL, "an open upload is not listed")
    initiated = listed[0].initiated
    if abs((store_now - initiated).total_seconds()) > UPLOAD_DATE_SECONDS:
        return Finding(Verdict.FAIL, f"an upload that just started is dated {initiated:%Y-%m-%d %H:%M}")
    return Finding(Verdict.OK, "listed with their start time")


async def _one_clock(store: Store, key: Key) -> Finding:
    await store.put(key("k"), b"")
    written = time.monotonic()
    page = await store.list_page(key(""))
    elapsed = time.monotonic() - written
    if not page.objects:
        return Finding(Verdict.FAIL, _LIST_LAGS)
    apart = (page.store_now - page.objects[0].modified).total_seconds()
    within = -ONE_CLOCK_SECONDS <= apart <= ONE_CLOCK_SECONDS + elapsed
    return Finding(
        Verdict.OK if within else Verdict.FAIL, f"Last-Modified and Date are {abs(apart):.0f} s apart"
    )


async def _our_clock(store: Store, now: Callable[[], datetime]) -> Finding:
    asked = now()
    store_now = (await store.list_page(keys.DOCTOR, limit=1)).store_now
    apart = (store_now - (asked + (now() - asked) / 2)).total_seconds()
    if abs(apart) <= CLOCK_WARN_SECONDS:
        verdict = Verdict.OK
    else:
        verdict = Verdict.WARN if abs(apart) <= CLOCK_FAIL_SECONDS else Verdict.FAIL
    return Finding(verdict, f"{abs(apart):.1f} s {'behind' if apart > 0 else 'ahead of'} the store's")


@asynccontextmanager
async def _open_upload(store: Store, key: str, *, to_complete: bool = False) -> AsyncIterator[str]:
    """Open a multipart upload for the block, and abort it at the end even if the check is cancelled.

    An upload `to_complete` is only aborted if the block fails.
    """
    upload_id = await store.open_upload(key)

    async def abort() -> None:
        with suppress(StoreError):
            await store.abort_upload(key, upload_id)

    try:
        yield upload_id
    except BaseException:  # including cancellation
        await run_shielded(abort())
        raise
    if not to_complete:
        await run_shielded(abort())


def _nonce() -> bytes:
    return secrets.token_hex(16).encode()


_LIST_LAGS = "a LIST after a write did not show it"
_CREATES_ADVICE = (
    "Use a store that honours `If-None-Match: *` (AWS S3, Cloudflare R2, MinIO, Ceph, SeaweedFS), "
    "or run a single worker with ONLY_WORKER=true."
)
_CONSISTENCY_ADVICE = "Use a strongly consistent store, with no cache between it and vodbucket."
_MULTIPART_ADVICE = "Use a store with S3 multipart uploads: files are uploaded in parts."
OUR_CLOCK_ADVICE = (
    "Synchronise this machine's clock with NTP. Until then, requests are signed by the store's clock."
)

CREATES = Probe("create-only writes", _CREATES_ADVICE, _create_twice)
PROBES = (
    CREATES,
    Probe("create-only race", _CREATES_ADVICE, _races),
    Probe("read after write", _CONSISTENCY_ADVICE, _read_after_write),
    Probe("list after write", _CONSISTENCY_ADVICE, _list_after_write),
    Probe("list in pages", "Use a store that supports StartAfter and MaxKeys in ListObjectsV2.", _list_pages),
    Probe("overwrite", _CONSISTENCY_ADVICE, _overwrite),
    Probe("delete", _CONSISTENCY_ADVICE, _delete),
    Probe("ranged read", "Use a store that honours the Range header: players need it to seek.", _ranged_read),
    Probe("multipart upload", _MULTIPART_ADVICE, _multipart),
    Probe(
        "copy of a range",
        "Uploads in several pieces are joined by reading and sending them once more, through the API.",
        _copied_range,
    ),
    Probe("aborted upload", _MULTIPART_ADVICE, _aborted_upload),
    Probe(
        "open uploads",
        "The sweeper would abort running uploads: set SWEEP_EVERY_SECONDS=0 with this store.",
        _open_uploads,
    ),
    Probe(
        "the store's clock",
        "Leases depend on both times: synchronise the clocks of the store's nodes with NTP.",
        _one_clock,
    ),
)
"""All of them are safe to run in production."""
