"""Resumable uploads as the tus protocol 1.0.0 has them (`backend.web.tus`)."""

from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus

from litestar import HttpMethod, MediaType, Response, delete, head, patch, post, route
from litestar.params import FromPath

from backend.core.errors import (
    BadRequest,
    IncompleteUpload,
    OffsetMismatch,
    StoreError,
    UploadNotFound,
    VodbucketError,
)
from backend.core.records import TranscodeOptions
from backend.core.uploads.records import Role, UploadState
from backend.routes.services import FromServices, Services
from backend.routes.uploads import CpuUsedQuery, CrfQuery
from backend.web import tus
from backend.web.auth import PUBLIC
from backend.web.bodies import declared_bytes, received
from backend.web.problems import CHECKSUM_MISMATCH, AnyRequest, documented

IDLE_SECONDS = 30.0
"""A client that sends nothing for so long has lost its connection; it comes back and goes on."""

_DROP_ERRORS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.LOCKED,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_LOOK_ERRORS = (*_DROP_ERRORS, HTTPStatus.GONE)
_BODY_ERRORS = (
    *_LOOK_ERRORS,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    CHECKSUM_MISMATCH,
)
_EMPTY = MediaType.TEXT
"""Of answers without a body: as JSON they would be `null`."""


@route(
    [tus.PATH, tus.PATH + "/{upload_id:str}"],
    http_method=HttpMethod.OPTIONS,
    opt=PUBLIC,
    status_code=HTTPStatus.NO_CONTENT,
    tags=["uploads"],
)
async def describe_uploads(services: FromServices) -> Response[None]:
    """Tell what this server's tus protocol can do."""
    return Response(
        None,
        status_code=HTTPStatus.NO_CONTENT,
        headers={
            "tus-version": tus.VERSION,
            "tus-extension": ",".join(tus.EXTENSIONS),
            "tus-max-size": str(services.settings.max_upload_bytes),
            "tus-checksum-algorithm": ",".join(tus.CHECKSUM_ALGORITHMS),
            # Whatever page asks: it learns nothing of anybody.
            "access-control-allow-origin": "*",
            "access-control-expose-headers": ", ".join(tus.ANSWER_HEADERS),
        },
    )


@post(
    tus.PATH,
    request_max_body_size=None,
    media_type=_EMPTY,
    responses=documented(*_BODY_ERRORS, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INSUFFICIENT_STORAGE),
    tags=["uploads"],
)
async def create_upload(
    request: AnyRequest, services: FromServices, crf: CrfQuery = None, cpu_used: CpuUsedQuery = None
) -> Response[None]:
    """Announce an upload, with its first bytes or without; or put one together from partial ones."""
    headers = request.headers
    tus.check_version(headers)
    concat = tus.concat(headers)
    metadata = headers.get("upload-metadata")
    description = tus.description(tus.metadata(headers))
    options = TranscodeOptions(crf=crf, cpu_used=cpu_used)
    if concat is not None and concat.is_final:
        if "upload-length" in headers:
            raise BadRequest("The length of a final upload is that of its parts; leave Upload-Length out.")
        state = await services.resumable.concatenate(
            concat.partials, description, header=concat.header, metadata=metadata, options=options
        )
        return _created(state)
    length = tus.announced_length(headers)
    body_bytes = declared_bytes(request)
    brings_bytes = body_bytes != 0 and "content-type" in headers
    if brings_bytes:
        tus.check_body_type(headers)
    checksum = tus.checksum(headers)
    info = await services.resumable.create(
        length, description, metadata=metadata, partial=concat is not None, options=options
    )
    if not brings_bytes and length != 0:
        return _created(UploadState(info, 0))
    try:
        state = await services.resumable.append(
            info.id,
            0,
            _arriving(request, "Begin the upload anew."),
            body_bytes=body_bytes,
            checksum=checksum,
        )
    except VodbucketError:  # nobody has learnt its address
        with suppress(VodbucketError):
            await services.resumable.terminate(info.id)
        raise
    return _created(state)


@head(
    tus.PATH + "/{upload_id:str}",
    media_type=_EMPTY,
    responses=documented(*_LOOK_ERRORS),
    tags=["uploads"],
)
async def look_at_upload(
    request: AnyRequest, services: FromServices, upload_id: FromPath[str]
) -> Response[None]:
    """Tell where an upload stands."""
    tus.check_version(request.headers)
    state = await services.resumable.head(tus.upload_of(upload_id))
    info = state.info
    headers = _headers(state)
    if info.role is Role.FINAL and not info.finished:
        del headers["upload-offset"]
    if info.length is None:
        headers["upload-defer-length"] = "1"
    else:
        headers["upload-length"] = str(info.length)
    if info.metadata:
        headers["upload-metadata"] = info.metadata
    if info.concat:
        headers["upload-concat"] = info.concat
    return Response(None, status_code=HTTPStatus.OK, headers=headers)


@patch(
    tus.PATH + "/{upload_id:str}",
    request_max_body_size=None,
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(*_BODY_ERRORS, HTTPStatus.FORBIDDEN, HTTPStatus.INSUFFICIENT_STORAGE),
    tags=["uploads"],
)
async def add_to_upload(
    request: AnyRequest, services: FromServices, upload_id: FromPath[str]
) -> Response[None]:
    """Add the body to an upload, at the offset where it stands."""
    tus.check_version(request.headers)
    tus.upload_of(upload_id)
    try:
        state = await _receive(request, services, upload_id)
    except (UploadNotFound, StoreError):
        raise
    except VodbucketError:
        await _note_expiry(request, services, upload_id)
        raise
    return Response(None, status_code=HTTPStatus.NO_CONTENT, headers=_headers(state))


async def _receive(request: AnyRequest, services: Services, upload_id: str) -> UploadState:
    headers = request.headers
    tus.check_body_type(headers)
    offset = tus.number(headers, "upload-offset")
    if offset is None:
        raise BadRequest("Send Upload-Offset: where the upload stands.")
    return await services.resumable.append(
        upload_id,
        offset,
        _arriving(request, "Ask where the upload stands and go on from there."),
        body_bytes=declared_bytes(request),
        length=tus.number(headers, "upload-length"),
        checksum=tus.checksum(headers),
    )


async def _note_expiry(request: AnyRequest, services: Services, upload_id: str) -> None:
    """Every answer to a PATCH names the expiry, errors too."""
    with suppress(VodbucketError):  # the answer is about another error, which counts
        info = await services.resumable.info(upload_id)
        request.scope["state"][tus.NOTED_HEADERS] = tus.expiry(info)


@delete(tus.PATH + "/{upload_id:str}", responses=documented(*_DROP_ERRORS), tags=["uploads"])
async def terminate_upload(
    request: AnyRequest, services: FromServices, upload_id: FromPath[str]
) -> Response[None]:
    """Drop an upload. A video that came of it stays."""
    tus.check_version(request.headers)
    await services.resumable.terminate(tus.upload_of(upload_id))
    return Response(None, status_code=HTTPStatus.NO_CONTENT)


async def _arriving(request: AnyRequest, advice: str) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises: OffsetMismatch: the client was silent for too long, or is gone.

    A machine that has slept hears of it when it wakes up, and clients give up after any other 4xx.
    """
    try:
        async for chunk in received(request, IDLE_SECONDS):
            yield chunk
    except IncompleteUpload as error:
        raise OffsetMismatch(f"{error.message} {advice}") from error


def _created(state: UploadState) -> Response[None]:
    headers = {"location": f"{tus.PATH}/{state.info.id}", **_headers(state)}
    return Response(None, status_code=HTTPStatus.CREATED, headers=headers)


def _headers(state: UploadState) -> dict[str, str]:
    headers = {"upload-offset": str(state.offset), **tus.expiry(state.info)}
    if state.video_id is not None:
        headers["video-id"] = state.video_id
    return headers


HANDLERS = (describe_uploads, create_upload, look_at_upload, add_to_upload, terminate_upload)
