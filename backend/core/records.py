"""The JSON records in the buckets: frozen models, each with a schema version.

Field names and meanings are the public schema (docs/objects.md). Unknown fields are ignored, so that old and
new processes can run side by side during a rolling upgrade.
"""

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from backend.core import keys
from backend.core.addresses import MAX_ADDRESS_LENGTH
from backend.core.errors import StoreError

Crf = Annotated[int, Field(ge=0, le=63, description="AV1 constant rate factor; lower is better and larger")]
CpuUsed = Annotated[int, Field(ge=0, le=8, description="AV1 speed; higher is faster and worse")]
Download = Literal["webm", "mp4"]
Codec = Literal["av1", "h264"]
MIN_SIDE, MAX_SIDE = 16, 4320
"""Of a rung. Encoders reject smaller pictures, and sources have none larger."""
Rung = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=2)]
Codecs = Annotated[
    tuple[Codec, ...], Field(min_length=1, max_length=2, description="of RENDITION_CODECS, only these")
]
Rungs = Annotated[tuple[Rung, ...], Field(min_length=1, max_length=10, description="instead of RUNGS")]
Title = Annotated[str, Field(max_length=300)]
MAX_SLUG_LENGTH = 100
MAX_RECORD_BYTES = 1024**2
"""Larger objects in the place of a marker, lease or dead letter are foreign. They are not read."""
MAX_RETRY_AFTER_SECONDS = 30 * 86_400
MAX_RETENTION_SECONDS = 100 * 365 * 86_400
MAX_LABEL_LENGTH = 100
"""The longest label of a captions track, in characters."""
MAX_DESCRIPTION_LENGTH = 10_000
MAX_NOTE_LENGTH = 1000
"""In characters: with the title, it must fit into the metadata of tus."""
SMALL_BYTES = 200 * 1000**2
LARGE_BYTES = 2 * 1000**3
"""Sources below the first cost little, and from the second on much."""


def new_nonce() -> str:
    """Return a random value that makes a body unique: a writer can then tell its own body from a rival's."""
    return secrets.token_hex(16)


class RecordUnreadable(StoreError):
    """This version cannot read a record in the bucket. A newer version may have written it."""

    code = "record_unreadable"


class Record(BaseModel):
    """A record that is stored as one object."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    schema_version: Literal[1] = 1

    def to_json(self) -> bytes:
        return self.model_dump_json().encode()

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Raises: RecordUnreadable: the body is not such a record, or has a newer schema."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise RecordUnreadable(f"not a readable {cls.__name__}: {error.errors()[0]['msg']}") from error

    def replace(self, **changes: object) -> Self:
        """Return a validated copy with these fields changed."""
        return type(self).model_validate({**self.model_dump(), **changes})


class Value(BaseModel):
    """A value inside a record."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Visibility(StrEnum):
    PRIVATE = "private"
    """Only its owner and admins can watch it, and those to whom they give an access code."""
    INTERNAL = "internal"
    """Everyone who is signed in can watch it."""
    PUBLIC = "public"
    """Anyone who knows the id can get a playback grant."""


class Guest(Value):
    """Who uploaded a video without being signed in."""

    link: str = Field(description="id of the upload link")
    note: str = Field(default="", max_length=MAX_NOTE_LENGTH, description="from the guest to the owner")


class Retention(Value):
    """How long a video's uploaded file is kept once its outputs are published."""

    keep: bool = Field(default=False, description="until the video is deleted")
    delete_after_seconds: float = Field(
        default=0, ge=0, le=MAX_RETENTION_SECONDS, description="otherwise, this long after publication"
    )


class Video(Record):
    """`videos/<id>/video.json`, create-only: a video as it was uploaded. A video without it is deleted."""

    id: str
    title: Title
    filename: str = Field(max_length=300)
    size_bytes: int | None = Field(ge=0, description="null while the file is still to be fetched")
    content_type: str = "application/octet-stream"
    fetched_from: str | None = Field(
        default=None, description="address that the file was or is to be fetched from, without its secrets"
    )
    description: str | None = Field(default=None, description="as the site describes a fetched file")
    visibility: Visibility = Visibility.PRIVATE
    slug: str | None = Field(default=None, description="what its addresses may have in place of the id")
    original: Retention | None = Field(default=None, description="null: the worker's settings decide")
    owner: str | None = Field(default=None, description="id of the person who uploaded it; null: an admin")
    guest: Guest | None = Field(default=None, description="set if the owner's upload link was used")
    created_at: AwareDatetime


class FetchedFile(Value):
    """What is known about a fetched file once it is there."""

    filename: str = Field(max_length=300)
    size_bytes: int = Field(ge=0)
    content_type: str
    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION_LENGTH)


class SlugClaim(Value):
    """`slugs/<kind>/<slug>/<inverted number>`: which claim to which slug. An empty slug: to none."""

    slug: str
    number: int


NO_SLUG = SlugClaim(slug="", number=0)


class Revision(Record):
    """`videos/<id>/revisions/<number>`, create-only: what can be changed about a video. The newest counts."""

    title: Title
    visibility: Visibility
    file: FetchedFile | None = Field(default=None, description="set once the video's file was fetched")
    claim: SlugClaim = NO_SLUG
    nonce: str = Field(default_factory=new_nonce)


class Tombstone(Record):
    """In place of a `Video` or `Image` while leftovers of its unfinished upload or deletion are removed."""

    removed: Literal[True]
    nonce: str = Field(default_factory=new_nonce)


SMALLEST_VIDEO_BYTES = 150
"""A `Video` or `Image` is never smaller and a `Tombstone` always is, so that a LIST tells them apart."""


class Conversion(Value):
    """The one file that a conversion makes."""

    format: Download
    max_seconds: float = Field(gt=0, description="longer sources are refused")
    keep: bool = Field(default=False, description="until it is deleted, and not only until it was fetched")


class TranscodeOptions(Value):
    """Options of one job. None leaves the choice to the worker."""

    crf: Crf | None = None
    cpu_used: CpuUsed | None = None
    early_look: bool = Field(default=True, description="whether somebody may watch before the job is done")
    convert: Conversion | None = Field(default=None, description="make one file, and nothing to play")
    codecs: Codecs | None = None
    rungs: Rungs | None = None

    @field_validator("codecs", "rungs")
    @classmethod
    def _each_once(cls, values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if values is None else tuple(sorted(set(values)))


AS_THE_WORKER_CHOOSES = TranscodeOptions()


class FetchKind(StrEnum):
    """How a file is fetched."""

    HTTP = "http"
    FTP = "ftp"
    ARIA2 = "aria2"
    YTDLP = "ytdlp"
    S3 = "s3"


class FetchSpec(Value):
    """Where a worker gets a video's source from. Jobs hold it; nothing that the API answers does."""

    kind: FetchKind
    address: str = Field(max_length=MAX_ADDRESS_LENGTH, repr=False)
    max_bytes: int = Field(ge=1, description="a larger file is refused")
    titled: bool = Field(default=False, description="the user gave a title, so the file's does not count")
    version: str | None = Field(default=None, description="of an object: fetch this one or none")

    @property
    def shown(self) -> str:
        """The address without what may be secret: credentials, the query, and a torrent's trackers."""
        parts = urlsplit(self.address)
        if parts.scheme == "magnet":
            hashes = [value for name, value in parse_qsl(parts.query) if name == "xt"]
            return f"magnet:?xt={hashes[0]}" if hashes else "magnet:"
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class FetchState(Value):
    """How far a fetch is: what the next attempt needs to go on instead of starting over."""

    upload_id: str = Field(description="of the source's multipart upload, whose parts say the rest")
    part_size_bytes: int = Field(ge=1)
    version: str | None = Field(description="tells this version of the file from others; null: nothing does")
    total_bytes: int | None = Field(ge=0)


class Job(Record):
    """`queue/<request>`: a job, immutable, except that a lease completes it with what was fetched."""

    id: str
    request: str
    source: str = Field(
        description="key of the source in the raw bucket, or of the WebM to rebuild from in the video bucket"
    )
    source_size_bytes: int | None = Field(ge=0, description="null until the source is fetched")
    fetch: FetchSpec | None = Field(default=None, description="the first step of the job: get its source")
    rank: str = Field(default=keys.SMALL, description="what it costs, as the marker's key says")
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES
    original: Retention | None = Field(default=None, description="as in Video")
    created_at: AwareDatetime
    nonce: str = Field(default_factory=new_nonce)

    @model_validator(mode="after")
    def _concerns_one_video(self) -> Self:
        """Check what a foreign record may get wrong: this job's end deletes the source that it names."""
        is_ours = self.source == keys.upload(self.id) or self.is_from_download
        if self.request.partition(".")[0] != self.id or not is_ours:
            raise ValueError("video, request and source do not belong together")
        if self.rank not in keys.RANKS:
            raise ValueError("there is no such rank")
        return self

    @property
    def marker(self) -> str:
        """The key of this job while it waits."""
        return keys.marker(self.request, self.rank)

    @property
    def is_from_download(self) -> bool:
        """Whether the source is what an earlier request of the video published for download."""
        return keys.is_download(self.id, self.source)

    @property
    def is_to_be_fetched(self) -> bool:
        return self.source_size_bytes is None

    @property
    def stored_bytes(self) -> int:
        """The size of a source that is stored. Raises: ValueError: it is still to be fetched."""
        if self.source_size_bytes is None:
            raise ValueError("the source is not stored yet")
        return self.source_size_bytes


def rank_of(source_size_bytes: int | None) -> str:
    """Return the rank of a new job by the size of its source. None: it is to be fetched."""
    if source_size_bytes is None:
        return keys.FETCHED
    if source_size_bytes < SMALL_BYTES:
        return keys.SMALL
    return keys.MEDIUM if source_size_bytes < LARGE_BYTES else keys.LARGE


class LeaseState(StrEnum):
    RUNNING = "running"
    """The owner renews it. Once it has not been renewed for the lease time, another worker may take over."""
    RELEASED = "released"
    """Nobody runs the job. It may be taken after `retry_after_seconds` by the store's clock."""


class Lease(Record):
    """`leases/<request>/<generation>`: who runs the job, or how long it waits before the next attempt."""

    job: Job
    owner: str
    run: str
    attempt: int = Field(ge=1)
    outages: int = Field(
        default=0,
        ge=0,
        description="attempts that failed because of the store; `attempt` does not count them",
    )
    state: LeaseState = LeaseState.RUNNING
    retry_after_seconds: float = Field(default=0, ge=0, le=MAX_RETRY_AFTER_SECONDS)
    last_error: str | None = None
    plan: int | None = Field(default=None, description="number of the `UnitPlan` that divides the job")
    units: int = Field(default=0, ge=0, description="how many units that plan has")
    whole: bool = Field(default=False, description="cannot be divided: it needs a slot that encodes")
    fetching: FetchState | None = Field(default=None, description="set while the source is being fetched")
    nonce: str = Field(default_factory=new_nonce)

    @property
    def is_parked(self) -> bool:
        """Whether nobody runs the job, because its units are being done."""
        return self.state is LeaseState.RELEASED and self.plan is not None


class OutputObject(Value):
    """One published object. Its path is relative to the run's prefix."""

    path: str
    size_bytes: int = Field(ge=0)


class Rendition(Value):
    """One encoded stream of the ladder."""

    name: str = Field(description="unique within the video: av1-1080p, h264-360p, aac")
    kind: Literal["video", "audio"]
    codec: Literal["av1", "h264", "aac"]
    quality: str | None = Field(default=None, description="label of the rung: 1080p; None for audio")
    width: int | None = None
    height: int | None = None
    bitrate_bps: int | None = None
    language: str | None = Field(default=None, description="BCP 47; set for audio whose language is known")
    label: str | None = Field(default=None, description="display name of this audio track")


class CaptionTrack(Value):
    """One text subtitle track of the source, extracted to a WebVTT file."""

    path: str = Field(description="relative to the run's prefix: captions/<n>-<language>.vtt")
    language: str = Field(default="und", description="BCP 47")
    label: str | None = Field(default=None, description="the track's name in the source")
    forced: bool = Field(
        default=False, description="translates only passages in another language than the audio's"
    )


class SourceVideo(Value):
    """The video track of the source, with its display dimensions."""

    codec: str
    width: int
    height: int
    fps: float | None = Field(default=None, description="average frame rate")
    bit_depth: int = 8
    hdr: Literal["hdr10", "hlg"] | None = None
    rotation: int = 0
    interlaced: bool = False


class SourceAudio(Value):
    """One audio track of the source."""

    codec: str
    channels: int
    language: str | None = None
    label: str | None = None


class Chapter(Value):
    """One chapter of the source."""

    start_seconds: float = Field(ge=0)
    end_seconds: float
    title: str


class SourceFile(Value):
    """Properties of the uploaded file. Locations and names of devices and people are left out."""

    container: str
    size_bytes: int
    duration_seconds: float | None = None
    video: SourceVideo | None = None
    audio: tuple[SourceAudio, ...] = ()
    recorded_at: AwareDatetime | None = Field(default=None, description="by the camera's clock")


class Outputs(Record):
    """`videos/<id>/results/<request>`, create-only: the published run and all of its objects."""

    outcome: Literal["published"] = "published"
    id: str
    request: str
    run: str
    requested_at: AwareDatetime = Field(description="when the job was queued")
    published_at: AwareDatetime
    duration_seconds: float = Field(ge=0)
    qualities: tuple[str, ...]
    renditions: tuple[Rendition, ...]
    objects: tuple[OutputObject, ...]
    captions: tuple[CaptionTrack, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    source: SourceFile | None = None
    encoder: str
    encoder_fallback: str | None = Field(default=None, description="as in Status")
    attempt: int = 1
    fetched: bool = Field(default=False, description="the job began with a fetch of its source")
    nonce: str = Field(default_factory=new_nonce)

    @property
    def is_conversion(self) -> bool:
        """Whether this is one file to download, and nothing to play."""
        return [output.path for output in self.objects] in ([keys.DOWNLOAD], [keys.DOWNLOAD_MP4])


class Stage(StrEnum):
    QUEUED = "queued"
    DOWNLOADING = "downloading"
    """Only of jobs that fetch their source."""
    TRANSCODING = "transcoding"
    FINALIZING = "finalizing"
    """Encoding is done. The last outputs are being uploaded and verified."""
    COMPLETE = "complete"
    FAILED = "failed"


STAGES = (Stage.QUEUED, Stage.TRANSCODING, Stage.FINALIZING, Stage.COMPLETE)
"""The stages of an uploaded video without failures, in order."""
STAGES_OF_FETCHED = (Stage.QUEUED, Stage.DOWNLOADING, *STAGES[1:])


class StatusWord(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    DONE = "done"
    ERROR = "error"


_WORD_OF_STAGE = {
    Stage.QUEUED: StatusWord.QUEUED,
    Stage.COMPLETE: StatusWord.DONE,
    Stage.FAILED: StatusWord.ERROR,
}


class StatusError(Value):
    """Why a video failed: `code` for programs, `message` for the person who uploaded it."""

    code: str
    message: str


class Status(Record):
    """`videos/<id>/status.json`: the progress of a video. The API writes it once, then the lease holder."""

    id: str
    stage: Stage
    status: StatusWord
    progress: float = Field(default=0, ge=0, le=1, description="of the whole job")
    stage_progress: float = Field(default=0, ge=0, le=1)
    current_stage_index: int = 0
    total_stages: int = len(STAGES)
    elapsed_seconds: float = 0
    estimated_remaining_seconds: float | None = None
    error: StatusError | None = None
    started_at_unix_ms: int
    last_update_unix_ms: int
    qualities: tuple[str, ...] = ()
    renditions: tuple[Rendition, ...] = ()
    duration_seconds: float | None = None
    captions: tuple[CaptionTrack, ...] = ()
    chapters: tuple[Chapter, ...] = Field(default=(), description="once the source has been examined")
    received_bytes: int | None = Field(default=None, description="of the file that is being fetched")
    total_bytes: int | None = Field(default=None, description="its size, if that is known")
    playable: bool = False
    encoder: str | None = None
    encoder_fallback: str | None = Field(
        default=None, description="how the first encoder failed, if the job was restarted with this one"
    )
    attempt: int = 0
    outputs: str | None = Field(default=None, description="prefix of the run to play, with its slash")
    request: str | None = Field(default=None, description="the request that this status belongs to")
    reduced: bool = Field(
        default=False,
        description="the qualities were removed to save space; they are made again when somebody watches",
    )

    def at_stage(self, stage: Stage, now: datetime, **changes: object) -> "Status":
        """Return the status on entering `stage` at `now`. Fields that depend on the stage are updated."""
        unix_ms = int(now.timestamp() * 1000)
        stages = STAGES_OF_FETCHED if self.total_stages == len(STAGES_OF_FETCHED) else STAGES
        index = stages.index(stage) if stage in stages else self.current_stage_index
        return self.replace(
            stage=stage,
            status=_WORD_OF_STAGE.get(stage, StatusWord.PROCESSING),
            current_stage_index=index,
            last_update_unix_ms=unix_ms,
            elapsed_seconds=max(0.0, (unix_ms - self.started_at_unix_ms) / 1000),
            **changes,
        )

    @classmethod
    def of_job(cls, job: Job) -> "Status":
        """Return the status of a job that waits."""
        return cls.queued(job.id, job.created_at, job.request, fetched=job.fetch is not None)

    @classmethod
    def queued(
        cls, video_id: str, now: datetime, request: str | None = None, *, fetched: bool = False
    ) -> "Status":
        unix_ms = int(now.timestamp() * 1000)
        return cls(
            id=video_id,
            request=request or video_id,
            total_stages=len(STAGES_OF_FETCHED if fetched else STAGES),
            stage=Stage.QUEUED,
            status=StatusWord.QUEUED,
            started_at_unix_ms=unix_ms,
            last_update_unix_ms=unix_ms,
        )


class Reduced(Record):
    """`videos/<id>/reduced/<request>`, create-only: the renditions of this published run are removed."""

    size_bytes: int = Field(ge=0, description="how large they were")
    nonce: str = Field(default_factory=new_nonce)


class DeadLetter(Record):
    """A job that has failed for good, with its last error.

    As `videos/<id>/results/<request>`, create-only, it decides that the request has failed. A copy at
    `failed/<request>` lists the job for operators.
    """

    outcome: Literal["failed"] = "failed"
    job: Job
    error: StatusError
    attempts: int
    failed_at: AwareDatetime
    nonce: str = Field(default_factory=new_nonce)


class Captions(Record):
    """`videos/<id>/captions/<language>.json`: uploaded captions. The record names their text."""

    language: str
    label: str | None = Field(default=None, max_length=MAX_LABEL_LENGTH)
    size_bytes: int = Field(ge=0)
    uploaded_at: AwareDatetime
    token: str | None = Field(default=None, description="part of the text's key; older records have none")


class Swept(Record):
    """`sweep.json`: what the last sweep found. The object's modification time is the time of the sweep."""

    findings: int
    size_bytes: int


Outcome = Outputs | DeadLetter
"""How a request ended. It is stored as one create-only object, so a request cannot end in two ways."""


def read_outcome(body: bytes) -> Outcome:
    """Raises: RecordUnreadable."""
    return DeadLetter.from_json(body) if OutcomeWord.from_json(body).failed else Outputs.from_json(body)


class OutcomeWord(Record):
    """The part of an outcome that says which kind it is."""

    outcome: str = "published"

    @property
    def failed(self) -> bool:
        return self.outcome == "failed"
