"""Probes of what vodbucket relies on in a store, on fresh objects that are removed afterwards.

Stores accept conditions and ignore them; only trying tells. `check_creates` is quick and is what a worker
runs at start; `check_store` is all that can be tried through the store's interface, for `vodbucket doctor`.
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
from backend.core.errors import BucketMissing, ObjectNotFound, StoreDenied, StoreError, StoreUnavailable
from backend.core.store.interface import MIN_PART_BYTES, Store

START_WRITERS = 8
RACE_WRITERS = 16
RACE_ROUNDS = 5
REPETITIONS = 5
"""How often reads and LISTs follow a write: a store that lags does not lag each time."""
CLEAN_UP_SECONDS = 5.0
ONE_CLOCK_SECONDS = 5.0
"""Tolerated between `Last-Modified` and `Date`, both of which are whole seconds."""
CLOCK_WARN_SECONDS = 5.0
CLOCK_FAIL_SECONDS = 300.0
UPLOAD_DATE_SECONDS = 300.0


class Verdict(StrEnum):
    OK = "ok"
    INFO = "info"
    """Good to know; neither outcome is wrong."""
    WARN = "warn"
    """Works, with the drawback that the advice names."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of a report: what was found, and what to do about it."""

    name: str
    verdict: Verdict
    measured: str
    advice: str = ""
    """One line; empty where there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    measured: str


Key = Callable[[str], str]
"""Names an object of this probe; the empty name is the prefix of all of them."""


@dataclass(frozen=True, slots=True)
class Probe:
    """`run` may raise any StoreError, which is a failure as well."""

    name: str
    advice: str
    run: Callable[[Store, Key], Awaitable[Finding]]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def scratch(store: Store) -> AsyncIterator[Key]:
    """Hand out keys that nobody else uses; what is stored under them is deleted at the end."""
    nonce = secrets.token_hex(8)
    handed_out: set[str] = set()

    def key(name: str) -> str:
        if name:
            handed_out.add(keys.probe(nonce, name))
        return keys.probe(nonce, name)

    async def remove() -> None:
        # Where this fails, so has a check; and the sweeper comes by later.
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await store.delete_many(sorted(handed_out))

    try:
        yield key
    finally:
        await run_shielded(remove())


async def check_creates(store: Store) -> Check:
    """Find out in about 20 requests whether of several writers of one key exactly one wins.

    Raises:
        StoreUnavailable, StoreDenied, BucketMissing: the store could not be asked, which is no verdict.
    """
    async with scratch(store) as key:
        try:
            finding = await _create_twice(store, key)
            if finding.verdict is Verdict.OK:
                finding = await _race(store, key("race"), START_WRITERS)
        except (StoreUnavailable, StoreDenied, BucketMissing):
            raise
        except StoreError as error:
            finding = Finding(Verdict.FAIL, error.message)
    return _check(CREATES, finding)


async def check_store(store: Store, *, now: Callable[[], datetime] = _utc_now) -> AsyncIterator[Check]:
    """Run every probe, one after the other; a probe that the store refuses is a failed check."""

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
        return Finding(Verdict.FAIL, "the first write of a fresh key was told that it came too late")
    if second:
        return Finding(Verdict.FAIL, "the condition is ignored: a second write replaced the first")
    return Finding(Verdict.OK, "the second write of a key is refused")


async def _races(store: Store, key: Key) -> Finding:
    for number in range(RACE_ROUNDS):
        finding = await _race(store, key(f"race-{number}"), RACE_WRITERS)
        if finding.verdict is not Verdict.OK:
            return finding
    return Finding(Verdict.OK, f"{RACE_ROUNDS} rounds of {RACE_WRITERS} writers: one winner in each")


async def _race(store: Store, key: str, writers: int) -> Finding:
    bodies = [_nonce() for _ in range(writers)]
    answers = await asyncio.gather(*(store.create(key, body) for body in bodies), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    winners = [body for body, won in zip(bodies, answers, strict=True) if won]
    if len(winners) != 1:
        return Finding(Verdict.FAIL, f"{len(winners)} of {writers} writers of one key believe that they won")
    if (await store.get(key)).body != winners[0]:
        return Finding(Verdict.FAIL, "another body is stored than the winner's")
    return Finding(Verdict.OK, f"of {writers} writers of one key one won")


async def _read_after_write(store: Store, key: Key) -> Finding:
    for number in range(REPETITIONS):
        written = _nonce()
        await store.put(key(str(number)), written)
        if (await store.get(key(str(number)))).body != written:
            return Finding(Verdict.FAIL, "a read after a write gave another body")
    return Finding(Verdict.OK, f"{REPETITIONS} of {REPETITIONS} reads saw the write before them")


async def _list_after_write(store: Store, key: Key) -> Finding:
    for number in range(REPETITIONS):
        await store.put(key(str(number)), b"")
        listed = {info.key for info in (await store.list_page(key(""))).objects}
        if key(str(number)) not in listed:
            return Finding(Verdict.FAIL, "a LIST after a write did not show it")
    return Finding(Verdict.OK, f"{REPETITIONS} of {REPETITIONS} LISTs saw the write before them")


async def _list_pages(store: Store, key: Key) -> Finding:
    names = [key(name) for name in ("a", "b/1", "c")]
    for name in names:
        await store.put(name, b"")
    page = await store.list_page(key(""), start_after=names[0], limit=1)
    if ([info.key for info in page.objects], page.truncated) != (names[1:2], True):
        return Finding(Verdict.FAIL, "a LIST of one key after another one gave something else")
    return Finding(Verdict.OK, "a LIST begins after any key and is cut at any length")


async def _overwrite(store: Store, key: Key) -> Finding:
    for number in range(REPETITIONS):
        written = _nonce() * (number + 1)
        await store.put(key("k"), written)
        found, info = await store.get(key("k")), await store.head(key("k"))
        if found.body != written or info.size_bytes != len(written):
            return Finding(Verdict.FAIL, "a read after an overwrite gave the former body")
    return Finding(Verdict.OK, f"{REPETITIONS} of {REPETITIONS} reads saw the latest body")


async def _delete(store: Store, key: Key) -> Finding:
    await store.put(key("k"), b"")
    await store.delete(key("k"))
    try:
        await store.head(key("k"))
        return Finding(Verdict.FAIL, "a deleted object is still there")
    except ObjectNotFound:
        pass
    if (await store.list_page(key(""))).objects:
        return Finding(Verdict.FAIL, "a LIST still shows a deleted object")
    await store.delete(key("k"))
    return Finding(Verdict.OK, "gone at once, and deleting again is no error")


async def _ranged_read(store: Store, key: Key) -> Finding:
    body = bytes(range(256)) * 8
    await store.put(key("k"), body)
    tail = b"".join([chunk async for chunk in store.read(key("k"), 1000)])
    if tail != body[1000:]:
        return Finding(Verdict.FAIL, "a read from the middle of an object gave other bytes")
    return Finding(Verdict.OK, "a read begins at any byte")


async def _multipart(store: Store, key: Key) -> Finding:
    name = key("k")
    upload_id = await store.open_upload(name)
    try:
        parts = [
            await store.put_part(name, upload_id, 1, bytes(MIN_PART_BYTES)),
            await store.put_part(name, upload_id, 2, b"the end"),
        ]
        await store.complete_upload(name, upload_id, parts)
    except BaseException:  # a cancelled check leaves no open upload either
        await run_shielded(_drop(store, name, upload_id))
        raise
    tail = b"".join([chunk async for chunk in store.read(name, MIN_PART_BYTES)])
    if (await store.head(name)).size_bytes != MIN_PART_BYTES + len(b"the end") or tail != b"the end":
        return Finding(Verdict.FAIL, "the object is not what its parts were")
    return Finding(Verdict.OK, "two parts became one object")


async def _aborted_upload(store: Store, key: Key) -> Finding:
    name = key("k")
    upload_id = await store.open_upload(name)
    try:
        await store.put_part(name, upload_id, 1, b"never to be seen")
    finally:
        await run_shielded(_drop(store, name, upload_id))
    if [upload async for upload in store.list_uploads(key(""))]:
        return Finding(Verdict.FAIL, "an upload that was dropped is still listed")
    if (await store.list_page(key(""))).objects:
        return Finding(Verdict.FAIL, "an upload that was dropped left an object")
    return Finding(Verdict.OK, "nothing is left of it")


async def _open_uploads(store: Store, key: Key) -> Finding:
    name = key("k")
    upload_id = await store.open_upload(name)
    try:
        listed = [upload async for upload in store.list_uploads(key(""))]
        store_now = (await store.list_page(key(""))).store_now
    finally:
        await run_shielded(_drop(store, name, upload_id))
    if [(upload.key, upload.upload_id) for upload in listed] != [(name, upload_id)]:
        return Finding(Verdict.FAIL, "an upload that is under way is not listed")
    initiated = listed[0].initiated
    if abs((store_now - initiated).total_seconds()) > UPLOAD_DATE_SECONDS:
        return Finding(Verdict.FAIL, f"an upload that began just now is dated {initiated:%Y-%m-%d %H:%M}")
    return Finding(Verdict.OK, "listed, with the time at which they began")


async def _one_clock(store: Store, key: Key) -> Finding:
    await store.put(key("k"), b"")
    written = time.monotonic()
    page = await store.list_page(key(""))
    elapsed = time.monotonic() - written
    if not page.objects:
        return Finding(Verdict.FAIL, "a LIST after a write did not show it")
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


async def _drop(store: Store, key: str, upload_id: str) -> None:
    with suppress(StoreError):
        await store.abort_upload(key, upload_id)


def _nonce() -> bytes:
    return secrets.token_hex(16).encode()


_CREATES_ADVICE = (
    "Use a store that honours `If-None-Match: *` (AWS S3, Cloudflare R2, MinIO, Ceph), "
    "or never run more than one worker, with ONLY_WORKER=true."
)
_CONSISTENCY_ADVICE = "Use a strongly consistent store: nothing between it and vodbucket may cache."
_MULTIPART_ADVICE = "Uploads are sent in parts: use a store with S3 multipart uploads."
OUR_CLOCK_ADVICE = "Set this machine's clock by NTP: stores refuse requests signed 15 minutes off."

CREATES = Probe("create-only writes", _CREATES_ADVICE, _create_twice)
PROBES = (
    CREATES,
    Probe("create-only race", _CREATES_ADVICE, _races),
    Probe("read after write", _CONSISTENCY_ADVICE, _read_after_write),
    Probe("list after write", _CONSISTENCY_ADVICE, _list_after_write),
    Probe("list in pages", "Use a store with ListObjectsV2: StartAfter and MaxKeys.", _list_pages),
    Probe("overwrite", _CONSISTENCY_ADVICE, _overwrite),
    Probe("delete", _CONSISTENCY_ADVICE, _delete),
    Probe("ranged read", "Players seek by ranges: use a store that honours the Range header.", _ranged_read),
    Probe("multipart upload", _MULTIPART_ADVICE, _multipart),
    Probe("aborted upload", _MULTIPART_ADVICE, _aborted_upload),
    Probe(
        "open uploads",
        "The sweeper would drop uploads that are under way: set SWEEP_EVERY_SECONDS=0 on this store.",
        _open_uploads,
    ),
    Probe(
        "the store's clock",
        "Leases expire by these two times: set the clocks of the store's nodes by NTP.",
        _one_clock,
    ),
)
"""Each is safe to run while the product works."""
