"""What a vodbucket server's API answers, as far as the command line reads it."""

from pydantic import BaseModel

from backend.core.records import Status, Video


class ListedVideo(Video):
    """A video's record with its status."""

    status: Status


class VideoPage(BaseModel):
    videos: list[ListedVideo]
    next_cursor: str | None


class Note(BaseModel):
    """Where the upload of a file is: one address, or those of its pieces, in their order."""

    upload_url: str | None = None
    parallel_upload_urls: list[str] | None = None
    size_bytes: int | None = None


class Problem(BaseModel):
    """The body of every error."""

    error: str
    code: str
