"""Buckets on any S3-compatible store. The only module that knows the SDK (aiobotocore) and its errors.

`open_buckets` is the way in; `ensure_buckets` and `configure_cors` prepare a new store. What each verb
obliges is said in `backend.core.store`.
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypedDict, cast

import aiohttp
import structlog
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError
from botocore.parsers import ResponseParserError

from backend.core.errors import (
    ConfigurationError,
    ObjectNotFound,
    SourceChanged,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    UploadVanished,
)
from backend.core.presign import Credentials, Presigner
from backend.core.settings import StoreSettings
from backend.core.store import (
    LIST_PAGE,
    PLAIN,
    Body,
    Buckets,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    OpenUpload,
    PresignedGet,
    StoredObject,
    UploadedPart,
)

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.literals import BucketLocationConstraintType
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef, CORSRuleTypeDef

CREATE_ATTEMPTS = 5
CREATE_BACKOFF_SECONDS = 0.1
DELETE_BATCH = 1000
"""DeleteObjects takes no more."""
READ_CHUNK_BYTES = 256 * 1024
SEND_CHUNK_BYTES = 256 * 1024
CREDENTIALS_REFRESH_SECONDS = 60.0

_log = structlog.get_logger()


def _keep_alive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """The SDK's own `tcp_keepalive` does not reach aiohttp."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


def _config(settings: StoreSettings, *, attempts: int, read_seconds: float, sign_bodies: bool) -> AioConfig:
    return AioConfig(
        # The SDK presigns and signs with version 2 for some custom endpoints unless told otherwise.
        signature_version="s3v4",
        # AWS_ENDPOINT_URL and the SDK's own files would send us where presigned URLs do not point.
        ignore_configured_endpoint_urls=True,
        # Other stores rarely have a DNS name per bucket; AWS gives new buckets no other style for ever.
        s3={
            "addressing_style": "virtual" if settings.s3_endpoint_url is None else "path",
            "payload_signing_enabled": sign_bodies,
        },
        # The default since 1.36 adds CRC trailers, which other stores refuse or, worse, store in the object.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # "standard" backs off with jitter and keeps a budget: retries stay bounded while a store is down.
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=read_seconds,
        # The default of 10 would make uploads, playback and heartbeats wait for each other.
        max_pool_connections=64,
        connector_args={"socket_factory": _keep_alive_socket},
        # Our own types say what goes in; the check only costs time, and it refuses memoryviews.
        parameter_validation=False,
    )


@dataclass(frozen=True, slots=True)
class _Clients:
    retrying: "S3Client"
    """Everything that may be repeated. Bodies are not hashed: that would cost more CPU than sending them."""
    once: "S3Client"
    """Conditional PUTs: a retry by the SDK would turn our own success into a 412. Gives up early, because
    `create` settles the doubt by reading."""


@dataclass(frozen=True, slots=True)
class S3Buckets(Buckets):
    """The two buckets, with what only real stores have."""

    raw: "S3Store"
    video: "S3Store"


@asynccontextmanager
async def open_buckets(settings: StoreSettings) -> AsyncIterator[S3Buckets]:
    """Open both buckets on one shared pool of connections, and close it at the end. Does no store I/O itself.

    Raises:
        ConfigurationError: there are no credentials, or half of them.
    """
    session = AioSession()
    if (settings.aws_access_key_id is None) != (settings.aws_secret_access_key is None):
        raise ConfigurationError("set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither")
    if settings.aws_access_key_id is not None and settings.aws_secret_access_key is not None:
        token = settings.aws_session_token
        session.set_credentials(
            settings.aws_access_key_id,
            settings.aws_secret_access_key.get_secret_value(),
            None if token is None else token.get_secret_value(),
        )
    endpoint = _plain_url(settings.s3_endpoint_url)
    retrying = _config(settings, attempts=5, read_seconds=60, sign_bodies=False)
    once = _config(settings, attempts=1, read_seconds=10, sign_bodies=True)
    region = settings.aws_region
    async with (
        _current_credentials(session) as credentials,
        session.create_client("s3", region_name=region, endpoint_url=endpoint, config=retrying) as for_all,
        session.create_client("s3", region_name=region, endpoint_url=endpoint, config=once) as for_creates,
    ):
        clients = _Clients(for_all, for_creates)
        for_all.meta.events.register("before-send.s3", _send_in_pieces)
        public = _plain_url(settings.s3_public_endpoint_url) or endpoint
        # us-east-1 is the region that must not be named.
        location = (
            cast("BucketLocationConstraintType", region)
            if endpoint is None and region != "us-east-1"
            else None
        )

        def open_bucket(name: str) -> S3Store:
            url = _bucket_url(public, for_all.meta.endpoint_url, name)
            return S3Store(clients, name, Presigner(url, region, lambda: credentials.now), location)

        yield S3Buckets(open_bucket(settings.s3_raw_bucket), open_bucket(settings.s3_video_bucket))


async def ensure_buckets(buckets: S3Buckets) -> None:
    """Create the buckets that do not exist. Raises: StoreDenied: one belongs to somebody else."""
    for store in (buckets.raw, buckets.video):
        await store.ensure_exists()


async def configure_cors(buckets: S3Buckets, origins: Sequence[str] = ()) -> bool:
    """Let pages of these origins (by default of any) play from the video bucket; say whether it was done.

    Access is decided by the signature in the URL, not by the origin. A store that refuses is logged, not
    fatal: it may be configured elsewhere, and pages of the same origin need none.
    """
    try:
        await buckets.video.allow_origins(tuple(origins) or ("*",))
    except StoreError as error:
        _log.warning("bucket_cors_not_set", bucket=buckets.video.name, error=error.message)
        return False
    return True


def _plain_url(url: object | None) -> str | None:
    return None if url is None else str(url).rstrip("/")


def _bucket_url(custom_endpoint: str | None, aws_endpoint: str, bucket: str) -> str:
    if custom_endpoint is not None:
        return f"{custom_endpoint}/{bucket}"
    scheme, _, host = aws_endpoint.partition("://")
    # A wildcard certificate does not cover a bucket name with dots: the SDK falls back to path style too.
    return f"{scheme}://{host}/{bucket}" if "." in bucket else f"{scheme}://{bucket}.{host}"


@dataclass(slots=True)
class _CurrentCredentials:
    now: Credentials


@asynccontextmanager
async def _current_credentials(session: AioSession) -> AsyncIterator[_CurrentCredentials]:
    """Keep a copy of the credentials that signing can read without I/O, renewed while the block lasts."""
    with _translated("finding credentials"):
        source = await session.get_credentials()
        if source is None:
            raise ConfigurationError("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        current = _CurrentCredentials(_copied(await source.get_frozen_credentials()))

    async def renew() -> None:
        while True:
            await asyncio.sleep(CREDENTIALS_REFRESH_SECONDS)
            # The SDK asks for new ones a quarter of an hour before the old ones expire: time for many tries.
            try:
                with _translated("renewing credentials"):
                    current.now = _copied(await source.get_frozen_credentials())
            except StoreError as error:
                _log.warning("credentials_not_renewed", error=error.message)

    if not isinstance(source, AioRefreshableCredentials):
        yield current
        return
    renewing = asyncio.create_task(renew())
    try:
        yield current
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


def _copied(frozen: ReadOnlyCredentials) -> Credentials:
    return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)


class S3Store:
    """One bucket."""

    def __init__(
        self,
        clients: _Clients,
        name: str,
        presigner: Presigner,
        location: "BucketLocationConstraintType | None",
    ) -> None:
        """`location` is where AWS is to put a new bucket; None where stores do not ask."""
        self.name = name
        self._s3 = clients.retrying
        self._s3_once = clients.once
        self._presigner = presigner
        self._location = location

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        with _translated("writing", key):
            await self._s3.put_object(Bucket=self.name, Key=key, Body=_sent(body), **_stored(headers))

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        doubt: StoreError | None = None
        for attempt in range(CREATE_ATTEMPTS):
            if attempt:
                backoff = CREATE_BACKOFF_SECONDS * 2**attempt
                await asyncio.sleep(random.uniform(backoff / 2, backoff))  # noqa: S311 (jitter)
            try:
                with _translated("creating", key):
                    await self._s3_once.put_object(
                        Bucket=self.name, Key=key, Body=body, IfNoneMatch="*", **_stored(headers)
                    )
                return True
            except StoreUnavailable as error:
                doubt = error
            # Taken, or written by us with the answer lost, or nobody won (409): only the object can tell.
            try:
                return (await self.get(key)).body == body
            except (ObjectNotFound, StoreUnavailable):
                continue
        raise StoreUnavailable(f"creating {key}: it stayed doubtful whether it was written") from doubt

    async def get(self, key: str) -> StoredObject:
        with _translated("reading", key):
            answer = await self._s3.get_object(Bucket=self.name, Key=key)
            async with answer["Body"] as stream:
                body = await stream.read()
        if len(body) != answer.get("ContentLength"):
            raise StoreUnavailable(f"reading {key}: the store's answer was cut short")
        return StoredObject(
            body, ObjectInfo(key, len(body), answer["LastModified"], _etag(answer.get("ETag")))
        )

    async def head(self, key: str) -> ObjectInfo:
        with _translated("looking up", key):
            answer = await self._s3.head_object(Bucket=self.name, Key=key)
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"], _etag(answer.get("ETag")))

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        try:
            with _translated("reading", key):
                ranged = await self._s3.get_object(Bucket=self.name, Key=key, Range=f"bytes={offset}-")
        except _RangeBeyondEnd:
            # An empty object has no range at all; a shorter one may be another than was asked for.
            info = await self.head(key)
            _check_etag(key, etag, info.etag)
            if offset < info.size_bytes:
                raise StoreUnavailable(f"reading {key}: the store refuses a range that exists") from None
            return
        async with ranged["Body"] as stream:
            # Stores differ in how they read If-Match (quoted or not); all of them tell the ETag.
            _check_etag(key, etag, _etag(ranged.get("ETag")))
            if not ranged.get("ContentRange", "" if offset else "bytes 0-").startswith(f"bytes {offset}-"):
                raise StoreUnavailable(f"reading {key}: the store ignores ranges")
            # Without a length an end could not be told from a cut; chunked answers come from proxies only.
            remaining = ranged.get("ContentLength", -1)
            while True:
                with _translated("reading", key):
                    chunk = await stream.read(READ_CHUNK_BYTES)
                if not chunk:
                    break
                remaining -= len(chunk)
                yield chunk
        if remaining:
            raise StoreUnavailable(f"reading {key}: the store's answer was cut short")

    async def delete(self, key: str) -> None:
        with _translated("deleting", key), suppress(ObjectNotFound):
            await self._s3.delete_object(Bucket=self.name, Key=key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), DELETE_BATCH):
            batch = keys[start : start + DELETE_BATCH]
            with _translated("deleting many"):
                answer = await self._s3.delete_objects(
                    Bucket=self.name, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            # The batch answers 200 whatever happened to each; one at a time tells the reason, or succeeds.
            for failed in answer.get("Errors", ()):
                await self.delete(failed["Key"])

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        with _translated("listing", prefix):
            answer = await self._s3.list_objects_v2(
                Bucket=self.name, Prefix=prefix, StartAfter=start_after, MaxKeys=limit
            )
        objects = tuple(
            ObjectInfo(found["Key"], found["Size"], found["LastModified"], _etag(found.get("ETag")))
            for found in answer.get("Contents", ())
        )
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return Listing(objects, answer["IsTruncated"], _store_clock(date))

    async def list_all(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        start_after, truncated = "", True
        while truncated:
            page = await self.list_page(prefix, start_after=start_after)
            for info in page.objects:
                start_after = info.key
                yield info
            truncated = page.truncated

    async def open_upload(self, key: str, headers: ObjectHeaders = PLAIN) -> str:
        with _translated("opening the upload", key):
            answer = await self._s3.create_multipart_upload(Bucket=self.name, Key=key, **_stored(headers))
        return answer["UploadId"]

    async def put_part(self, key: str, upload_id: str, number: int, body: Body) -> UploadedPart:
        with _translated("uploading a part of", key):
            answer = await self._s3.upload_part(
                Bucket=self.name, Key=key, UploadId=upload_id, PartNumber=number, Body=_sent(body)
            )
        return UploadedPart(number, _etag(answer["ETag"]), len(body))

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[UploadedPart]) -> None:
        listed: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts
        ]
        try:
            with _translated("completing the upload", key):
                await self._s3.complete_multipart_upload(
                    Bucket=self.name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}
                )
        except (UploadVanished, StoreUnavailable):
            with suppress(ObjectNotFound):
                if (await self.head(key)).size_bytes == sum(part.size_bytes for part in parts):
                    return
            raise

    async def abort_upload(self, key: str, upload_id: str) -> None:
        with suppress(UploadVanished), _translated("dropping the upload", key):
            await self._s3.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)

    async def list_uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        after_key, after_upload, truncated = "", "", True
        while truncated:
            with _translated("listing the uploads of", prefix):
                page = await self._s3.list_multipart_uploads(
                    Bucket=self.name, Prefix=prefix, KeyMarker=after_key, UploadIdMarker=after_upload
                )
            for upload in page.get("Uploads", ()):
                yield OpenUpload(upload["Key"], upload["UploadId"], upload["Initiated"])
            after_key, after_upload = page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", "")
            truncated = page["IsTruncated"]

    def presign_get(self, key: str, how: PresignedGet) -> str:
        return self._presigner.get_url(key, how)

    async def ensure_exists(self) -> None:
        """Create the bucket if there is none. Raises: StoreDenied: it belongs to somebody else."""
        with suppress(ObjectNotFound), _translated("looking for the bucket", self.name):
            await self._s3.head_bucket(Bucket=self.name)
            return
        try:
            with _translated("creating the bucket", self.name):
                if self._location is None:
                    await self._s3.create_bucket(Bucket=self.name)
                else:
                    await self._s3.create_bucket(
                        Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": self._location}
                    )
        except StoreUnavailable:
            # Another process created it in between, which is as good.
            with _translated("looking for the bucket", self.name):
                await self._s3.head_bucket(Bucket=self.name)

    async def allow_origins(self, origins: Sequence[str]) -> None:
        """Set the bucket's CORS rules: GET and HEAD, ranges included, for pages of these origins."""
        rule: CORSRuleTypeDef = {
            "AllowedMethods": ["GET", "HEAD"],
            "AllowedOrigins": list(origins),
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["Accept-Ranges", "Content-Length", "Content-Range", "ETag"],
            "MaxAgeSeconds": 3600,
        }
        with _translated("setting CORS of", self.name):
            await self._s3.put_bucket_cors(Bucket=self.name, CORSConfiguration={"CORSRules": [rule]})


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


def _sent(body: Body) -> bytes:
    """The SDK's types know fewer bytes-like things than the SDK takes."""
    return cast(bytes, body)


class _Pieces:
    """A large body as aiohttp sends it without copying it and without holding the event loop."""

    def __init__(self, body: Body) -> None:
        self._view = memoryview(body)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._view), SEND_CHUNK_BYTES):
            yield self._view[start : start + SEND_CHUNK_BYTES]

    def seek(self, _offset: int) -> None:
        """The SDK rewinds before it sends again; each iteration begins at the start."""


def _send_in_pieces(request: AWSPreparedRequest, **_: object) -> None:
    if isinstance(request.body, bytes | bytearray | memoryview) and len(request.body) > SEND_CHUNK_BYTES:
        request.body = cast(bytes, _Pieces(request.body))


def _etag(quoted: str | None) -> str:
    return (quoted or "").strip('"')


def _check_etag(key: str, wanted: str | None, found: str) -> None:
    if wanted and wanted != found:
        raise SourceChanged(f"{key} was replaced while it was being read")


def _store_clock(date: str | None) -> datetime:
    try:
        return parsedate_to_datetime(date or "")
    except ValueError as error:
        raise StoreUnavailable("the store's answer tells no date") from error


class _Conflict(StoreUnavailable):
    """412 or 409: the condition does not hold, or could not be decided."""


class _RangeBeyondEnd(StoreError):
    """416: the object ends before the range begins."""


_ABSENT = {"NoSuchKey", "NotFound", "404"}
_DENIED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "BucketAlreadyExists",
}
# Answers that look final by their status but are not: the same request may succeed next time.
_PASSING = {
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "RequestTimeoutException",
    "XAmzContentSHA256Mismatch",
}


@contextmanager
def _translated(doing: str, what: str = "") -> Iterator[None]:
    """The one doorway through which the SDK's errors become ours; each keeps its cause.

    Neither URLs nor the store's own text enter a message: both may hold signatures.
    """
    task = f"{doing} {what}".rstrip()
    try:
        yield
    except ClientError as error:
        raise _answered(task, error) from error
    except (NoCredentialsError, CredentialRetrievalError) as error:
        raise StoreDenied(f"{task}: no usable credentials ({type(error).__name__})") from error
    except (BotoCoreError, ResponseParserError, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StoreUnavailable(
            f"{task}: the store does not answer properly ({type(error).__name__})"
        ) from error


def _answered(task: str, error: ClientError) -> StoreError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    sentence = f"{task}: the store answered {status} {code}".rstrip()
    if code == "NoSuchUpload":
        return UploadVanished()
    if code == "NoSuchBucket":
        return StoreError(f"{task}: the bucket does not exist")
    if code in _ABSENT:
        return ObjectNotFound(f"{task}: there is no such object")
    if code == "RequestTimeTooSkewed":
        return StoreDenied(f"{task}: this machine's clock differs too much from the store's")
    if code in _DENIED or status in {401, 403}:
        return StoreDenied(sentence)
    if status == 416:
        return _RangeBeyondEnd(sentence)
    if status in {409, 412}:
        return _Conflict(sentence)
    if code in _PASSING or status in {408, 429} or (status >= 500 and status != 501) or status < 300:
        return StoreUnavailable(sentence)
    return StoreError(sentence)
