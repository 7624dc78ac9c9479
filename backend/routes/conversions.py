"""Conversions: send a file, and get it back as a WebM or an MP4 once that is there.

Nothing is sent before the file is whole and verified, so an answer of 200 is always the file. What is made is
deleted after the answer, or when the client hangs up before it; `keep` keeps it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from litestar import get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Schema,
)
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send
from pydantic import BaseModel

from backend.core import keys
from backend.core.concurrency import run_guarded, run_shielded
from backend.core.errors import (
    TOO_LONG_TO_CONVERT,
    AlreadyQueued,
    BadRequest,
    ConversionFailed,
    ConversionTooLong,
    IncompleteUpload,
    ObjectNotFound,
    VideoNotFound,
)
from backend.core.ids import parse_id
from backend.core.jobs.retry import next_request_number
from backend.core.library.videos import delete_video, latest_outcome
from backend.core.records import (
    Conversion,
    DeadLetter,
    Download,
    Job,
    Outcome,
    Outputs,
    Retention,
    TranscodeOptions,
)
from backend.core.store.ranged_read import read_span
from backend.core.uploads.ingest import Description, ingest
from backend.core.uploads.one_shot import clean_up
from backend.playback.serving import content_type_of
from backend.routes.options import CpuUsedQuery, CrfQuery
from backend.routes.permitted import require_managed
from backend.routes.services import FromServices, Services
from backend.routes.uploads import RawUploadOperation
from backend.web.auth import UPLOADERS, FromPrincipal
from backend.web.bodies import AnyRequest, content_length, stream_body
from backend.web.error_responses import documented
from backend.web.http_rules import IS_HEAD

RETRY_AFTER_SECONDS = 5

FormatQuery = Annotated[
    Download, QueryParameter(name="format", description="webm (AV1, Opus) or mp4 (H.264, AAC)")
]
KeepQuery = Annotated[bool, QueryParameter(description="keep the result until the video is deleted")]
_BYTES = OpenAPIMediaType(Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
_FILE = {"200": OpenAPIResponse("The converted file", content={"video/webm": _BYTES, "video/mp4": _BYTES})}


class ConversionAnswer(BaseModel):
    """A conversion that is not done yet. `url` answers with the file once it is there."""

    id: str
    url: str


@dataclass
class ConvertOperation(RawUploadOperation):
    """Describes the body, and the file that is the answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.responses = {**(self.responses or {}), **_FILE}


@dataclass
class ConvertedOperation(Operation):
    """Describes the file that is the answer."""

    def __post_init__(self) -> None:
        self.responses = {**(self.responses or {}), **_FILE}


_LATER = ResponseSpec(ConversionAnswer, generate_examples=False, description="Not there yet")
_ERRORS = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,  # `/convert/` without a name
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
) | {int(HTTPStatus.ACCEPTED): _LATER}


@post(
    ["/api/convert", "/convert/{name:str}"],
    opt=UPLOADERS,
    status_code=HTTPStatus.OK,
    request_max_body_size=None,
    responses=_ERRORS,
    operation_class=ConvertOperation,
    tags=["conversions"],
)
async def convert(
    request: AnyRequest,
    services: FromServices,
    principal: FromPrincipal,
    name: FromPath[str] = "",
    wanted: FormatQuery = "webm",
    keep: FromQuery[bool] = False,
    crf: CrfQuery = None,
    cpu_used: CpuUsedQuery = None,
) -> ASGIApp:
    """Convert the request body, and answer with the file."""
    if wanted == "mp4" and (crf, cpu_used) != (None, None):
        raise BadRequest("crf and cpu_used are for AV1, so for webm.")
    settings = services.settings
    conversion = Conversion(format=wanted, max_seconds=settings.convert_max_seconds, keep=keep)
    description = Description(
        name or None, None, request.headers.get("content-type"), Retention(), principal.person
    )
    with services.conversions.place():
        video = await ingest(
            services.retrying_buckets,
            stream_body(request),
            lambda: description,
            declared_bytes=content_length(request),
            max_bytes=settings.convert_max_bytes,
            buffers=services.buffers,
            quota=services.quota,
            options=TranscodeOptions(crf=crf, cpu_used=cpu_used, convert=conversion),
        )
        services.doorbell.ring()
        waiting = services.conversions.wait(video.id, settings.convert_wait_seconds)
        try:
            outcome = await run_guarded(waiting, _until_gone(request.receive))
            return await _answer(services, video.id, outcome, keep=keep)
        except BaseException:
            if not keep:
                await _discard(services, video.id)
            raise


@get(
    "/api/convert/{video_id:str}",
    opt=UPLOADERS,
    responses=documented(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    )
    | {int(HTTPStatus.ACCEPTED): _LATER},
    operation_class=ConvertedOperation,
    tags=["conversions"],
)
async def get_converted(
    request: AnyRequest, services: FromServices, principal: FromPrincipal, video_id: FromPath[str]
) -> ASGIApp:
    """Get the file of a conversion that a request did not wait for, or that was kept."""
    await require_managed(services, principal, parse_id(video_id))
    try:
        note = await services.buckets.video.get(keys.conversion(video_id))
    except ObjectNotFound:
        raise VideoNotFound from None
    options = Job.from_json(note.body).options
    outcome = await latest_outcome(services.buckets, video_id)
    if isinstance(outcome, DeadLetter):
        try:
            await next_request_number(services.buckets, video_id)
            outcome = await latest_outcome(services.buckets, video_id)
        except AlreadyQueued:  # it is tried again
            outcome = None
    is_kept = options.convert is not None and options.convert.keep
    keep = is_kept or IS_HEAD in request.scope["state"]
    return await _answer(services, video_id, outcome, keep=keep, again=True)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A complete response. `ended` is called after it, with whether the client is still there."""

    status: int
    headers: dict[bytes, str]
    body: AsyncGenerator[bytes]
    ended: Callable[[bool], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_there = False
        try:
            await run_guarded(self._send(send, is_head=IS_HEAD in scope["state"]), _until_gone(receive))
            is_there = True
        except IncompleteUpload:
            pass
        finally:
            if self.ended is not None:
                await self.ended(is_there)

    async def _send(self, send: Send, *, is_head: bool) -> None:
        headers = [(name, value.encode()) for name, value in (_HEADERS | self.headers).items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        async with aclosing(self.body):
            async for piece in self.body:
                if is_head:
                    break
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


_HEADERS = {b"cache-control": "no-store", b"x-content-type-options": "nosniff"}


async def _answer(
    services: Services, video_id: str, outcome: Outcome | None, *, keep: bool, again: bool = False
) -> _Answer:
    """Return the file, or where it will be. `again`: it can be asked for once more if the client hangs up.

    Raises:
        ConversionFailed. StoreError: nothing was sent.
    """
    url = f"{services.settings.root_path}/api/convert/{video_id}"
    if outcome is None:
        body = ConversionAnswer(id=video_id, url=url).model_dump_json().encode()
        about = {b"content-type": "application/json", b"content-length": str(len(body))}
        later = {b"location": url, b"retry-after": str(RETRY_AFTER_SECONDS)}
        return _Answer(HTTPStatus.ACCEPTED, about | later, _one(body))
    if not isinstance(outcome, Outputs):
        if again and not keep:
            await _discard(services, video_id)
        too_long = outcome.error.code == TOO_LONG_TO_CONVERT
        kind = ConversionTooLong if too_long else ConversionFailed
        raise kind(outcome.error.message, code=outcome.error.code)

    async def ended(is_there: bool) -> None:
        if not keep and (is_there or not again):
            await _discard(services, video_id)

    (made,) = outcome.objects
    key = keys.run_prefix(video_id, outcome.run) + made.path
    pieces = read_span(services.buckets.video, key, 0, made.size_bytes)
    first = await anext(pieces)  # an outage of the store must not become a file that breaks off

    async def whole() -> AsyncGenerator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    about = {b"content-type": content_type_of(made.path), b"content-length": str(made.size_bytes)}
    kept = {b"content-location": url} if keep else {}
    return _Answer(HTTPStatus.OK, about | kept, whole(), ended)


async def _one(body: bytes) -> AsyncGenerator[bytes]:
    yield body


async def _until_gone(receive: Receive) -> None:
    """Raises: IncompleteUpload: the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    raise IncompleteUpload("The client hung up.")


async def _discard(services: Services, video_id: str) -> None:
    """Delete what was converted. What this cannot delete in time, the sweeper does."""

    async def discard() -> None:
        async with services.conversions.discarding:
            await clean_up(delete_video(services.buckets, video_id), "conversion_not_deleted", id=video_id)

    await run_shielded(discard())


HANDLERS = (convert, get_converted)
