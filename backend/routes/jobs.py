"""Jobs: list and follow them, cancel them, and encode a video again."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from litestar import delete, get, post
from litestar.openapi.spec import Operation, RequestBody
from litestar.params import FromPath, JSONBody, QueryParameter
from pydantic import BaseModel

from backend.core.ids import parse_id
from backend.core.jobs.cancel import cancel_video
from backend.core.jobs.overview import JobsOverview, JobState, list_jobs
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import read_item
from backend.core.records import AS_THE_WORKER_CHOOSES, Stage, Status
from backend.routes.options import TranscodeRequest
from backend.routes.permitted import managed_videos, require_managed, require_visible
from backend.routes.services import FromServices
from backend.web.auth import SIGNED_IN, UPLOADERS, FromPrincipal
from backend.web.error_responses import documented

DEFAULT_LIMIT = 200
MAX_LIMIT = 1000

_CHANGE_ERRORS = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
)


class JobSnapshot(BaseModel):
    """How far a video's job is, with the error as a plain message."""

    id: str
    stage: Stage
    progress: float
    stage_progress: float
    current_stage_index: int
    total_stages: int
    elapsed_seconds: float
    estimated_remaining_seconds: float | None
    error: str | None
    started_at_unix_ms: int
    last_update_unix_ms: int

    @classmethod
    def of(cls, status: Status) -> "JobSnapshot":
        error = status.error.message if status.error else None
        return cls.model_validate({**dict(status), "error": error})


@dataclass
class OptionalBodyOperation(Operation):
    """Marks the body as optional."""

    def __post_init__(self) -> None:
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = False


@get(
    ["/api/jobs", "/jobs"],
    opt=UPLOADERS,
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    tags=["jobs"],
)
async def get_jobs(
    services: FromServices,
    principal: FromPrincipal,
    states: Annotated[
        list[JobState] | None,
        QueryParameter(name="state", description="jobs in these states; by default all"),
    ] = None,
    limit: Annotated[
        int, QueryParameter(ge=1, le=MAX_LIMIT, description="maximum for each state")
    ] = DEFAULT_LIMIT,
) -> JobsOverview:
    """List running, waiting, queued and failed jobs of the videos that one may manage."""
    only = await managed_videos(services, principal)
    return await list_jobs(services.buckets, states=states or tuple(JobState), limit=limit, only=only)


@get(
    "/jobs/{video_id:str}",
    opt=SIGNED_IN,
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND),
    tags=["jobs"],
)
async def get_job(services: FromServices, principal: FromPrincipal, video_id: FromPath[str]) -> JobSnapshot:
    """Get how far a video's job is."""
    await require_visible(services, principal, parse_id(video_id))
    return JobSnapshot.of((await read_item(services.buckets, video_id)).status)


@delete(
    "/jobs/{video_id:str}",
    opt=UPLOADERS,
    responses=_CHANGE_ERRORS,
    tags=["jobs"],
)
async def cancel_job(services: FromServices, principal: FromPrincipal, video_id: FromPath[str]) -> None:
    """Cancel a video's job, wherever it is. The video stays, and can be encoded again."""
    await require_managed(services, principal, parse_id(video_id))
    await cancel_video(services.buckets, video_id)
    services.forget(video_id)


@post(
    "/api/videos/{video_id:str}/transcodes",
    status_code=HTTPStatus.ACCEPTED,
    opt=UPLOADERS,
    responses=_CHANGE_ERRORS,
    operation_class=OptionalBodyOperation,
    tags=["jobs"],
)
async def transcode_again(
    services: FromServices,
    principal: FromPrincipal,
    video_id: FromPath[str],
    data: JSONBody[TranscodeRequest | None] = None,
) -> JobSnapshot:
    """Encode a video again from its source file."""
    await require_managed(services, principal, parse_id(video_id))
    options = AS_THE_WORKER_CHOOSES if data is None else data.options()
    await retry_video(services.buckets, video_id, options=options)
    services.doorbell.ring()
    services.forget(video_id)
    return JobSnapshot.of((await read_item(services.buckets, video_id)).status)


HANDLERS = (get_jobs, get_job, cancel_job, transcode_again)
