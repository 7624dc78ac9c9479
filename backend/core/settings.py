"""Settings: every environment variable that vodbucket reads, with its default and unit.

Entry points (`backend.asgi`, `worker.__main__`, infra/local) load these classes once and pass the values on.
A missing or invalid value stops the start with a message that names the variable (see `load`).
"""

import re
from math import ceil
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backend.core.errors import ConfigurationError
from backend.core.printable import hide

MIN_TOKEN_LENGTH = 16

Codec = Literal["av1", "h264"]
Encoder = Literal["auto", "nvenc", "qsv", "vaapi", "videotoolbox", "software"]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class StoreSettings(_Settings):
    """The store and its two buckets. Credentials may also come from any source that the AWS SDK knows."""

    s3_endpoint_url: HttpUrl | None = Field(None, description="URL of the store; unset for AWS S3")
    s3_public_endpoint_url: HttpUrl | None = Field(
        None, description="URL of the store for browsers, if it differs"
    )
    s3_raw_bucket: str = Field("vodbucket-raw", min_length=3, description="uploads, queue and leases")
    s3_video_bucket: str = Field("vodbucket-video", min_length=3, description="records and renditions")
    aws_region: str = Field("us-east-1", description="the store's region")
    aws_access_key_id: str | None = Field(None, description="access key id")
    aws_secret_access_key: SecretStr | None = Field(None, description="secret access key")
    aws_session_token: SecretStr | None = Field(None, description="session token of temporary credentials")
    store_patience_seconds: float = Field(
        75,
        ge=0,
        le=3600,
        description="how long uploads and jobs keep retrying while the store is unavailable",
    )


class OriginSettings(_Settings):
    """Allowed origins. A class of its own, because the doctor reads it where no API runs."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated origins whose pages may call the API"
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        origins = _split(value)
        return tuple(one.rstrip("/") for one in origins) if isinstance(origins, tuple) else origins


class UploadSettings(_Settings):
    """Settings that the API and the sweeper must share."""

    upload_ttl_seconds: float = Field(
        604_800, ge=1, description="how long an unfinished upload can be resumed before it is deleted"
    )

    @property
    def upload_days(self) -> int:
        """How many days the store must keep parts. One is added: a request may begin at the last moment."""
        return ceil(self.upload_ttl_seconds / 86_400) + 1


class TokenSettings(_Settings):
    """Settings that the API and its clients must share."""

    admin_token: SecretStr = Field(description="secret that grants full access; at least 16 characters")

    @field_validator("admin_token")
    @classmethod
    def _long_enough(cls, token: SecretStr) -> SecretStr:
        if len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
            raise ValueError(f"must have at least {MIN_TOKEN_LENGTH} characters")
        return token

    @field_validator("admin_token", mode="before")
    @classmethod
    def _without_line_end(cls, token: object) -> object:
        return token.strip() if isinstance(token, str) else token


class ClientSettings(TokenSettings):
    """Settings of the commands that call the API."""

    vodbucket_url: HttpUrl = Field(HttpUrl("http://127.0.0.1:3000"), description="URL of the server")


class ApiSettings(StoreSettings, OriginSettings, UploadSettings, TokenSettings):
    """Settings of the API."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(3000, ge=0, le=65535, description="port to listen on")
    root_path: str = Field(
        "/", validate_default=True, description="path at which a proxy offers the server, such as `/vod`"
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
        None, ge=1, description="maximum number of unfinished resumable uploads"
    )
    max_raw_bytes: int | None = Field(
        None,
        ge=1,
        description="maximum size of all uploads in the raw bucket, with the announced size of open ones",
    )
    upload_memory_bytes: int = Field(
        72 * 1024**2, ge=16 * 1024**2, description="memory for parts in flight, shared by all uploads"
    )
    site_dir: Path = Field(
        Path("frontend/dist"), description="directory of the built site; served if it exists"
    )

    @field_validator("root_path")
    @classmethod
    def _plain_path(cls, path: str) -> str:
        path = path.rstrip("/")
        if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", path):
            raise ValueError("must be a path such as /vod")
        return path


class WorkerSettings(StoreSettings, UploadSettings):
    """Settings of the worker."""

    worker_poll_seconds: float = Field(
        5, gt=0, le=60, description="longest pause between polls of an empty queue"
    )
    worker_concurrency: int = Field(1, ge=1, le=64, description="how many jobs a worker runs at a time")
    only_worker: bool = Field(
        False,
        description="declares that there is no other worker, which allows stores without create-only writes",
    )
    lease_seconds: float = Field(
        60, ge=3, le=3600, description="how long a worker may be silent before another takes over its job"
    )
    max_attempts: int = Field(3, ge=1, le=100, description="maximum attempts of a job")
    rendition_codecs: Annotated[tuple[Codec, ...], NoDecode] = Field(
        ("av1", "h264"), description="comma-separated video codecs for HLS and DASH"
    )
    segment_seconds: float = Field(4, ge=1, le=20, description="length of a segment")
    video_server_encoder: Encoder = Field(
        "auto", description="auto, nvenc, qsv, vaapi, videotoolbox, software"
    )
    video_vaapi_device: Path = Field(Path("/dev/dri/renderD128"), description="render node for vaapi and qsv")
    keep_originals: bool = Field(False, description="keep the uploaded file after transcoding")
    stall_seconds: float = Field(
        120, ge=5, description="an encoder that makes no progress for this long is killed"
    )
    sweep_every_seconds: float = Field(
        86_400, ge=0, description="how often one of the workers removes leftovers of crashes; 0: never"
    )
    sweep_grace_seconds: float = Field(86_400, ge=1, description="leftovers younger than this are kept")
    work_dir: Path | None = Field(
        None, description="directory for images and captions; by default the system's temporary directory"
    )
    ffmpeg: Path | None = Field(None, description="path of ffmpeg, instead of the bundled one")
    ffprobe: Path | None = Field(None, description="path of ffprobe")
    packager: Path | None = Field(None, description="path of Shaka Packager")

    @field_validator("rendition_codecs", mode="before")
    @classmethod
    def _split_codecs(cls, value: object) -> object:
        return _split(value)

    @field_validator("rendition_codecs")
    @classmethod
    def _some_codec(cls, value: tuple[Codec, ...]) -> tuple[Codec, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("must name at least one codec, each once")
        return value


AnySettings = TypeVar("AnySettings", bound=_Settings)


def load(settings_class: type[AnySettings]) -> AnySettings:
    """Read the environment, and keep its secrets out of logs.

    Raises:
        ConfigurationError: names every missing or invalid variable, and contains no secret value.
    """
    try:
        settings = settings_class()
    except ValidationError as error:
        problems = (
            f"{str(problem['loc'][0]).upper()}: {_sentence(problem['type'], problem['msg'])}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError("; ".join(problems)) from None
    for _, value in settings:
        if isinstance(value, SecretStr):
            hide(value.get_secret_value())
    return settings


def _sentence(kind: str, message: str) -> str:
    return "is not set" if kind == "missing" else message.removeprefix("Value error, ")


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value
