"""The doctor lists the operations that a store denies."""

import pytest

from backend.core.errors import BucketMissing, StoreDenied
from backend.core.store.interface import PLAIN, Listing, ObjectHeaders, ObjectInfo, StoredObject
from backend.core.store.probes import Verdict
from tests.lab.memory_store import MemoryStore
from vodbucket.doctor.buckets import check_import, check_permissions


class DeniesReading(MemoryStore):
    async def get(self, key: str) -> StoredObject:
        raise StoreDenied


class DeniesListing(MemoryStore):
    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        raise StoreDenied


class DeniesParts(MemoryStore):
    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        raise StoreDenied


class DeniesDeleting(MemoryStore):
    async def delete(self, key: str) -> None:
        raise StoreDenied

    async def abort_upload(self, key: str, upload_id: str) -> None:
        raise StoreDenied


@pytest.mark.parametrize(
    ("store", "denied"),
    [
        (DeniesReading(), "s3:GetObject"),
        (DeniesListing(), "s3:ListBucket"),
        (DeniesParts(), "s3:PutObject (in parts)"),
        (DeniesDeleting(), "s3:AbortMultipartUpload, s3:DeleteObject"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MemoryStore) else None,
)
async def test_lists_denied_operations(store: MemoryStore, denied: str) -> None:
    check = await check_permissions(store, "raw")

    assert (check.name, check.verdict) == ("permissions, raw bucket", Verdict.FAIL)
    assert check.measured == f"denied: {denied}"


class DeniesLookingUp(MemoryStore):
    async def head(self, key: str) -> ObjectInfo:
        raise StoreDenied


class Missing(MemoryStore):
    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = 1000) -> Listing:
        raise BucketMissing


@pytest.mark.parametrize(
    ("store", "verdict"),
    [
        (MemoryStore(), Verdict.OK),
        (DeniesListing(), Verdict.WARN),
        (DeniesLookingUp(), Verdict.WARN),
        (Missing(), Verdict.WARN),
    ],
)
async def test_says_whether_a_bucket_can_be_imported_from(store: MemoryStore, verdict: Verdict) -> None:
    check = await check_import(store, "films")

    assert (check.name, check.verdict) == ("import bucket films", verdict)


async def test_leaves_nothing_behind_with_all_permissions() -> None:
    store = MemoryStore()

    check = await check_permissions(store, "video")

    assert (check.verdict, check.advice) == (Verdict.OK, "")
    assert [info.key async for info in store.list_all("")] == []
    assert [upload.key async for upload in store.list_uploads("")] == []
