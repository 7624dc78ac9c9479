"""`S3Store`: implements `backend.core.store.interface` with the SDK."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypedDict

from backend.core.backoff import Backoff
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import (
    BucketMissing,
    ObjectNotFound,
    SourceChanged,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    UploadVanished,
)
from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Body,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    OpenUpload,
    PresignedGet,
    StoredObject,
    UploadedPart,
    list_all,
)
from backend.core.store.s3.body import as_sent
from backend.core.store.s3.presign import Presigner
from backend.core.store.s3.sdk_errors import NOT_S3, PreconditionFailed, RangeBeyondEnd, map_sdk_errors

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.literals import BucketLocationConstraintType
    from types_aiobotocore_s3.type_defs import (
        CompletedPartTypeDef,
        CORSRuleTypeDef,
        LifecycleRuleOutputTypeDef,
        LifecycleRuleTypeDef,
        ListObjectsV2OutputTypeDef,
        PartTypeDef,
    )

ATTEMPTS = 5
"""For operations that the SDK must not retry by itself."""
BACKOFF = Backoff(first_seconds=0.1, longest_seconds=1, jitter=1)
"""With much jitter, as rival writers that collided should not collide again."""
DELETE_BATCH = 1000
"""The maximum for DeleteObjects."""
DELETES_IN_FLIGHT = 8
READ_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Clients:
    """Two clients of the same store."""

    retrying: "S3Client"
    """For everything that may be repeated without a check."""
    once: "S3Client"
    """For operations whose outcome must be checked before they are repeated."""
    read_seconds: float
    """How long one read of a streamed response may take."""


class S3Store:
    """One bucket."""

    def __init__(
        self,
        clients: Clients,
        name: str,
        presigner: Presigner,
        location: "BucketLocationConstraintType | None",
        *,
        only_writer: bool = False,
    ) -> None:
        """`location` is the region in which AWS creates a new bucket; None if the store needs none.

        With `only_writer`, a key is looked up before it is created, which is right as long as no other
        process creates the same key, even on a store that rejects or ignores the condition.
        """
        self.name = name
        self._s3 = clients.retrying
        self._s3_once = clients.once
        self._read_seconds = clients.read_seconds
        self._presigner = presigner
        self._location = location
        self._only_writer = only_writer
        self._conditions_work = True
        self._creating = asyncio.Lock()

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        with map_sdk_errors("writing", key):
            await self._s3.put_object(Bucket=self.name, Key=key, Body=as_sent(body), **_stored(headers))

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        if not self._only_writer:
            return await self._create(key, body, headers)
        async with self._creating:
            with suppress(ObjectNotFound):
                return (await self.get(key)).body == body
            if self._conditions_work:
                with suppress(StoreRejected):
                    return await self._create(key, body, headers)
            await self.put(key, body, headers)
            self._conditions_work = False  # it was the condition that the store rejected
            return True

    async def _create(self, key: str, body: bytes, headers: ObjectHeaders) -> bool:
        doubt: StoreUnavailable | None = None
        wrongly_taken = 0
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(BACKOFF.pause_seconds(attempt))
            try:
                with map_sdk_errors("creating", key):
                    await self._s3_once.put_object(
                        Bucket=self.name, Key=key, Body=body, IfNoneMatch="*", **_stored(headers)
                    )
                return True
            except StoreUnavailable as error:
                doubt = error
            # The key is taken, or our write succeeded but its response was lost, or nobody won (409).
            with suppress(ObjectNotFound, StoreUnavailable):
                return (await self.get(key)).body == body
            wrongly_taken += isinstance(doubt, PreconditionFailed)
        if wrongly_taken == ATTEMPTS:
            raise StoreRejected(f"creating {key}: the store answered 412, but there is no such object")
        raise StoreUnavailable(f"creating {key}: it is not known whether it was written") from doubt

    async def get(self, key: str) -> StoredObject:
        with map_sdk_errors("reading", key):
            answer = await self._s3.get_object(Bucket=self.name, Key=key)
            async with answer["Body"] as stream, asyncio.timeout(self._read_seconds):
                body = await stream.read()
        if len(body) != answer.get("ContentLength"):
            raise StoreUnavailable(f"reading {key}: the store's response was cut short")
        return StoredObject(
            body, ObjectInfo(key, len(body), answer["LastModified"], _etag(answer.get("ETag")))
        )

    async def head(self, key: str) -> ObjectInfo:
        with map_sdk_errors("looking up", key):
            answer = await self._s3.head_object(Bucket=self.name, Key=key)
        return _info(key, answer["ContentLength"], answer["LastModified"], answer.get("ETag"))

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        try:
            with map_sdk_errors("reading", key):
                ranged = await self._s3.get_object(Bucket=self.name, Key=key, Range=f"bytes={offset}-")
        except RangeBeyondEnd:
            # An empty object has no ranges. An object that is too short may be another one than requested.
            info = await self.head(key)
            _check_etag(key, etag, info.etag)
            if offset < info.size_bytes:
                raise StoreUnavailable(f"reading {key}: the store rejected a valid range") from None
            return
        async with ranged["Body"] as stream:
            # Stores disagree on quotes in If-Match, but all of them return the ETag.
            _check_etag(key, etag, _etag(ranged.get("ETag")))
            if not ranged.get("ContentRange", "" if offset else "bytes 0-").startswith(f"bytes {offset}-"):
                raise StoreUnavailable(f"reading {key}: the store ignored the requested range")
            # Without a length, an end cannot be told from a break. Only proxies send chunked responses.
            remaining = ranged.get("ContentLength", -1)
            while True:
                with map_sdk_errors("reading", key):
                    async with asyncio.timeout(self._read_seconds):
                        chunk = await stream.read(READ_CHUNK_BYTES)
                if not chunk:
                    break
                remaining -= len(chunk)
                yield chunk
        if remaining:
            raise StoreUnavailable(f"reading {key}: the store's response was cut short")

    async def delete(self, key: str) -> None:
        with map_sdk_errors("deleting", key), suppress(ObjectNotFound):
            await self._s3.delete_object(Bucket=self.name, Key=key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        if len(keys) == 1:
            await self.delete(keys[0])
            return
        for start in range(0, len(keys), DELETE_BATCH):
            batch = keys[start : start + DELETE_BATCH]
            try:
                failed = await self.delete_batch(batch)
            except (StoreUnavailable, BucketMissing):
                raise
            except StoreError:  # Google Cloud Storage and others have no DeleteObjects
                failed = batch
            # A single deletion works or gives the reason.
            for at in range(0, len(failed), DELETES_IN_FLIGHT):
                await gather_or_cancel(self.delete(key) for key in failed[at : at + DELETES_IN_FLIGHT])

    async def delete_batch(self, keys: Sequence[str]) -> Sequence[str]:
        """Delete up to 1,000 objects with one request, and return the keys that the store did not delete.

        Raises:
            StoreRejected: the store does not support it.
        """
        with map_sdk_errors("deleting many"):
            answer = await self._s3.delete_objects(
                Bucket=self.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        return [failed["Key"] for failed in answer.get("Errors", ())]

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        answer = await self._list("listing", prefix, start_after, limit)
        objects = tuple(
            _info(found["Key"], found["Size"], found["LastModified"], found.get("ETag"))
            for found in answer.get("Contents", ())
        )
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return Listing(objects, answer["IsTruncated"], _store_clock(date))

    async def _list(
        self, doing: str, prefix: str, start_after: str, limit: int
    ) -> "ListObjectsV2OutputTypeDef":
        answer = None
        with suppress(ObjectNotFound), map_sdk_errors(doing, prefix):
            answer = await self._s3.list_objects_v2(
                Bucket=self.name, Prefix=prefix, StartAfter=start_after, MaxKeys=limit
            )
        if answer is None or "IsTruncated" not in answer:
            raise StoreUnavailable(f"{doing} {prefix}: {NOT_S3}")
        return answer

    def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        return list_all(self, prefix)

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        with map_sdk_errors("opening the upload", key):
            answer = await self._s3.create_multipart_upload(Bucket=self.name, Key=key, **_stored(headers))
        return answer["UploadId"]

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        with map_sdk_errors("uploading a part of", key):
            answer = await self._s3.upload_part(
                Bucket=self.name, Key=key, UploadId=upload_id, PartNumber=number, Body=as_sent(body)
            )
        return UploadedPart(number, _etag(answer["ETag"]), len(body))

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
        with map_sdk_errors("copying a part of", source):
            answer = await self._s3.upload_part_copy(
                Bucket=self.name,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": bucket or self.name, "Key": source},
                CopySourceRange=f"bytes={offset}-{offset + size_bytes - 1}",
            )
        etag = _etag(answer.get("CopyPartResult", {}).get("ETag"))
        if not etag:
            raise StoreRejected(f"copying a part of {source}: the store ignored the source")
        return UploadedPart(number, etag, size_bytes)

    async def is_open(self, key: str, upload_id: str) -> bool:
        try:
            with map_sdk_errors("checking the upload", key):
                await self._s3.list_parts(Bucket=self.name, Key=key, UploadId=upload_id, MaxParts=1)
        except (ObjectNotFound, UploadVanished):
            return False
        return True

    async def list_parts(self, key: str, upload_id: str) -> list[UploadedPart]:
        newest: dict[int, PartTypeDef] = {}
        after, truncated = 0, True
        while truncated:
            try:
                with map_sdk_errors("listing the parts of", key):
                    page = await self._s3.list_parts(
                        Bucket=self.name, Key=key, UploadId=upload_id, PartNumberMarker=after
                    )
            except ObjectNotFound as error:
                raise UploadVanished from error
            found = page.get("Parts", ())
            for one in found:
                # SeaweedFS lists a part that was sent again with other bytes beside the one it replaced, both
                # dated to the second. Nothing tells which is which if they are of the same second.
                known = newest.get(one["PartNumber"], one)
                if known["ETag"] != one["ETag"] and known["LastModified"] == one["LastModified"]:
                    raise UploadVanished
                newest[one["PartNumber"]] = max(known, one, key=lambda part: part["LastModified"])
            truncated = page.get("IsTruncated", False) and bool(found)
            after = found[-1]["PartNumber"] if found else 0
        return [
            UploadedPart(number, _etag(one["ETag"]), one["Size"]) for number, one in sorted(newest.items())
        ]

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        listed: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts
        ]
        doubt: StoreUnavailable | None = None
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(BACKOFF.pause_seconds(attempt))
            try:
                with map_sdk_errors("completing the upload", key):
                    await self._s3_once.complete_multipart_upload(
                        Bucket=self.name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}
                    )
                return
            except UploadVanished:
                if await self._has_size(key, parts):
                    return
                raise
            except StoreUnavailable as error:
                doubt = error
            with suppress(StoreUnavailable):
                if await self._has_size(key, parts):
                    return
                # Ceph RGW 16 returns 500 if the upload is gone.
                if not await self.is_open(key, upload_id):
                    raise UploadVanished from doubt
        raise StoreUnavailable(
            f"completing the upload {key}: it is not known whether it succeeded"
        ) from doubt

    async def _has_size(self, key: str, parts: Sequence[UploadedPart]) -> bool:
        try:
            return (await self.head(key)).size_bytes == sum(part.size_bytes for part in parts)
        except ObjectNotFound:
            return False

    async def abort_upload(self, key: str, upload_id: str) -> None:
        with suppress(UploadVanished), map_sdk_errors("aborting the upload", key):
            await self._s3.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        after_key, after_upload, truncated = "", "", True
        while truncated:
            with map_sdk_errors("listing the uploads of", prefix):
                page = await self._s3.list_multipart_uploads(
                    Bucket=self.name, Prefix=prefix, KeyMarker=after_key, UploadIdMarker=after_upload
                )
            for upload in page.get("Uploads", ()):
                yield OpenUpload(upload["Key"], upload["UploadId"], upload["Initiated"].astimezone(UTC))
            after_key, after_upload = page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", "")
            truncated = page["IsTruncated"]

    def presign_get(self, key: str, how: PresignedGet) -> str:
        return self._presigner.get_url(key, how)

    async def exists(self) -> bool:
        """Return whether the bucket exists. Raises: StoreDenied: it belongs to another account."""
        # Not HEAD: its answer cannot say why it is a refusal, or that no S3 store answered.
        try:
            await self._list(f"checking the bucket {self.name}", "", "", 1)
        except BucketMissing:
            return False
        return True

    async def ensure_exists(self) -> None:
        """Create the bucket if it does not exist. Raises: StoreDenied: it belongs to another account."""
        if await self.exists():
            return
        try:
            with map_sdk_errors("creating the bucket", self.name):
                if self._location is None:
                    await self._s3.create_bucket(Bucket=self.name)
                else:
                    await self._s3.create_bucket(
                        Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": self._location}
                    )
        except StoreUnavailable:
            # Another process may have created it meanwhile, which is fine.
            if not await self.exists():
                raise

    async def allow_origins(self, origins: Sequence[str]) -> None:
        """Set the bucket's CORS rules: allow GET and HEAD, including ranges, to pages of these origins."""
        rule: CORSRuleTypeDef = {
            "AllowedMethods": ["GET", "HEAD"],
            "AllowedOrigins": list(origins),
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["Accept-Ranges", "Content-Length", "Content-Range", "ETag"],
            "MaxAgeSeconds": 3600,
        }
        with map_sdk_errors("setting the CORS rules of", self.name):
            await self._s3.put_bucket_cors(Bucket=self.name, CORSConfiguration={"CORSRules": [rule]})

    async def is_versioned(self) -> bool:
        """Return whether the bucket keeps old versions, or did so in the past."""
        with map_sdk_errors("reading the versioning of", self.name):
            return "Status" in await self._s3.get_bucket_versioning(Bucket=self.name)

    async def days_until_old_versions_are_deleted(self) -> int | None:
        """Return after how many days the store itself deletes old versions, or None if it never does."""
        days = [
            rule["NoncurrentVersionExpiration"].get("NoncurrentDays", 0)
            for rule in await self._lifecycle_rules()
            if rule["Status"] == "Enabled" and "NoncurrentVersionExpiration" in rule and _is_for_all(rule)
        ]
        return min(days, default=None)

    async def delete_old_versions_after(self, days: int) -> None:
        """Make the store itself delete versions this long after they were replaced or deleted."""
        await self._set_lifecycle_rule(
            {
                "ID": "vodbucket-delete-old-versions",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "NoncurrentVersionExpiration": {"NoncurrentDays": days},
                # A deletion leaves a marker, which LISTs step over until it goes with the last version.
                "Expiration": {"ExpiredObjectDeleteMarker": True},
            }
        )

    async def days_until_uploads_are_aborted(self) -> int | None:
        """Return after how many days the store itself aborts incomplete uploads, or None if it never does."""
        days = [
            rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            for rule in await self._lifecycle_rules()
            if rule["Status"] == "Enabled" and "AbortIncompleteMultipartUpload" in rule and _is_for_all(rule)
        ]
        return min(days, default=None)

    async def abort_uploads_after(self, days: int) -> None:
        """Make the store itself abort uploads that are incomplete for this long."""
        await self._set_lifecycle_rule(
            {
                "ID": "vodbucket-abort-incomplete-uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
            }
        )

    async def _set_lifecycle_rule(self, ours: "LifecycleRuleTypeDef") -> None:
        """Replace the rule of the same ID, and keep all others."""
        others = [rule for rule in await self._lifecycle_rules() if rule.get("ID") != ours["ID"]]
        with map_sdk_errors("setting the lifecycle rules of", self.name):
            await self._s3.put_bucket_lifecycle_configuration(
                Bucket=self.name, LifecycleConfiguration={"Rules": [*others, ours]}
            )

    async def _lifecycle_rules(self) -> "list[LifecycleRuleOutputTypeDef]":
        with suppress(ObjectNotFound), map_sdk_errors("reading the lifecycle rules of", self.name):
            answer = await self._s3.get_bucket_lifecycle_configuration(Bucket=self.name)
            return answer.get("Rules", [])
        return []


class _StoredHeaders(TypedDict, total=False):
    ContentType: str
    CacheControl: str
    ContentDisposition: str


def _stored(headers: ObjectHeaders) -> _StoredHeaders:
    stored = _StoredHeaders(ContentType=headers.content_type)
    if headers.cache_control is not None:
        stored["CacheControl"] = headers.cache_control
    if headers.content_disposition is not None:
        stored["ContentDisposition"] = headers.content_disposition
    return stored


def _info(key: str, size_bytes: int, modified: datetime, etag: str | None) -> ObjectInfo:
    return ObjectInfo(key, size_bytes, modified.astimezone(UTC), _etag(etag))


def _etag(quoted: str | None) -> str:
    return (quoted or "").strip('"')


def _check_etag(key: str, wanted: str | None, found: str) -> None:
    if wanted and wanted != found:
        raise SourceChanged(f"{key} was replaced while it was being read")


def _store_clock(date: str | None) -> datetime:
    try:
        return parsedate_to_datetime(date or "")
    except ValueError as error:
        raise StoreUnavailable("the store's response has no valid Date header") from error


def _is_for_all(rule: "LifecycleRuleOutputTypeDef") -> bool:
    """Return whether a lifecycle rule applies to all objects: it has no filter, or an empty one."""
    return not rule.get("Prefix") and not any((rule.get("Filter") or {}).values())
