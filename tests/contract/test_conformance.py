"""The probes: conforming stores pass all of them, and each defect fails the probe for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from backend.core.errors import (
    BucketMissing,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from backend.core.store.interface import (
    PLAIN,
    Body,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    OpenUpload,
    StoredObject,
    UploadedPart,
)
from backend.core.store.interface import Store as AnyStore
from backend.core.store.probes import Check, Verdict, check_creates, check_store
from tests.lab.memory_store import MemoryStore


async def _checked(store: AnyStore, now: Callable[[], datetime] | None = None) -> dict[str, Check]:
    checks = check_store(store) if now is None else check_store(store, now=now)
    return {check.name: check async for check in checks}


async def _leftovers(store: AnyStore) -> list[str]:
    return [info.key async for info in store.list_all("")] + [
        upload.key async for upload in store.list_uploads("")
    ]


async def test_a_conforming_store_passes_and_the_probes_leave_nothing_in_it(store: AnyStore) -> None:
    quick = await check_creates(store)
    checks = await _checked(store)

    assert quick.verdict is Verdict.OK
    failed = [check for check in checks.values() if check.verdict is not Verdict.OK]
    assert [check.name for check in failed] == _known_failures(failed)
    assert await _leftovers(store) == []


def _known_failures(failed: list[Check]) -> list[str]:
    """Return the failures expected of moto, which dates every upload in 2010."""
    return [check.name for check in failed if check.measured.endswith("is dated 2010-11-10 20:48")]


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.reads = 0

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        self.writes += 1
        return await super().create(key, body, headers)

    async def get(self, key: str) -> StoredObject:
        self.reads += 1
        return await super().get(key)


async def test_the_quick_probe_writes_ten_times() -> None:
    store = CountingStore()

    await check_creates(store)

    assert (store.writes, store.reads) == (10, 1)


class IgnoresConditions(MemoryStore):
    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await self.put(key, body, headers)
        return True


class DecidesLate(MemoryStore):
    """Checks that a key is free and writes a little later, as SeaweedFS did."""

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        try:
            await self.head(key)
            return False
        except ObjectNotFound:
            await asyncio.sleep(0)
            await self.put(key, body, headers)
            return True


class RefusesConditions(MemoryStore):
    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        raise StoreError("creating: the store answered 501 NotImplemented")


class RejectsEveryWriter(MemoryStore):
    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        await super().create(key, body, headers)
        return False


@pytest.mark.parametrize(
    ("broken", "measured"),
    [
        (IgnoresConditions, "the condition is ignored: a second write replaced the first"),
        (DecidesLate, "8 of 8 writers of one key were told that they won"),
        (RefusesConditions, "creating: the store answered 501 NotImplemented"),
        (RejectsEveryWriter, "the first write of a new key was rejected as if the key existed"),
    ],
)
async def test_the_quick_probe_detects_a_broken_store(broken: type[MemoryStore], measured: str) -> None:
    store = broken()

    check = await check_creates(store)

    assert (check.verdict, check.measured) == (Verdict.FAIL, measured)
    assert "ONLY_WORKER" in check.advice
    assert await _leftovers(store) == []


@pytest.mark.parametrize("error", [StoreUnavailable, StoreDenied, BucketMissing])
async def test_an_unreachable_or_forbidden_store_gets_no_verdict(error: type[StoreError]) -> None:
    class Unreachable(MemoryStore):
        async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
            raise error

    with pytest.raises(error):
        await check_creates(Unreachable())


class ReadsAreStale(MemoryStore):
    """Returns the first version of an object even after it was overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, StoredObject] = {}

    async def get(self, key: str) -> StoredObject:
        return self._first.setdefault(key, await super().get(key))


class ListsAreStale(MemoryStore):
    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        page = await super().list_page(prefix, start_after=start_after, limit=limit)
        return Listing(page.objects[:-1], page.truncated, page.store_now)


class ListsFromTheStart(MemoryStore):
    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        return await super().list_page(prefix, limit=limit)


class KeepsWhatIsDeleted(MemoryStore):
    async def delete(self, key: str) -> None:
        return


class IgnoresRanges(MemoryStore):
    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        async for chunk in super().read(key, 0, etag=etag):
            yield chunk


class CopiesFromTheStart(MemoryStore):
    async def copy_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        source: str,
        offset: int,
        size_bytes: int,
        *,
        bucket: str | None = None,
    ) -> UploadedPart:
        return await super().copy_part(key, upload_id, number, source, 0, size_bytes)


class CopiesWholeObjects(MemoryStore):
    async def copy_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        source: str,
        offset: int,
        size_bytes: int,
        *,
        bucket: str | None = None,
    ) -> UploadedPart:
        whole = (await self.head(source)).size_bytes
        return await super().copy_part(key, upload_id, number, source, 0, whole)


class LosesAPart(MemoryStore):
    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        await super().complete_upload(key, upload_id, parts[:1])


class KeepsDroppedUploads(MemoryStore):
    async def abort_upload(self, key: str, upload_id: str) -> None:
        return


class HidesUploads(MemoryStore):
    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        for upload in ():
            yield upload


class DatesAllUploadsTheSame(MemoryStore):
    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        async for upload in super().list_uploads(prefix):
            yield OpenUpload(upload.key, upload.upload_id, datetime(2010, 11, 10, tzinfo=UTC))


class HasTwoClocks(MemoryStore):
    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        page = await super().list_page(prefix, start_after=start_after, limit=limit)
        behind = tuple(
            ObjectInfo(info.key, info.size_bytes, info.modified - timedelta(seconds=40))
            for info in page.objects
        )
        return Listing(behind, page.truncated, page.store_now)


class LosesOverwrites(MemoryStore):
    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await super().create(key, bytes(body), headers)


@pytest.mark.parametrize(
    ("broken", "failing"),
    [
        (IgnoresConditions, {"create-only writes", "create-only race"}),
        (DecidesLate, {"create-only race"}),
        (ReadsAreStale, {"overwrite"}),
        (LosesOverwrites, {"overwrite"}),
        (ListsAreStale, {"list after write", "list in pages", "the store's clock"}),
        (ListsFromTheStart, {"list in pages"}),
        (KeepsWhatIsDeleted, {"delete"}),
        (IgnoresRanges, {"ranged read", "multipart upload"}),
        (LosesAPart, {"multipart upload"}),
        (CopiesFromTheStart, {"copy of a range"}),
        (CopiesWholeObjects, {"copy of a range"}),
        (KeepsDroppedUploads, {"aborted upload"}),
        (HidesUploads, {"open uploads"}),
        (DatesAllUploadsTheSame, {"open uploads"}),
        (HasTwoClocks, {"the store's clock"}),
    ],
)
async def test_a_broken_store_fails_exactly_the_checks_for_its_defect(
    broken: type[MemoryStore], failing: set[str]
) -> None:
    checks = await _checked(broken())

    assert {name for name, check in checks.items() if check.verdict is Verdict.FAIL} == failing
    assert all(bool(check.advice) == (check.verdict is not Verdict.OK) for check in checks.values())


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(2, Verdict.OK), (-60, Verdict.WARN), (60, Verdict.WARN), (400, Verdict.FAIL)]
)
async def test_this_machines_clock_is_compared_with_the_stores(ahead: float, verdict: Verdict) -> None:
    checks = await _checked(MemoryStore(), lambda: datetime.now(UTC) + timedelta(seconds=ahead))

    check = checks["this machine's clock"]
    assert check.verdict is verdict
    assert check.measured == f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the store's"


async def test_a_store_that_cannot_copy_ranges_gets_a_warning_and_keeps_no_upload() -> None:
    class NoCopies(MemoryStore):
        async def copy_part(
            self,
            key: str,
            upload_id: str,
            number: int,
            source: str,
            offset: int,
            size_bytes: int,
            *,
            bucket: str | None = None,
        ) -> UploadedPart:
            raise StoreRejected("copying a part: the store answered 501 NotImplemented")

    store = NoCopies()
    checks = await _checked(store)

    assert checks["copy of a range"].verdict is Verdict.WARN
    assert {check.verdict for check in checks.values()} == {Verdict.OK, Verdict.WARN}
    assert await _leftovers(store) == []


async def test_completed_uploads_are_not_aborted() -> None:
    class Strict(MemoryStore):
        async def abort_upload(self, key: str, upload_id: str) -> None:
            assert await self.is_open(key, upload_id)
            await super().abort_upload(key, upload_id)

    checks = await _checked(Strict())

    assert {check.verdict for check in checks.values()} == {Verdict.OK}


async def test_a_refused_probe_fails_and_the_others_still_run() -> None:
    class NoMultipart(MemoryStore):
        async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
            raise StoreError("opening the upload: the store answered 501 NotImplemented")

    checks = await _checked(NoMultipart())

    assert {name for name, check in checks.items() if check.verdict is Verdict.FAIL} == {
        "multipart upload",
        "copy of a range",
        "aborted upload",
        "open uploads",
    }
    assert checks["multipart upload"].measured == "opening the upload: the store answered 501 NotImplemented"
