"""Uploads of a file that is elsewhere: a worker fetches it."""

from http import HTTPStatus

from litestar import Response, post
from litestar.params import JSONBody
from pydantic import BaseModel, ConfigDict, Field

from backend.core.access.people import Role
from backend.core.access.principals import Principal
from backend.core.addresses import MAX_ADDRESS_LENGTH
from backend.core.errors import Forbidden
from backend.core.records import FetchKind, Title
from backend.core.uploads.imports import SCHEME, importable
from backend.core.uploads.ingest import Description
from backend.core.uploads.remote import add_remote, fetchable, page
from backend.routes.options import TranscodeRequest
from backend.routes.services import FromServices, Services, retention
from backend.routes.uploads import UploadAnswer
from backend.web.auth import UPLOADERS, FromPrincipal
from backend.web.error_responses import documented


class RemoteTranscode(TranscodeRequest):
    """Options for encoding a fetched video."""

    keep_original: bool | None = Field(default=None, description="keep the fetched file after transcoding")


class RemoteUpload(BaseModel):
    """A file to fetch."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=MAX_ADDRESS_LENGTH)
    title: Title | None = None
    transcode: RemoteTranscode = Field(default_factory=RemoteTranscode)


_ERRORS = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INSUFFICIENT_STORAGE,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


@post(
    "/upload/remote",
    opt=UPLOADERS,
    status_code=HTTPStatus.ACCEPTED,
    responses=_ERRORS
    | documented(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ),
    tags=["uploads"],
)
async def upload_remote(
    services: FromServices, principal: FromPrincipal, data: JSONBody[RemoteUpload]
) -> Response[UploadAnswer]:
    """Add a video whose file is fetched from this address, or is an object of the same store."""
    settings, size_bytes = services.settings, 1
    if data.url.startswith(SCHEME):
        if principal.role is not Role.ADMIN:
            raise Forbidden("Only administrators may import objects of the store.")
        kind = FetchKind.S3
        address, size_bytes = await importable(services.buckets, data.url, settings.max_upload_bytes)
    else:
        kind, address = fetchable(data.url, allow_private=settings.allow_private_urls)
    return await _added(services, principal, kind, address, data, size_bytes)


@post("/download/yt-dlp", opt=UPLOADERS, status_code=HTTPStatus.ACCEPTED, responses=_ERRORS, tags=["uploads"])
async def download_ytdlp(
    services: FromServices, principal: FromPrincipal, data: JSONBody[RemoteUpload]
) -> Response[UploadAnswer]:
    """Add the video of the web page at this address."""
    address = page(data.url, allow_private=services.settings.allow_private_urls)
    return await _added(services, principal, FetchKind.YTDLP, address, data)


async def _added(
    services: Services,
    principal: Principal,
    kind: FetchKind,
    address: str,
    data: RemoteUpload,
    size_bytes: int = 1,
) -> Response[UploadAnswer]:
    """Add the video and answer."""
    settings, options = services.settings, data.transcode.options()
    wish = data.transcode.keep_original
    original = retention(settings, None if wish is None else str(wish))
    video = await add_remote(
        services.retrying_buckets,
        kind,
        address,
        Description(title=data.title, original=original, owner=principal.person),
        max_bytes=settings.max_upload_bytes,
        size_bytes=size_bytes,
        quota=services.quota,
        options=options,
    )
    services.doorbell.ring()
    return Response(
        UploadAnswer.of(video, settings.root_path),
        status_code=HTTPStatus.ACCEPTED,
        headers={"location": f"/api/videos/{video.id}"},
    )


HANDLERS = (upload_remote, download_ytdlp)
