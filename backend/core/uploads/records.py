"""The records of a resumable upload: what was announced, and how far it is (docs/objects.md)."""

from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, Field

from backend.core.records import AS_THE_WORKER_CHOOSES, Record, TranscodeOptions, Value, new_nonce


class Role(StrEnum):
    WHOLE = "whole"
    """A file of its own."""
    PARTIAL = "partial"
    """A piece that a final upload is put together from; no video of its own."""
    FINAL = "final"
    """Put together from partial ones."""


class UploadInfo(Record):
    """`uploads/<id>.info`: what its client announced. The video that comes of it has the same id."""

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
    created_at: AwareDatetime
    expires_at: AwareDatetime
    finished: bool = False

    def has_expired(self, now: datetime) -> bool:
        return not self.finished and now >= self.expires_at


class Tail(Value):
    """The last bytes received, fewer than a part, as an object of their own until the part is whole."""

    key: str
    size_bytes: int = Field(ge=1)


class UploadProgress(Record):
    """`uploads/<id>/<generation>`: how far the upload is, and whether a request holds it.

    The highest generation counts. It is created by whoever takes the upload, rewritten as a heartbeat, and
    says at last that the upload rests.
    """

    held: bool
    offset: int = Field(default=0, ge=0, description="bytes that the store holds for sure")
    upload_id: str | None = Field(None, description="of the multipart upload, once there is one")
    tail: Tail | None = None
    adopts: int | None = Field(None, ge=0, description="a lower generation, whose progress counts")
    beat: int = 0
    nonce: str = Field(default_factory=new_nonce)


NOTHING_YET = UploadProgress(held=False)
