"""Uploads in one request, as a raw body or a form, streamed to the bucket. They cannot be resumed."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from litestar import Response, post
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromQuery, QueryParameter
from pydantic import BaseModel

from backend.core.errors import UploadTooLarge
from backend.core.records import Video
from backend.core.uploads.ingest import Description, ingest
from backend.routes.guests import description_for, options_for, place_of, while_allowed
from backend.routes.options import CodecsQuery, CpuUsedQuery, CrfQuery, RungsQuery, options_in_query
from backend.routes.services import FromServices, Services
from backend.web.auth import GUESTS, FromPrincipal
from backend.web.bodies import AnyRequest, content_length, stream_body
from backend.web.error_responses import documented
from backend.web.forms import FILE_FIELD, OVERHEAD_BYTES, UploadForm

_ERRORS = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INSUFFICIENT_STORAGE,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
KeepOriginalQuery = Annotated[
    str | None,
    QueryParameter(description="keep the uploaded file after transcoding: anything but false, 0, no, off"),
]

_BYTES = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_TEXT = Schema(type=OpenAPIType.STRING)


class UploadAnswer(BaseModel):
    """Links to the new video, as paths on this server."""

    id: str
    status_url: str
    watch_url: str
    playback_url: str
    download_url: str
    hls_master_url: str
    dash_manifest_url: str

    @classmethod
    def of(cls, video: Video, root: str) -> "UploadAnswer":
        return cls(
            id=video.id,
            status_url=f"{root}/api/videos/{video.id}/status",
            watch_url=f"{root}/watch/{video.id}",
            playback_url=f"{root}/api/videos/{video.id}/playback",
            download_url=f"{root}/videos/{video.id}/download",
            hls_master_url=f"{root}/videos/{video.id}/hls/master.m3u8",
            dash_manifest_url=f"{root}/videos/{video.id}/dash/manifest.mpd",
        )


@dataclass
class RawUploadOperation(Operation):
    """Describes the body. The handler reads it as a stream, so Litestar cannot."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody({"application/octet-stream": OpenAPIMediaType(_BYTES)}, required=True)


@dataclass
class FormUploadOperation(Operation):
    """Describes the form. The handler reads it as a stream, so Litestar cannot."""

    def __post_init__(self) -> None:
        form = Schema(
            type=OpenAPIType.OBJECT,
            properties={FILE_FIELD: _BYTES, "title": _TEXT, "keep_original": _TEXT, "note": _TEXT},
            required=[FILE_FIELD],
        )
        self.request_body = RequestBody({"multipart/form-data": OpenAPIMediaType(form)}, required=True)


@post(
    "/api/videos",
    opt=GUESTS,
    request_max_body_size=None,
    responses=_ERRORS,
    operation_class=RawUploadOperation,
    tags=["uploads"],
)
async def upload_raw(
    request: AnyRequest,
    services: FromServices,
    principal: FromPrincipal,
    filename: FromQuery[str | None] = None,
    title: FromQuery[str | None] = None,
    keep_original: KeepOriginalQuery = None,
    note: Annotated[
        str | None, QueryParameter(description="from a guest to the owner of the upload link")
    ] = None,
    crf: CrfQuery = None,
    cpu_used: CpuUsedQuery = None,
    codecs: CodecsQuery = None,
    rungs: RungsQuery = None,
) -> Response[UploadAnswer]:
    """Upload a video as the request body."""
    options = options_for(principal, options_in_query(crf, cpu_used, codecs, rungs))
    said = Description(filename, title, request.headers.get("content-type"), note=note)
    description = description_for(services, principal, said, keep_original)
    async with place_of(services, principal) as bounds:
        sending = ingest(
            services.retrying_buckets,
            stream_body(request),
            lambda: description,
            declared_bytes=content_length(request),
            max_bytes=services.settings.max_upload_bytes,
            buffers=services.buffers,
            quota=services.quota,
            options=options,
            bounds=bounds,
        )
        video = await while_allowed(services, principal, sending, bounds)
    return _created(services, video)


@post(
    ["/api/upload", "/upload/multipart"],
    opt=GUESTS,
    request_max_body_size=None,
    responses=_ERRORS,
    operation_class=FormUploadOperation,
    tags=["uploads"],
)
async def upload_form(
    request: AnyRequest,
    services: FromServices,
    principal: FromPrincipal,
    crf: CrfQuery = None,
    cpu_used: CpuUsedQuery = None,
    codecs: CodecsQuery = None,
    rungs: RungsQuery = None,
) -> Response[UploadAnswer]:
    """Upload a video as the form field `file`. `title`, `note` and `keep_original` are optional fields."""
    options = options_for(principal, options_in_query(crf, cpu_used, codecs, rungs))
    limit = services.settings.max_upload_bytes
    body_bytes = content_length(request)
    if body_bytes is not None and body_bytes > limit + OVERHEAD_BYTES:
        raise UploadTooLarge
    form = UploadForm(request.headers.get("content-type"), stream_body(request))

    def describe() -> Description:
        said = Description(form.filename, form.text("title"), form.content_type, note=form.text("note"))
        return description_for(services, principal, said, form.text("keep_original"))

    async with place_of(services, principal) as bounds:
        sending = ingest(
            services.retrying_buckets,
            form.file(),
            describe,
            declared_bytes=None,
            # The file is smaller than its form. Knowing a bound allows smaller parts.
            max_bytes=limit if body_bytes is None else min(limit, body_bytes),
            announced_bytes=body_bytes,
            buffers=services.buffers,
            quota=services.quota,
            options=options,
            bounds=bounds,
        )
        video = await while_allowed(services, principal, sending, bounds)
    return _created(services, video)


def _created(services: Services, video: Video) -> Response[UploadAnswer]:
    services.doorbell.ring()
    return Response(
        UploadAnswer.of(video, services.settings.root_path),
        status_code=HTTPStatus.CREATED,
        headers={"location": f"/api/videos/{video.id}"},
    )


HANDLERS = (upload_raw, upload_form)
