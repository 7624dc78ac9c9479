"""The SDK's configuration, its credentials, and the two buckets opened with them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import aiohttp
import structlog
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials

from backend.core.errors import ConfigurationError, StoreError
from backend.core.settings import StoreSettings
from backend.core.store.interface import Buckets
from backend.core.store.s3.body import send_from_where_it_lies
from backend.core.store.s3.bucket import Clients, S3Store
from backend.core.store.s3.presign import Credentials, Presigner
from backend.core.store.s3.sdk_errors import map_sdk_errors
from backend.core.store.s3.session import PunctualSession

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.literals import BucketLocationConstraintType

SDK_ATTEMPTS = 3
"""For the single lost connection. Longer outages are `backend.core.store.retrying`'s."""
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 20.0
"""Between two bytes of an answer: a store that says nothing for so long is as good as away."""
CREATE_TIMEOUT_SECONDS = 10.0
"""Leases hang on creates: a silent store is asked what it did long before the usual patience ends."""
WRITE_TIMEOUT_SECONDS = 60.0
"""Stores are silent while they put a large body, or all parts of an upload, where it is safe."""
_SLOW_OPERATIONS = ("PutObject", "UploadPart", "CompleteMultipartUpload", "DeleteObjects")
POOL_CONNECTIONS = 64
"""The SDK's default of 10 would make uploads, playback and heartbeats wait for each other."""
CREDENTIALS_REFRESH_SECONDS = 60.0

_log = structlog.get_logger()


def _keep_alive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """The SDK's own `tcp_keepalive` does not reach aiohttp."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


def _set_time_outs(client: "S3Client", put_seconds: float) -> None:
    """Give slow operations their own read time-out, and `PutObject` what the client uses it for."""
    for operation in _SLOW_OPERATIONS:
        seconds = put_seconds if operation == "PutObject" else WRITE_TIMEOUT_SECONDS

        def set_time_out(context: dict[str, object], seconds: float = seconds, **_: object) -> None:
            context["read_timeout"] = seconds

        client.meta.events.register(f"before-call.s3.{operation}", set_time_out)


def _config(settings: StoreSettings, *, attempts: int, sign_bodies: bool) -> AioConfig:
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
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=POOL_CONNECTIONS,
        connector_args={"socket_factory": _keep_alive_socket},
        http_session_cls=PunctualSession,
        # Our own types say what goes in; the check only costs time, and it refuses memoryviews.
        parameter_validation=False,
    )


@dataclass(frozen=True, slots=True)
class S3Buckets(Buckets):
    """The two buckets, with what only real stores have."""

    raw: "S3Store"
    video: "S3Store"


@asynccontextmanager
async def open_buckets(
    settings: StoreSettings, *, sdk_attempts: int = SDK_ATTEMPTS
) -> AsyncIterator[S3Buckets]:
    """Open both buckets on one shared pool of connections, and close it at the end. Does no store I/O itself.

    `sdk_attempts` is how often the SDK sends what may be repeated blindly before it gives up.

    Raises:
        ConfigurationError: there are no credentials, or half of them; or AWS and bucket names that are ours.
    """
    _require_own_names_on_aws(settings)
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
    # TLS guards bodies on their way. Without it their hash in the signature does: hashing costs CPU, but a
    # flipped bit would be stored.
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
        send_from_where_it_lies(client)
        send_from_where_it_lies(client_once)
        _set_time_outs(client, put_seconds=WRITE_TIMEOUT_SECONDS)
        _set_time_outs(client_once, put_seconds=CREATE_TIMEOUT_SECONDS)
        public = _plain_url(settings.s3_public_endpoint_url) or endpoint
        # us-east-1 is the region that must not be named.
        location = (
            cast("BucketLocationConstraintType", region)
            if endpoint is None and region != "us-east-1"
            else None
        )

        def open_bucket(name: str) -> S3Store:
            url = _bucket_url(public, client.meta.endpoint_url, name)
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


def _require_own_names_on_aws(settings: StoreSettings) -> None:
    """Names are global there: the defaults may be a stranger's buckets, who would get the uploads."""
    if settings.s3_endpoint_url is not None:
        return
    for field in ("s3_raw_bucket", "s3_video_bucket"):
        if getattr(settings, field) == StoreSettings.model_fields[field].default:
            raise ConfigurationError(
                f"{field.upper()}: choose a name of your own: bucket names on AWS S3 are shared by all"
            )


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
    with map_sdk_errors("finding credentials"):
        source = await session.get_credentials()
        if source is None:
            raise ConfigurationError("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        current = _CurrentCredentials(_copied(await source.get_frozen_credentials()))

    async def renew() -> None:
        while True:
            await asyncio.sleep(CREDENTIALS_REFRESH_SECONDS)
            # The SDK asks for new ones a quarter of an hour before the old ones expire: time for many tries.
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
