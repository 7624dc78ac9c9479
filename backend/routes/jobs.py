"""Jobs: list them, and encode a video again."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from litestar import get, post
from litestar.openapi.spec import Operation, RequestBody
from litestar.params import FromPath, JSONBody, QueryParameter
from pydantic import BaseModel, ConfigDict, field_validator

from backend.core.ids import parse_id
from backend.core.jobs.overview import JobsOverview, JobState, list_jobs
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import read_item
from backend.core.records import CpuUsed, Crf, TranscodeOptions
from backend.routes.services import FromServices
from backend.routes.videos import JobSnapshot
from backend.web.error_responses import documented
from backend.web.strict_requests import only_whole

DEFAULT_LIMIT = 200
MAX_LIMIT = 1000


class TranscodeRequest(BaseModel):
    """Options for encoding a video again. null leaves the choice to the worker."""

    model_config = ConfigDict(extra="forbid")

    crf: Crf | None = None
    cpu_used: CpuUsed | None = None

    _whole = field_validator("crf", "cpu_used", mode="before")(only_whole)


@dataclass
class OptionalBodyOperation(Operation):
    """Marks the body as optional."""

    def __post_init__(self) -> None:
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = False


@get("/api/jobs", responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED), tags=["jobs"])
async def get_jobs(
    services: FromServices,
    states: Annotated[
        list[JobState] | None,
        QueryParameter(name="state", description="jobs in these states; by default all"),
    ] = None,
    limit: Annotated[
        int, QueryParameter(ge=1, le=MAX_LIMIT, description="maximum for each state")
    ] = DEFAULT_LIMIT,
) -> JobsOverview:
    """List running, waiting, queued and failed jobs."""
    return await list_jobs(services.buckets, states=states or tuple(JobState), limit=limit)


@post(
    "/api/videos/{video_id:str}/transcodes",
    status_code=HTTPStatus.ACCEPTED,
    responses=documented(
        HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT
    ),
    operation_class=OptionalBodyOperation,
    tags=["jobs"],
)
async def transcode_again(
    services: FromServices, video_id: FromPath[str], data: JSONBody[TranscodeRequest | None] = None
) -> JobSnapshot:
    """Encode a video again from its source file."""
    options = TranscodeOptions() if data is None else TranscodeOptions(crf=data.crf, cpu_used=data.cpu_used)
    await retry_video(services.buckets, parse_id(video_id), options=options)
    services.doorbell.ring()
    services.forget(video_id)
    return JobSnapshot.of((await read_item(services.buckets, video_id)).status)


HANDLERS = (get_jobs, transcode_again)
