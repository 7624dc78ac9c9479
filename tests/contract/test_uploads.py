"""The contract of every store: multipart uploads."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from backend.core.errors import ObjectNotFound, StoreError, UploadVanished
from backend.core.store.interface import MIN_PART_BYTES, ObjectHeaders, Store, UploadedPart
from backend.core.store.s3 import S3Buckets
from tests.contract.conftest import (
    on_stores_that_date_uploads,
    on_stores_that_replace_parts,
    on_stores_that_report_vanished_uploads,
)

FIRST = bytes(range(256)) * (MIN_PART_BYTES // 256)
LAST = b"the last part may be short"


async def _two_parts(store: Store, key: str) -> tuple[str, list[UploadedPart]]:
    upload_id = await store.open_upload(key)
    parts = await asyncio.gather(
        store.put_part(key, upload_id, 1, FIRST), store.put_part(key, upload_id, 2, LAST)
    )
    return upload_id, parts


async def test_parts_sent_concurrently_become_one_object(store: Store) -> None:
    upload_id, parts = await _two_parts(store, "k")

    await store.complete_upload("k", upload_id, parts)

    assert (await store.get("k")).body == FIRST + LAST
    assert [part.size_bytes for part in parts] == [len(FIRST), len(LAST)]


async def test_no_object_exists_before_the_upload_is_completed(store: Store) -> None:
    await _two_parts(store, "k")

    with pytest.raises(ObjectNotFound):
        await store.head("k")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_part_may_be_any_bytes_type(store: Store, kind: type) -> None:
    upload_id = await store.open_upload("k")

    part = await store.put_part("k", upload_id, 1, kind(FIRST))
    await store.complete_upload("k", upload_id, [part])

    assert (await store.get("k")).body == FIRST


async def test_a_part_that_is_sent_again_replaces_the_earlier_one(store: Store) -> None:
    upload_id, (first, _) = await _two_parts(store, "k")

    again = await store.put_part("k", upload_id, 2, b"sent again")
    await store.complete_upload("k", upload_id, [first, again])

    assert (await store.get("k")).body == FIRST + b"sent again"


async def test_completing_again_succeeds(store: Store) -> None:
    upload_id, parts = await _two_parts(store, "k")

    await store.complete_upload("k", upload_id, parts)
    await store.complete_upload("k", upload_id, parts)

    assert (await store.head("k")).size_bytes == len(FIRST) + len(LAST)


async def test_completing_an_aborted_upload_raises_vanished(store: Store) -> None:
    upload_id, parts = await _two_parts(store, "k")
    await store.abort_upload("k", upload_id)

    with pytest.raises(UploadVanished):
        await store.complete_upload("k", upload_id, parts)


async def test_an_older_object_is_not_mistaken_for_the_result_of_a_vanished_upload(store: Store) -> None:
    await store.put("k", b"older")
    upload_id, parts = await _two_parts(store, "k")
    await store.abort_upload("k", upload_id)

    with pytest.raises(UploadVanished):
        await store.complete_upload("k", upload_id, parts)


@on_stores_that_report_vanished_uploads
async def test_sending_a_part_of_an_aborted_upload_raises_vanished(store: Store) -> None:
    upload_id = await store.open_upload("k")
    await store.abort_upload("k", upload_id)

    with pytest.raises(UploadVanished):
        await store.put_part("k", upload_id, 1, LAST)


async def test_an_upload_can_be_aborted_twice(store: Store) -> None:
    upload_id, _ = await _two_parts(store, "k")

    await store.abort_upload("k", upload_id)
    await store.abort_upload("k", upload_id)

    assert [upload async for upload in store.list_uploads("")] == []


async def test_aborting_a_completed_upload_keeps_the_object(store: Store) -> None:
    upload_id, parts = await _two_parts(store, "k")
    await store.complete_upload("k", upload_id, parts)

    await store.abort_upload("k", upload_id)

    assert (await store.head("k")).size_bytes == len(FIRST) + len(LAST)


async def test_completing_with_a_part_that_was_never_sent_is_rejected(store: Store) -> None:
    upload_id, (first, _) = await _two_parts(store, "k")

    with pytest.raises(StoreError):
        await store.complete_upload("k", upload_id, [first, UploadedPart(3, "0" * 32, 1)])


async def test_open_uploads_are_listed_by_prefix(store: Store) -> None:
    wanted = {(key, await store.open_upload(key)) for key in ("p/a", "p/b", "p/b")}
    await store.open_upload("q/c")
    done = await store.open_upload("p/done")
    await store.complete_upload("p/done", done, [await store.put_part("p/done", done, 1, LAST)])

    found = [upload async for upload in store.list_uploads("p/")]

    assert {(upload.key, upload.upload_id) for upload in found} == wanted
    assert len(found) == len(wanted)


@on_stores_that_date_uploads
async def test_open_uploads_are_listed_with_their_start_time(store: Store) -> None:
    await store.open_upload("k")

    found = [upload async for upload in store.list_uploads("k")]

    assert all(abs(upload.initiated - datetime.now(UTC)) < timedelta(seconds=10) for upload in found)


async def test_parts_are_joined_in_order(store: Store) -> None:
    upload_id = await store.open_upload("k", ObjectHeaders(content_type="video/mp4"))
    bodies = [bytes([number]) * MIN_PART_BYTES for number in range(1, 5)]

    parts = await asyncio.gather(
        *(store.put_part("k", upload_id, number, body) for number, body in enumerate(bodies, start=1))
    )
    await store.complete_upload("k", upload_id, parts)

    assert (await store.get("k")).body == b"".join(bodies)


async def test_parts_of_an_open_upload_are_listed_in_order(store: Store) -> None:
    upload_id = await store.open_upload("k")
    assert await store.list_parts("k", upload_id) == []
    third = await store.put_part("k", upload_id, 3, LAST)
    await store.put_part("k", upload_id, 1, FIRST)
    first = await store.put_part("k", upload_id, 1, FIRST)

    assert await store.list_parts("k", upload_id) == [first, third]


@on_stores_that_replace_parts
async def test_only_the_later_of_two_parts_with_the_same_number_is_listed(store: Store) -> None:
    upload_id = await store.open_upload("k")
    await store.put_part("k", upload_id, 1, LAST)
    first = await store.put_part("k", upload_id, 1, FIRST)

    assert await store.list_parts("k", upload_id) == [first]


async def test_an_upload_can_be_completed_from_its_listed_parts(store: Store) -> None:
    upload_id, _ = await _two_parts(store, "k")

    await store.complete_upload("k", upload_id, await store.list_parts("k", upload_id))

    assert (await store.get("k")).body == FIRST + LAST


async def test_parts_are_listed_across_pages(served: S3Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    client = served.raw._s3
    monkeypatch.setattr(client, "list_parts", partial(client.list_parts, MaxParts=2))
    upload_id = await served.raw.open_upload("k")
    for number in range(1, 6):
        await served.raw.put_part("k", upload_id, number, b"x")

    parts = await served.raw.list_parts("k", upload_id)

    assert [part.number for part in parts] == [1, 2, 3, 4, 5]


@on_stores_that_report_vanished_uploads
async def test_listing_the_parts_of_an_aborted_upload_raises_vanished(store: Store) -> None:
    upload_id, _ = await _two_parts(store, "k")
    await store.abort_upload("k", upload_id)

    with pytest.raises(UploadVanished):
        await store.list_parts("k", upload_id)


async def test_an_upload_is_open_until_it_is_completed_or_aborted(store: Store) -> None:
    completed, parts = await _two_parts(store, "k")
    dropped = await store.open_upload("k")
    assert await store.is_open("k", completed)
    assert await store.is_open("k", dropped)

    await store.complete_upload("k", completed, parts)
    await store.abort_upload("k", dropped)

    assert not await store.is_open("k", completed)
    assert not await store.is_open("k", dropped)


async def test_a_part_can_be_copied_from_another_object(store: Store) -> None:
    await store.put("from/a b", FIRST + LAST)
    upload_id = await store.open_upload("k")

    parts = [
        await store.copy_part("k", upload_id, 1, "from/a b", 0, MIN_PART_BYTES),
        await store.copy_part("k", upload_id, 2, "from/a b", MIN_PART_BYTES + 4, 4),
    ]
    await store.complete_upload("k", upload_id, parts)

    assert (await store.get("k")).body == FIRST + LAST[4:8]


async def test_copying_a_part_of_a_missing_object_raises_not_found(store: Store) -> None:
    upload_id = await store.open_upload("k")

    with pytest.raises(ObjectNotFound):
        await store.copy_part("k", upload_id, 1, "missing", 0, 4)
