"""Settings: every environment variable that vodbucket reads, with its default and unit.

Entry points (`backend.asgi`, `worker.__main__`, infra/local) load these classes once and pass the values on.
A missing or invalid value stops the start with a message that names the variable (see `load`).
"""

import os
import re
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backend.core.errors import ConfigurationError
from backend.core.printable import hide
from backend.core.records import MAX_RETENTION_SECONDS, MAX_SIDE, MIN_SIDE, Codec, Download
from backend.core.setting_values import (
    Address,
    AllowedClaim,
    BucketName,
    CookiesFile,
    Directory,
    Endpoint,
    Host,
    HostPort,
    Issuer,
    KeyId,
    ProxyUrl,
    Region,
    RenderNode,
    Secret,
    WebhookSecret,
    WebhookUrl,
    origin,
    readable,
)

MIN_TOKEN_LENGTH = 16
YEARS_10_SECONDS = 315_360_000
PEBIBYTE = 1024**5
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_ANYWHERE = {*_LOOPBACK, "::1", "0.0.0.0", "::"}  # noqa: S104  # compared, not bound

OWN_PATHS = {
    *("api", "assets", "convert", "download", "embed", "health", "healthz", "hls", "images", "jobs", "login"),
    *("logout", "oembed", "play", "readyz", "schema", "upload", "videos", "watch"),
}
"""Where the paths of routes and of the site begin."""

DISK_VARIABLES = "VIDEO_STORAGE_MIN_FREE_"
"""How settings of VRS begin that limit how full its disk gets. To ignore them could fill a disk."""

OWN_STORE_VARIABLES = (
    "S3_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Any of these selects your own store, and none the one of `make run`. Files like ~/.aws/credentials do not:
nobody expects `make run` to create buckets in an account because of them."""

RUNGS = (360, 720, 1080)
CopySource = Literal["auto", "never"]
Encoder = Literal["auto", "nvenc", "qsv", "vaapi", "videotoolbox", "software"]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _readable(cls, value: object) -> object:
        return readable(value) if isinstance(value, str) else value


class StoreSettings(_Settings):
    """The store and its two buckets. Credentials may also come from any source that the AWS SDK knows."""

    s3_endpoint_url: Address | None = Field(None, description="URL of the store; unset for AWS S3")
    s3_public_endpoint_url: Address | None = Field(
        None, description="URL of the store for browsers, if it differs"
    )
    s3_raw_bucket: BucketName = Field("vodbucket-raw", description="uploads, queue and leases")
    s3_video_bucket: BucketName = Field("vodbucket-video", description="records and renditions")
    import_buckets: Annotated[tuple[BucketName, ...], NoDecode] = Field(
        (), description="comma-separated buckets of the same store whose objects may be imported"
    )
    aws_region: Region = Field("us-east-1", description="the store's region")
    aws_access_key_id: KeyId | None = Field(None, description="access key id")
    aws_secret_access_key: Secret | None = Field(None, description="secret access key")
    aws_session_token: Secret | None = Field(None, description="session token of temporary credentials")
    only_worker: bool = Field(
        False,
        description="declares that there is one API and one worker, which allows stores without "
        "create-only writes",
    )
    store_patience_seconds: float = Field(
        75,
        ge=0,
        le=3600,
        description="how long uploads and jobs keep retrying while the store is unavailable",
    )

    @field_validator("import_buckets", mode="before")
    @classmethod
    def _split_buckets(cls, value: object) -> object:
        return _split(value)

    @model_validator(mode="after")
    def _buckets_fit(self) -> Self:
        buckets = (self.s3_raw_bucket, self.s3_video_bucket)
        if len(set(buckets)) == 1:
            raise ValueError("S3_VIDEO_BUCKET: must be another bucket than S3_RAW_BUCKET")
        if set(buckets) & set(self.import_buckets):
            raise ValueError("IMPORT_BUCKETS: must not name S3_RAW_BUCKET or S3_VIDEO_BUCKET")
        for name in ("s3_endpoint_url", "s3_public_endpoint_url"):
            if str(getattr(self, name)).rstrip("/").rpartition("/")[2] in buckets:
                raise ValueError(f"{name.upper()}: must not end with the name of a bucket")
        return self


class OriginSettings(_Settings):
    """Allowed origins. A class of its own, because the doctor reads it where no API runs."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated origins whose pages may call the API"
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return _split(value)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin(one) for one in origins)


class UploadSettings(_Settings):
    """Settings that the API and the sweeper must share."""

    upload_ttl_seconds: float = Field(
        604_800,
        ge=1,
        le=YEARS_10_SECONDS,
        description="how long an unfinished upload can be resumed before it is deleted",
    )
    convert_keep_seconds: float = Field(
        3600,
        ge=60,
        le=YEARS_10_SECONDS,
        description="how long a converted file that nobody has fetched is kept",
    )

    @property
    def upload_days(self) -> int:
        """How many days the store must keep parts. One is added: a request may begin at the last moment."""
        return ceil(self.upload_ttl_seconds / 86_400) + 1


class FetchSettings(_Settings):
    """Settings of fetching that the API and the worker must share."""

    allow_private_urls: bool = Field(
        False, description="fetch from private and loopback addresses too, and from any port"
    )


class TokenSettings(_Settings):
    """Settings that the API and its clients must share."""

    admin_token: Secret = Field(description="secret that grants full access; at least 16 characters")

    @field_validator("admin_token")
    @classmethod
    def _token_long_enough(cls, token: SecretStr) -> SecretStr:
        return _long_enough(token)


class ClientSettings(TokenSettings):
    """Settings of the commands that call the API."""

    vodbucket_url: Address = Field(HttpUrl("http://127.0.0.1:3000"), description="URL of the server")
    upload_request_bytes: int | None = Field(
        None,
        ge=512 * 1024,
        le=PEBIBYTE,
        description="largest request body to send, for proxies that limit them",
    )


class OidcSettings(_Settings):
    """Sign-in through an OpenID Connect provider."""

    oidc_issuer: Issuer | None = Field(None, description="address of the OpenID Connect provider")
    oidc_client_id: str | None = Field(
        None, max_length=255, description="what the provider calls this server"
    )
    oidc_client_secret: Secret | None = Field(None, description="the client's secret, if it has one")
    oidc_name: str = Field("OpenID Connect", max_length=50, description="what people call the provider")
    oidc_scopes: str = Field("openid profile email", description="space-separated scopes to ask for")
    oidc_allowed: Annotated[tuple[AllowedClaim, ...], NoDecode] = Field(
        (), description="comma-separated claims, such as groups=video or @example.org, one of which is needed"
    )
    oidc_role: Literal["uploader", "viewer"] | None = Field(
        None, description="role of people who sign in for the first time; unset: only people who were added"
    )

    @field_validator("oidc_allowed", mode="before")
    @classmethod
    def _split_claims(cls, value: object) -> object:
        return _split(value)

    @field_validator("oidc_scopes")
    @classmethod
    def _has_openid(cls, scopes: str) -> str:
        if not re.fullmatch(r"openid( [\x21\x23-\x5b\x5d-\x7e]+)*", scopes):  # RFC 6749 section 3.3
            raise ValueError("must be openid and other scopes, with single spaces between them")
        return scopes

    @model_validator(mode="after")
    def _has_client(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_client_id is None):
            raise ValueError("OIDC_ISSUER: must be set together with OIDC_CLIENT_ID")
        return self


class ApiSettings(StoreSettings, OriginSettings, UploadSettings, FetchSettings, TokenSettings, OidcSettings):
    """Settings of the API."""

    host: Host = Field("127.0.0.1", description="address to listen on")
    port: int = Field(3000, ge=0, le=65535, description="port to listen on")
    video_server_addr: Annotated[Endpoint | None, NoDecode] = Field(
        None, description="host:port to listen on, as VRS has it, instead of HOST and PORT"
    )
    root_path: str = Field(
        "/", validate_default=True, description="path at which a proxy offers the server, such as `/vod`"
    )
    public_url: Address | None = Field(
        None, description="URL of this server for browsers, if requests do not tell it"
    )
    presign_ttl_seconds: int = Field(
        900, ge=60, le=604_800, description="how long a presigned media URL is valid"
    )
    grant_ttl_seconds: int = Field(
        43_200, ge=60, le=2_592_000, description="how long a playback link is valid"
    )
    session_ttl_seconds: int = Field(
        2_592_000, ge=300, le=31_536_000, description="how long a browser stays signed in"
    )
    max_upload_bytes: int = Field(
        200 * 1024**3, ge=1, le=5 * 1024**4, description="maximum size of an upload"
    )
    max_open_uploads: int | None = Field(
        None, ge=1, le=10**9, description="maximum number of unfinished resumable uploads"
    )
    max_raw_bytes: int | None = Field(
        None,
        ge=1,
        le=1024 * PEBIBYTE,
        description="maximum size of all uploads in the raw bucket, with the announced size of open ones",
    )
    upload_memory_bytes: int = Field(
        72 * 1024**2,
        ge=16 * 1024**2,
        le=PEBIBYTE,
        description="memory for parts in flight, shared by all uploads",
    )
    keep_originals: bool | None = Field(
        None,
        description="keep uploaded files after transcoding; if unset, the worker's KEEP_ORIGINALS decides",
    )
    delete_source_after: float = Field(
        0,
        ge=0,
        le=MAX_RETENTION_SECONDS,
        description="how many seconds after publication the uploaded file is deleted",
    )
    convert_max_seconds: float = Field(
        300, gt=0, le=86_400, description="longest video or audio that may be converted"
    )
    convert_max_bytes: int = Field(
        512 * 1024**2, ge=1, le=5 * 1024**4, description="largest file that may be converted"
    )
    convert_wait_seconds: float = Field(
        300, ge=0, le=86_400, description="how long a request waits for its converted file"
    )
    convert_at_once: int = Field(
        1000, ge=0, le=100_000, description="how many requests may wait for converted files at a time"
    )
    inbox_seconds: float = Field(
        60, ge=0, le=86_400, description="how often to look for new files in the inbox; 0: only when told to"
    )
    inbox_token: Secret | None = Field(
        None, description="what a store that reports new files sends in the address; at least 16 characters"
    )
    doorbells: Annotated[tuple[Endpoint, ...], NoDecode] = Field(
        (), description="comma-separated host:port of workers to tell at once about a new job, over UDP"
    )
    embed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",),
        description="comma-separated origins whose pages may embed videos; `*` for all, `none` for none",
    )
    site_dir: Directory = Field(
        Path("frontend/dist"), description="directory of the built site; served if it exists"
    )

    @field_validator("doorbells", "embed_origins", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return _split(value)

    @field_validator("embed_origins")
    @classmethod
    def _may_embed(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return () if origins == ("none",) else tuple(origin(one) for one in origins)

    @field_validator("inbox_token")
    @classmethod
    def _inbox_token_long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        return token and _long_enough(token)

    @field_validator("root_path")
    @classmethod
    def _plain_path(cls, path: str) -> str:
        path = path.rstrip("/")
        if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", path):
            raise ValueError("must be a path such as /vod")
        if path and path.split("/")[1] in OWN_PATHS:
            # A proxy that removes the path and one that keeps it could not be told apart.
            raise ValueError("must not begin with one of the server's own paths")
        return path

    @model_validator(mode="after")
    def _one_path(self) -> Self:
        if self.public_url is not None and (self.public_url.path or "/").rstrip("/") != self.root_path:
            raise ValueError("PUBLIC_URL: must end with the path that ROOT_PATH has")
        return self

    @model_validator(mode="before")
    @classmethod
    def _one_address(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("video_server_addr") and not values.keys().isdisjoint({"host", "port"}):
            raise ValueError("VIDEO_SERVER_ADDR: must not be set beside HOST or PORT")
        return values

    @property
    def listens_at(self) -> HostPort:
        return self.video_server_addr or (self.host, self.port)

    @model_validator(mode="after")
    def _store_is_another(self) -> Self:
        store, (host, port) = self.s3_endpoint_url, self.listens_at
        ours = {host, *(_LOOPBACK if host in _ANYWHERE else ())}
        if store is not None and store.port == port and store.host in ours:
            raise ValueError("S3_ENDPOINT_URL: must be the store's address, not that of this server")
        return self


class WorkerSettings(StoreSettings, UploadSettings, FetchSettings):
    """Settings of the worker."""

    worker_poll_seconds: float = Field(
        5, gt=0, le=60, description="longest pause between polls of an empty queue"
    )
    doorbell: Annotated[Endpoint | None, NoDecode] = Field(
        None, description="host:port to hear about new jobs at, over UDP"
    )
    worker_concurrency: int | None = Field(
        None,
        ge=1,
        le=64,
        description="how many chunks and undivided videos a worker encodes at a time; by default what fits",
    )
    fetch_concurrency: int = Field(
        2, ge=0, le=64, description="how many files a worker fetches at a time; 0: none"
    )
    fetch_timeout_seconds: float = Field(
        21_600, ge=1, le=604_800, description="how long an attempt to fetch a file may take"
    )
    fetch_proxy: ProxyUrl | None = Field(
        None, description="proxy through which files are fetched: http://[user:password@]host[:port]"
    )
    ytdlp_cookies_file: CookiesFile | None = Field(
        None, description="cookies with which yt-dlp visits pages, in Netscape's format"
    )
    lease_seconds: float = Field(
        60, ge=3, le=3600, description="how long a worker may be silent before another takes over its job"
    )
    max_attempts: int = Field(3, ge=1, le=100, description="maximum attempts of a job")
    rendition_codecs: Annotated[tuple[Codec, ...], NoDecode] = Field(
        ("av1", "h264"), description="comma-separated video codecs for HLS and DASH"
    )
    rungs: Annotated[tuple[int, ...], NoDecode] = Field(
        RUNGS, description="comma-separated short sides of the pictures to make, such as 360,720,1080,2160"
    )
    downloads: Annotated[tuple[Download, ...], NoDecode] = Field(
        ("webm",), description="comma-separated files to offer for download: webm, mp4"
    )
    segment_seconds: float = Field(4, ge=1, le=20, description="length of a segment")
    chunk_seconds: float = Field(
        60,
        ge=0,
        le=3600,
        description="longest part of a video that a worker encodes at a time; 0: videos are not divided",
    )
    copy_source: CopySource = Field(
        "auto",
        description="auto: where the source's picture is as good as the top H.264 rung, it is that rung; "
        "never: all rungs are encoded",
    )
    video_server_encoder: Encoder = Field(
        "auto", description="auto, nvenc, qsv, vaapi, videotoolbox, software"
    )
    video_vaapi_device: RenderNode = Field(
        Path("/dev/dri/renderD128"), description="render node for vaapi and qsv"
    )
    keep_originals: bool = Field(
        False, description="keep all uploaded files, also those that the API did not ask to keep"
    )
    stall_seconds: float = Field(
        120, ge=5, le=86_400, description="an encoder that makes no progress for this long is killed"
    )
    sweep_every_seconds: float = Field(
        86_400,
        ge=0,
        le=YEARS_10_SECONDS,
        description="how often one of the workers removes leftovers of crashes; 0: never",
    )
    sweep_grace_seconds: float = Field(
        86_400, ge=1, le=YEARS_10_SECONDS, description="leftovers younger than this are kept"
    )
    storage_max_bytes: int | None = Field(
        None,
        ge=1,
        le=1024 * PEBIBYTE,
        description="from this size of both buckets on, sweeps remove the renditions of videos that were not "
        "watched for the longest time",
    )
    renditions_ttl_days: float | None = Field(
        None, gt=0, le=36_500, description="sweeps remove renditions that were not watched for so many days"
    )
    webhook_urls: Annotated[tuple[WebhookUrl, ...], NoDecode] = Field(
        (), description="comma-separated URLs that get a POST for each event"
    )
    webhook_secrets: Annotated[tuple[WebhookSecret, ...], NoDecode] = Field(
        (), description="comma-separated secrets that sign each POST, as whsec_ and Base64"
    )
    events_keep_days: float = Field(
        30, ge=1, le=3650, description="how many days events can be read before the sweeper removes them"
    )
    work_dir: Directory | None = Field(
        None, description="directory for images and captions; by default the system's temporary directory"
    )
    ffmpeg: Path | None = Field(None, description="path of ffmpeg, instead of the bundled one")
    ffprobe: Path | None = Field(None, description="path of ffprobe")
    packager: Path | None = Field(None, description="path of Shaka Packager")

    @field_validator(
        "rendition_codecs", "rungs", "downloads", "webhook_urls", "webhook_secrets", mode="before"
    )
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return _split(value)

    @field_validator("rendition_codecs")
    @classmethod
    def _some_codec(cls, value: tuple[Codec, ...]) -> tuple[Codec, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("must name at least one codec, each once")
        return value

    @field_validator("rungs")
    @classmethod
    def _possible_rungs(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        possible = all(MIN_SIDE <= side <= MAX_SIDE and side % 2 == 0 for side in value)
        if not value or not possible or len(set(value)) != len(value):
            raise ValueError(f"must be even numbers from {MIN_SIDE} to {MAX_SIDE}, each once")
        return tuple(sorted(value))

    @field_validator("downloads")
    @classmethod
    def _with_webm(cls, value: tuple[Download, ...]) -> tuple[Download, ...]:
        if value.count("webm") != 1 or len(set(value)) != len(value):
            raise ValueError("must be webm or webm,mp4, as a WebM is always made")
        return value

    @model_validator(mode="after")
    def _mp4_has_a_picture(self) -> Self:
        if "mp4" in self.downloads and "h264" not in self.rendition_codecs:
            raise ValueError("DOWNLOADS: must be webm unless RENDITION_CODECS names h264")
        return self

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if len(set(self.webhook_urls)) != len(self.webhook_urls):
            raise ValueError("WEBHOOK_URLS: must name each URL once")
        if self.webhook_urls and not self.webhook_secrets:
            raise ValueError("WEBHOOK_SECRETS: must be set, since receivers check who sent an event")
        return self


AnySettings = TypeVar("AnySettings", bound=_Settings)


def load(settings_class: type[AnySettings], **given: Any) -> AnySettings:
    """Read the environment, and keep its secrets out of logs. What is `given`, by name, takes precedence.

    Raises:
        ConfigurationError: names every missing or invalid variable, and contains no secret value.
    """
    for name in os.environ:
        if name.startswith(DISK_VARIABLES):
            raise ConfigurationError(
                f"{name}: means nothing here, as videos are kept in an object store; unset it "
                "(MAX_RAW_BYTES limits what uploads may take)"
            )
    try:
        settings = settings_class(**given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = dict.fromkeys(
            _problem(one["loc"], one["type"], one["msg"], one.get("ctx", {})) for one in found
        )
        raise ConfigurationError("; ".join(problems)) from None
    for _, value in settings:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, SecretStr):
                hide(one.get_secret_value())
    return settings


def _problem(where: tuple[int | str, ...], kind: str, message: str, limits: Mapping[str, Any]) -> str:
    """Name the variable and say what its value must be. The value itself may be a secret."""
    if kind.startswith("url_"):
        sentence = "must be a URL that begins with http:// or https://"
    elif kind in _SENTENCES:
        sentence = _SENTENCES[kind].format(**limits)
    else:
        sentence = message.removeprefix("Value error, ")
    # A check of several settings names its variable itself.
    return f"{str(where[0]).upper()}: {sentence}" if where else sentence


_SENTENCES = {
    "missing": "is not set",
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:.0f}",
    "greater_than_equal": "must be at least {ge:.0f}",
    "less_than_equal": "must be at most {le:.0f}",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be {expected}",
}


def _long_enough(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError(f"must have at least {MIN_TOKEN_LENGTH} characters")
    return token


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in readable(value).split(",")) if part)
    return value
