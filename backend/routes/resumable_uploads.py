"""Resumable uploads by the tus protocol 1.0.0. `backend.web.tus_headers` parses its headers."""

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
    UnsupportedType,
    UploadNotFound,
    VodbucketError,
)
from backend.core.uploads.records import Role, UploadState
from backend.routes.guests import (
    description_for,
    discard,
    discard_refused,
    options_for,
    place_of,
    while_allowed,
)
from backend.routes.options import CodecsQuery, CpuUsedQuery, CrfQuery, RungsQuery, options_in_query
from backend.routes.permitted import require_own_upload
from backend.routes.services import FromServices, Services
from backend.web import tus_headers as tus
from backend.web.auth import GUESTS, LINK_PARAMETER, PUBLIC, FromPrincipal
from backend.web.bodies import AnyRequest, content_length, stream_body
from backend.web.error_responses import CHECKSUM_MISMATCH, documented

IDLE_SECONDS = 30.0
"""A client that sends nothing for this long has lost its connection; it will reconnect and resume."""

_TERMINATE_ERRORS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.LOCKED,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_HEAD_ERRORS = (*_TERMINATE_ERRORS, HTTPStatus.GONE)
_BODY_ERRORS = (
    *_HEAD_ERRORS,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    CHECKSUM_MISMATCH,
)
_EMPTY = MediaType.TEXT
"""For responses without a body: JSON would send `null`."""


@route(
    [tus.PATH, tus.PATH + "/{upload_id:str}"],
    http_method=HttpMethod.OPTIONS,
    opt=PUBLIC,
    status_code=HTTPStatus.NO_CONTENT,
    tags=["uploads"],
)
async def describe_uploads(services: FromServices) -> Response[None]:
    """Get the tus version, extensions and limits that this server supports."""
    return Response(
        None,
        status_code=HTTPStatus.NO_CONTENT,
        headers={
            "tus-version": tus.VERSION,
            "tus-extension": ",".join(tus.EXTENSIONS),
            "tus-max-size": str(services.settings.max_upload_bytes),
            "tus-checksum-algorithm": ",".join(tus.CHECKSUM_ALGORITHMS),
            # Any page may read this: it contains nothing private.
            "access-control-allow-origin": "*",
            "access-control-expose-headers": ", ".join(tus.RESPONSE_HEADERS),
        },
    )


@post(
    tus.PATH,
    opt=GUESTS,
    request_max_body_size=None,
    media_type=_EMPTY,
    responses=documented(*_BODY_ERRORS, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INSUFFICIENT_STORAGE),
    tags=["uploads"],
)
async def create_upload(
    request: AnyRequest,
    services: FromServices,
    principal: FromPrincipal,
    crf: CrfQuery = None,
    cpu_used: CpuUsedQuery = None,
    codecs: CodecsQuery = None,
    rungs: RungsQuery = None,
) -> Response[None]:
    """Create an upload, optionally with its first bytes, or concatenate partial uploads."""
    headers = request.headers
    tus.check_version(headers)
    concat = tus.concat(headers)
    metadata = headers.get("upload-metadata")
    values = tus.metadata(headers)
    description = description_for(services, principal, tus.description(values), values.get("keep_original"))
    options = options_for(principal, options_in_query(crf, cpu_used, codecs, rungs))
    if concat is not None and principal.link is not None:
        raise BadRequest("Guests send each file in one piece, without Upload-Concat.")
    if concat is not None and concat.is_final:
        if "upload-length" in headers:
            raise BadRequest(
                "Do not send Upload-Length for a final upload. Its length is the sum of its parts."
            )
        for partial_id in concat.partials:
            await require_own_upload(services, principal, partial_id)
        state = await services.resumable.concatenate(
            concat.partials, description, header=concat.header, metadata=metadata, options=options
        )
        return _created(request, state)
    length = tus.upload_length(headers)
    body_bytes = content_length(request)
    has_bytes = body_bytes != 0 and "content-type" in headers
    if has_bytes:
        tus.check_body_type(headers)
    checksum = tus.checksum(headers)
    async with place_of(services, principal, resumable=True) as bounds:
        info = await services.resumable.create(
            length,
            description,
            metadata=metadata,
            partial=concat is not None,
            options=options,
            bounds=bounds,
        )
        if not has_bytes and length != 0:
            return _created(request, UploadState(info, 0))
        sending = services.resumable.append(
            info.id,
            0,
            _stream(request, "Start the upload again."),
            body_bytes=body_bytes,
            checksum=checksum,
        )
        try:
            return _created(request, await while_allowed(services, principal, sending))
        except VodbucketError:  # the client never learned its URL, so it cannot be resumed
            with suppress(VodbucketError):
                await services.resumable.terminate(info.id)
            raise


@head(
    tus.PATH + "/{upload_id:str}",
    opt=GUESTS,
    media_type=_EMPTY,
    responses=documented(*_HEAD_ERRORS),
    tags=["uploads"],
)
async def get_upload_offset(
    request: AnyRequest, services: FromServices, principal: FromPrincipal, upload_id: FromPath[str]
) -> Response[None]:
    """Get the offset of an upload."""
    tus.check_version(request.headers)
    await require_own_upload(services, principal, tus.parse_upload_id(upload_id))
    state = await services.resumable.head(upload_id)
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
    opt=GUESTS,
    request_max_body_size=None,
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(*_BODY_ERRORS, HTTPStatus.INSUFFICIENT_STORAGE),
    tags=["uploads"],
)
async def append_to_upload(
    request: AnyRequest, services: FromServices, principal: FromPrincipal, upload_id: FromPath[str]
) -> Response[None]:
    """Append the body to an upload at its current offset."""
    tus.check_version(request.headers)
    await require_own_upload(services, principal, tus.parse_upload_id(upload_id))
    try:
        state = await while_allowed(services, principal, _append(request, services, upload_id))
    except (UploadNotFound, StoreError):
        raise
    except VodbucketError as error:
        await _add_expiry(request, services, upload_id)
        if isinstance(error, UnsupportedType):
            await discard_refused(services, principal, upload_id)
        raise
    return Response(None, status_code=HTTPStatus.NO_CONTENT, headers=_headers(state))


async def _append(request: AnyRequest, services: Services, upload_id: str) -> UploadState:
    headers = request.headers
    tus.check_body_type(headers)
    offset = tus.number(headers, "upload-offset")
    if offset is None:
        raise BadRequest("Send Upload-Offset with the current offset of the upload.")
    return await services.resumable.append(
        upload_id,
        offset,
        _stream(request, "Send HEAD to get the offset, and resume from there."),
        body_bytes=content_length(request),
        length=tus.number(headers, "upload-length"),
        checksum=tus.checksum(headers),
    )


async def _add_expiry(request: AnyRequest, services: Services, upload_id: str) -> None:
    """Send Upload-Expires in error responses too: every response to a PATCH has it."""
    with suppress(VodbucketError):  # the response reports the first error
        info = await services.resumable.info(upload_id)
        request.scope["state"][tus.PENDING_HEADERS] = tus.expiry(info)


@delete(
    tus.PATH + "/{upload_id:str}",
    opt=GUESTS,
    responses=documented(*_TERMINATE_ERRORS),
    tags=["uploads"],
)
async def terminate_upload(
    request: AnyRequest, services: FromServices, principal: FromPrincipal, upload_id: FromPath[str]
) -> Response[None]:
    """Delete an upload. If it has already become a video, the video stays."""
    tus.check_version(request.headers)
    await require_own_upload(services, principal, tus.parse_upload_id(upload_id))
    await discard(services, principal, upload_id)
    return Response(None, status_code=HTTPStatus.NO_CONTENT)


async def _stream(request: AnyRequest, advice: str) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises: OffsetMismatch: the client stalled or disconnected.

    A machine that was asleep reads this response when it wakes up. Clients give up after any other 4xx, but
    resume after this one.
    """
    try:
        async for chunk in stream_body(request, IDLE_SECONDS):
            yield chunk
    except IncompleteUpload as error:
        raise OffsetMismatch(f"{error.message} {advice}") from error


def _created(request: AnyRequest, state: UploadState) -> Response[None]:
    link = request.query_params.get(LINK_PARAMETER) if state.info.guest else None
    query = f"?{LINK_PARAMETER}={link}" if link else ""
    headers = {"location": f"{tus.PATH}/{state.info.id}{query}", **_headers(state)}
    return Response(None, status_code=HTTPStatus.CREATED, headers=headers)


def _headers(state: UploadState) -> dict[str, str]:
    headers = {"upload-offset": str(state.offset), **tus.expiry(state.info)}
    if state.video_id is not None:
        headers["video-id"] = state.video_id
    return headers


HANDLERS = (describe_uploads, create_upload, get_upload_offset, append_to_upload, terminate_upload)
