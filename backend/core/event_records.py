"""The JSON records of events and webhooks (docs/events.md)."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from backend.core.records import Guest, Record, StatusError, Value, new_nonce


class EventKind(StrEnum):
    """In the order in which they may happen to one request."""

    CREATED = "created"
    """The video was uploaded and will be encoded."""
    PLAYABLE = "playable"
    """It can be watched, though it may not be finished."""
    DONE = "done"
    FAILED = "failed"
    """For good, or it was cancelled: `error.code` says which."""
    DELETED = "deleted"
    TEST = "test"
    """No video is concerned: somebody asked for it."""

    @property
    def type(self) -> str:
        return "webhook.test" if self is EventKind.TEST else f"video.{self}"


class EventData(Value):
    """What happened to what. Fields that do not apply to the kind of event are null."""

    id: str = Field(description="the video")
    request: str | None = Field(default=None, description="of which request the encoding is; null: of none")
    title: str | None = Field(default=None, description="when the event was logged")
    filename: str | None = None
    size_bytes: int | None = None
    content_type: str | None = None
    duration_seconds: float | None = None
    qualities: tuple[str, ...] | None = None
    error: StatusError | None = None
    guest: Guest | None = Field(default=None, description="as in Video")


class Announcement(Record):
    """`events/new/<event>`: an event that the log does not have yet."""

    timestamp: AwareDatetime
    data: EventData


class Event(Value):
    """One event of the log."""

    number: int = Field(ge=1, description="its position in the log; numbers have no gaps")
    id: str = Field(description="the same whenever the event is repeated")
    type: str = Field(description="video.created, video.playable, video.done, …")
    timestamp: AwareDatetime
    data: EventData


class EventBatch(Record):
    """`events/log/<number of its first event>`, create-only: consecutive events."""

    logged_at: AwareDatetime
    events: tuple[Event, ...]
    nonce: str = Field(default_factory=new_nonce)


class Held(Value):
    """An event that an endpoint has refused, or that waits for one of the same video."""

    number: int
    video: str
    since: AwareDatetime | None = Field(default=None, description="the first refusal")
    failures: int = 0
    due_at: AwareDatetime


class WebhookState(Record):
    """`webhooks/state/<endpoint>`: how far an endpoint has got. Its deliverer rewrites it."""

    address: str = Field(description="without what may be secret: path, query and credentials")
    position: int = Field(ge=0, description="every event up to this one is delivered, given up or held")
    held: tuple[Held, ...] = ()
    failing_since: AwareDatetime | None = Field(default=None, description="since when nothing gets through")
    failures: int = Field(default=0, description="attempts since then")
    due_at: AwareDatetime | None = Field(default=None, description="when the next one is made")
    error: str | None = Field(default=None, description="why the last attempt failed")
    delivered_at: AwareDatetime | None = Field(default=None, description="the last success")
    given_up: int = Field(default=0, description="events that were never delivered")


class Deliverer(Record):
    """`webhooks/deliverer/<generation>`, create-only: the worker that delivers. Empty: it has stopped."""

    owner: str
    endpoints: tuple[str, ...]
    lease_seconds: float = Field(gt=0, description="silence after which another worker delivers")
    nonce: str = Field(default_factory=new_nonce)
