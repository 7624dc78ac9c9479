"""Configures the SDK, keeps its credentials fresh, and opens the two buckets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

import aiohttp
import structlog
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.utils import parse_timestamp

from backend.core.errors import ConfigurationError, StoreError
from backend.core.settings import StoreSettings
from backend.core.store.interface import Buckets
from backend.core.store.s3.body import send_md5, send_without_copying
from backend.core.store.s3.bucket import Clients, S3Store
from backend.core.store.s3.clock import StoreClock, sign_by_store_clock
from backend.core.store.s3.presign import Credentials, Presigner
from backend.core.store.s3.sdk_errors import map_sdk_errors
from backend.core.store.s3.session import PunctualSession

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.literals import BucketLocationConstraintType

SDK_ATTEMPTS = 3
"""Enough for a single lost connection. `backend.core.store.retrying` handles longer outages."""
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 20.0
"""The longest silence between two bytes of a response. After it, the store counts as unavailable."""
CREATE_TIMEOUT_SECONDS = 10.0
"""Leases depend on creates, so their outcome is checked sooner than that of other requests."""
WRITE_TIMEOUT_SECONDS = 60.0
"""Stores send nothing while they persist a large body or assemble the parts of an upload."""
_SLOW_OPERATIONS = ("PutObject", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "DeleteObjects")
POOL_CONNECTIONS = 64
"""With the SDK's default of 10, uploads, playback and heartbeats would wait for each other."""
CREDENTIALS_REFRESH_SECONDS = 60.0
BACKDATED_SECONDS = 60
"""Presigned URLs start this much earlier: clocks of a store's nodes differ, and URLs from the future fail."""

_log = structlog.get_logger()


def _keep_alive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket with keep-alive. The SDK does not pass its `tcp_keepalive` on to aiohttp."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


def _set_timeouts(client: "S3Client", put_seconds: float) -> None:
    """Set longer read timeouts for slow operations, and `put_seconds` for `PutObject`."""
    for operation in _SLOW_OPERATIONS:
        seconds = put_seconds if operation == "PutObject" else WRITE_TIMEOUT_SECONDS

        def set_timeout(context: dict[str, object], seconds: float = seconds, **_: object) -> None:
            context["read_timeout"] = seconds

        client.meta.events.register(f"before-call.s3.{operation}", set_timeout)


def _config(settings: StoreSettings, *, attempts: int, sign_bodies: bool) -> AioConfig:
    return AioConfig(
        # For some custom endpoints, the SDK would use signature version 2.
        signature_version="s3v4",
        # AWS_ENDPOINT_URL and the SDK's config files could name another endpoint than our presigned URLs do.
        ignore_configured_endpoint_urls=True,
        # Other stores rarely have a DNS name per bucket. AWS plans to drop path style for new buckets.
        s3={
            "addressing_style": "virtual" if settings.s3_endpoint_url is None else "path",
            "payload_signing_enabled": sign_bodies,
        },
        # The default since 1.36 adds CRC trailers. Other stores reject them or store them in the object.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # "standard" backs off with jitter and has a retry budget, so retries stay bounded during outages.
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=POOL_CONNECTIONS,
        connector_args={"socket_factory": _keep_alive_socket},
        http_session_cls=PunctualSession,
        # The SDK would build its own for each request, which takes a tenth of its time.
        user_agent="vodbucket",
        # Our types check the parameters already. Validation costs time, and it rejects memoryviews.
        parameter_validation=False,
    )


@dataclass(frozen=True, slots=True)
class S3Buckets(Buckets):
    """The two buckets, with the operations that only S3 stores have."""

    raw: "S3Store"
    video: "S3Store"


@asynccontextmanager
async def open_buckets(
    settings: StoreSettings, *, sdk_attempts: int = SDK_ATTEMPTS
) -> AsyncIterator[S3Buckets]:
    """Open both buckets on one shared connection pool, and close it at the end. Does no I/O with the store.

    `sdk_attempts` is how often the SDK sends a request that may be repeated without a check.

    Raises:
        ConfigurationError: credentials are missing or incomplete, or default bucket names are used on AWS.
    """
    _require_own_names_on_aws(settings)
    session = AioSession()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
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
    # TLS protects bodies in transit. Without it, a flipped bit would be stored unless the signature covers
    # the body's hash, which costs CPU.
    plain = endpoint is not None and endpoint.startswith("http://")
    retrying = _config(settings, attempts=sdk_attempts, sign_bodies=plain)
    once = _config(settings, attempts=1, sign_bodies=True)
    region = settings.aws_region
    async with (
        _current_credentials(session) as credentials,
        session.create_client("s3", region_name=region, endpoint_url=endpoint, config=retrying) as client,
        session.create_client("s3", region_name=region, endpoint_url=endpoint, config=once) as client_once,
    ):
        clients = Clients(client, client_once, READ_TIMEOUT_SECONDS)
        clock = StoreClock()
        for each in (client, client_once):
            send_without_copying(each)
            send_md5(each)
            sign_by_store_clock(each, clock, lambda: credentials.now)
        _set_timeouts(client, put_seconds=WRITE_TIMEOUT_SECONDS)
        _set_timeouts(client_once, put_seconds=CREATE_TIMEOUT_SECONDS)
        public = _plain_url(settings.s3_public_endpoint_url) or endpoint
        # AWS rejects us-east-1 as a location.
        location = (
            cast("BucketLocationConstraintType", region)
            if endpoint is None and region != "us-east-1"
            else None
        )

        def open_bucket(name: str) -> S3Store:
            url = _bucket_url(public, client.meta.endpoint_url, name)
            presigner = Presigner(
                url, region, lambda: credentials.now, lambda: clock.ahead_seconds, BACKDATED_SECONDS
            )
            return S3Store(clients, name, presigner, location, only_writer=settings.only_worker)

        yield S3Buckets(
            open_bucket(settings.s3_raw_bucket),
            open_bucket(settings.s3_video_bucket),
            {name: open_bucket(name) for name in settings.import_buckets},
        )


async def ensure_buckets(buckets: S3Buckets) -> None:
    """Create the buckets that do not exist. Raises: StoreDenied: one belongs to another account."""
    for store in (buckets.raw, buckets.video):
        await store.ensure_exists()


async def configure_cors(buckets: S3Buckets, origins: Sequence[str] = ()) -> bool:
    """Allow pages of these origins, by default all, to play from the video bucket. Returns whether it worked.

    Access depends on the signature in the URL, not on the origin. If the store refuses, this is only logged:
    CORS may be configured elsewhere, and pages of the same origin do not need it.
    """
    try:
        await buckets.video.allow_origins(tuple(origins) or ("*",))
    except StoreError as error:
        _log.warning("bucket_cors_not_set", bucket=buckets.video.name, error=error.message)
        return False
    return True


def _timestamp(value: str) -> datetime:
    """Parse a time as lists state it, of each object. The SDK's parser, which knows all formats, is slow."""
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return parse_timestamp(value)


def _require_own_names_on_aws(settings: StoreSettings) -> None:
    """Bucket names on AWS are global. A stranger may own the default names and would get the uploads."""
    if settings.s3_endpoint_url is not None:
        return
    for field in ("s3_raw_bucket", "s3_video_bucket"):
        if getattr(settings, field) == StoreSettings.model_fields[field].default:
            raise ConfigurationError(
                f"{field.upper()}: choose your own bucket name; names on AWS S3 are shared by all accounts"
            )


def _plain_url(url: object | None) -> str | None:
    return None if url is None else str(url).rstrip("/")


def _bucket_url(custom_endpoint: str | None, aws_endpoint: str, bucket: str) -> str:
    if custom_endpoint is not None:
        return f"{custom_endpoint}/{bucket}"
    scheme, _, host = aws_endpoint.partition("://")
    # Wildcard certificates do not cover bucket names with dots. The SDK also uses path style then.
    return f"{scheme}://{host}/{bucket}" if "." in bucket else f"{scheme}://{bucket}.{host}"


@dataclass(slots=True)
class _CurrentCredentials:
    now: Credentials


@asynccontextmanager
async def _current_credentials(session: AioSession) -> AsyncIterator[_CurrentCredentials]:
    """Keep a copy of the credentials, which signing can read without I/O, and renew it during the block."""
    with map_sdk_errors("finding credentials"):
        source = await session.get_credentials()
        if source is None:
            raise ConfigurationError("no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        current = _CurrentCredentials(_copied(await source.get_frozen_credentials()))

    async def renew() -> None:
        while True:
            await asyncio.sleep(CREDENTIALS_REFRESH_SECONDS)
            # The SDK renews credentials 15 minutes before they expire, which leaves time for many attempts.
            try:
                with map_sdk_errors("renewing credentials"):
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
