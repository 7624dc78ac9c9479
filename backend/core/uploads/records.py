"""The records of a resumable upload: what its client announced, and how far it is (docs/objects.md)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, Field

from backend.core.records import (
    AS_THE_WORKER_CHOOSES,
    Guest,
    Record,
    Retention,
    TranscodeOptions,
    Value,
    new_nonce,
)


class Role(StrEnum):
    WHOLE = "whole"
    """A complete file: it becomes a video."""
    PARTIAL = "partial"
    """A piece of a file: it becomes part of a final upload, never a video of its own."""
    FINAL = "final"
    """Concatenated from partial uploads."""


class UploadInfo(Record):
    """`uploads/<id>.info`: what the client announced. The upload's video gets the same id."""

    id: str
    role: Role = Role.WHOLE
    concat: str | None = Field(None, description="Upload-Concat as it was sent")
    length: int | None = Field(ge=0, description="bytes; null while the client does not know")
    part_size_bytes: int = Field(ge=1)
    metadata: str | None = Field(None, description="Upload-Metadata as it was sent")
    filename: str | None = None
    title: str | None = None
    content_type: str | None = None
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES
    original: Retention | None = None
    owner: str | None = Field(None, description="the person who uploads; null: the holder of the admin token")
    guest: Guest | None = Field(None, description="as in Video")
    max_bytes: int | None = Field(None, description="as the guest's link allows")
    created_at: AwareDatetime
    expires_at: AwareDatetime
    finished: bool = False

    def has_expired(self, now: datetime) -> bool:
        return not self.finished and now >= self.expires_at


class Tail(Value):
    """The bytes after the last whole part, stored as an object of their own until the part is complete."""

    key: str
    size_bytes: int = Field(ge=1)


class UploadProgress(Record):
    """`uploads/<id>/<generation>`: how far the upload is, and whether a request holds its lock.

    The highest generation counts. The request that takes the lock creates it and rewrites it as a heartbeat.
    """

    held: bool
    offset: int = Field(default=0, ge=0, description="bytes that the store holds for certain")
    upload_id: str | None = Field(None, description="of the multipart upload, once there is one")
    tail: Tail | None = None
    adopts: int | None = Field(None, ge=0, description="a lower generation whose progress counts")
    beat: int = 0
    nonce: str = Field(default_factory=new_nonce)


NOTHING_YET = UploadProgress(held=False)


@dataclass(frozen=True, slots=True)
class UploadState:
    """What a client is told about its upload."""

    info: UploadInfo
    offset: int

    @classmethod
    def of_finished(cls, info: UploadInfo) -> "UploadState":
        return cls(info, info.length or 0)

    @property
    def video_id(self) -> str | None:
        """The upload's video, once there is one."""
        return self.info.id if self.info.finished and self.info.role is not Role.PARTIAL else None
