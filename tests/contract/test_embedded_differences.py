"""How SeaweedFS, the embedded store, differs from S3, and why vodbucket works on it anyway.

If a test fails here after an update, the difference may be gone. Then delete the test.
"""

import asyncio
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError

from backend.core.errors import UploadVanished
from backend.core.store.interface import MIN_PART_BYTES
from backend.core.store.s3 import S3Buckets
from tests.contract.conftest import on_the_embedded_store

pytestmark = on_the_embedded_store

OLD = b"o" * MIN_PART_BYTES
NEW = b"n" * (MIN_PART_BYTES + 1)


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


async def test_lists_are_in_directory_order(served: S3Buckets) -> None:
    """S3 sorts `a-1` before `a/b`. vodbucket relies only on the order of flat prefixes and of directories."""
    for key in ("a/b", "a-1", "a.info"):
        await served.raw.put(key, b"")

    assert [info.key async for info in served.raw.list_all("")] == ["a/b", "a-1", "a.info"]


async def test_paged_lists_return_each_key_once(served: S3Buckets) -> None:
    keys = ["leases/a-1/1", "leases/a/1", "leases/a/2", "uploads/a.info", "uploads/a.orig", "uploads/a/0"]
    for key in keys:
        await served.raw.put(key, b"")

    for limit in range(1, len(keys)):
        found: list[str] = []
        page = await served.raw.list_page("", limit=limit)
        while page.objects:
            found += [info.key for info in page.objects]
            page = await served.raw.list_page("", start_after=found[-1], limit=limit)
        assert sorted(found) == keys


async def test_a_list_after_an_object_skips_the_directory_of_the_same_name(served: S3Buckets) -> None:
    """In vodbucket, no key is also the directory of another key (docs/objects.md)."""
    for key in ("a", "a/b", "c"):
        await served.raw.put(key, b"")

    page = await served.raw.list_page("", start_after="a")

    assert [info.key for info in page.objects] == ["c"]


async def test_a_replaced_part_is_still_listed(served: S3Buckets) -> None:
    """The listing shows both parts, dated to the second; `S3Store.list_parts` picks the later one."""
    upload_id = await served.raw.open_upload("k")
    await served.raw.put_part("k", upload_id, 1, OLD)
    await asyncio.sleep(1.1)
    later = await served.raw.put_part("k", upload_id, 1, NEW)

    listed = await served.raw._s3.list_parts(Bucket=served.raw.name, Key="k", UploadId=upload_id)

    assert [part["PartNumber"] for part in listed["Parts"]] == [1, 1]
    assert await served.raw.list_parts("k", upload_id) == [later]


async def test_a_part_replaced_within_the_same_second_is_never_guessed(
    served: S3Buckets,
) -> None:
    """Their order is random. A client that sends a part again after a wrong checksum can be this fast."""
    for _ in range(5):  # their order is random
        upload_id = await served.raw.open_upload("k")
        await served.raw.put_part("k", upload_id, 1, OLD)
        later = await served.raw.put_part("k", upload_id, 1, NEW)

        with suppress(UploadVanished):
            assert await served.raw.list_parts("k", upload_id) == [later]


async def test_an_upload_can_be_completed_with_a_replaced_part(served: S3Buckets) -> None:
    """S3 answers InvalidPart. vodbucket only completes uploads with parts it has just listed or sent."""
    upload_id = await served.raw.open_upload("k")
    replaced = await served.raw.put_part("k", upload_id, 1, OLD)
    await served.raw.put_part("k", upload_id, 1, NEW)

    await served.raw.complete_upload("k", upload_id, [replaced])

    assert (await served.raw.get("k")).body == OLD


async def test_if_match_on_a_missing_key_returns_412(served: S3Buckets) -> None:
    """S3 answers 404. vodbucket never sends If-Match: it compares the ETag of what it reads."""
    with pytest.raises(ClientError) as refused:
        await served.raw._s3.put_object(Bucket=served.raw.name, Key="missing", Body=b"", IfMatch='"0"')

    assert _status(refused.value) == 412
