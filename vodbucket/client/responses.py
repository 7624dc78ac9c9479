"""Bodies of the API's responses, as far as the command line reads them."""

from pydantic import AwareDatetime, BaseModel

from backend.core.access.people import Role
from backend.core.event_records import Event
from backend.core.records import Status, Video


class VideoWithStatus(Video):
    """A video's record with its status."""

    status: Status


class Pushed(BaseModel):
    """What the server pushes about a video."""

    status: Status


class VideoPage(BaseModel):
    videos: list[VideoWithStatus]
    next_cursor: str | None


class Added(BaseModel):
    """A video that was added."""

    id: str


class Downloads(BaseModel):
    """Paths of the files for download, each with a grant; None if there is none (yet)."""

    webm: str | None = None
    mp4: str | None = None


class Resumption(BaseModel):
    """Where the upload of a file is: one URL, or the URLs of its parallel parts in order."""

    upload_url: str | None = None
    parallel_upload_urls: list[str] | None = None
    size_bytes: int | None = None


class Events(BaseModel):
    """Some events, in order, and where to continue."""

    events: list[Event]
    after: int


class WebhookTest(BaseModel):
    """What became of a test event at one endpoint."""

    address: str
    delivered: bool
    error: str | None


class WebhookTests(BaseModel):
    tests: list[WebhookTest]


class Person(BaseModel):
    id: str
    name: str
    role: Role
    revoked: bool
    created_at: AwareDatetime


class People(BaseModel):
    people: list[Person]


class IssuedToken(BaseModel):
    token: str


class AddedPerson(Person, IssuedToken):
    """A new person and their token."""


class ErrorBody(BaseModel):
    """The body of every error response."""

    error: str
    code: str
