"""The one error body, `{"error": "<sentence>", "code": "<stable_code>"}`, for every producer of errors.

Owns the table from error classes to HTTP statuses. Crashes are logged with an id that the answer repeats;
nothing else of them leaves the server.
"""

import secrets
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap
from pydantic import BaseModel

from backend.core import errors
from backend.web import tus
from backend.web.auth import ForeignOrigin

log = structlog.get_logger(__name__)

CHECKSUM_MISMATCH = 460
"""A status of the tus protocol's own."""

STATUS_OF: Mapping[type[errors.VodbucketError], int] = {
    errors.BadRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.GrantRejected: HTTPStatus.FORBIDDEN,
    ForeignOrigin: HTTPStatus.FORBIDDEN,
    errors.VideoNotFound: HTTPStatus.NOT_FOUND,
    errors.ObjectNotFound: HTTPStatus.NOT_FOUND,
    errors.NotReady: HTTPStatus.CONFLICT,
    errors.SourceGone: HTTPStatus.CONFLICT,
    errors.AlreadyQueued: HTTPStatus.CONFLICT,
    errors.TooManyCaptions: HTTPStatus.CONFLICT,
    errors.UploadNotFound: HTTPStatus.NOT_FOUND,
    errors.UploadExpired: HTTPStatus.GONE,
    errors.UploadLocked: HTTPStatus.LOCKED,
    errors.OffsetMismatch: HTTPStatus.CONFLICT,
    errors.ChecksumMismatch: CHECKSUM_MISMATCH,
    errors.FinalUpload: HTTPStatus.FORBIDDEN,
    errors.UnsupportedType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    tus.WrongBodyType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    tus.UnsupportedVersion: HTTPStatus.PRECONDITION_FAILED,
    errors.TooManyUploads: HTTPStatus.TOO_MANY_REQUESTS,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreDenied: HTTPStatus.BAD_GATEWAY,
    errors.StoreError: HTTPStatus.BAD_GATEWAY,
}
"""The nearest ancestor counts; classes without one are crashes."""

_CODE_OF_STATUS = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
}
_SENTENCE_OF_STATUS = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take this method.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request body is too large.",
}
RETRY_AFTER_SECONDS = 5


class Problem(BaseModel):
    """The body of every error."""

    error: str
    code: str


AnyRequest = Request[object, object, State]


def from_domain(request: AnyRequest, error: errors.VodbucketError) -> Response[Problem]:
    """Answer an error of our own tree."""
    for ancestor in type(error).__mro__:
        if status := STATUS_OF.get(ancestor):
            break
    else:
        return from_crash(request, error)
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if status is HTTPStatus.PRECONDITION_FAILED:
        headers["tus-version"] = tus.VERSION
    if isinstance(error, errors.StoreError) and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("store_failed", code=error.code, error=error.message, cause=repr(error.__cause__))
    return _answer(status, error.message, error.code, headers)


def from_framework(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    """Answer what routing, parsing and validation raise."""
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return from_crash(request, error)
    if isinstance(error, ValidationException):
        return _answer(status, _sentence_of(error), "invalid_request", {})
    sentence = _SENTENCE_OF_STATUS.get(status) or error.detail or status.phrase
    return _answer(status, sentence, _CODE_OF_STATUS.get(status, "bad_request"), error.headers or {})


def from_crash(request: AnyRequest, error: Exception) -> Response[Problem]:
    """Answer anything unforeseen: the last resort."""
    crash = secrets.token_hex(6)
    log.error("crash", crash=crash, method=request.method, exc_info=error)
    sentence = f"Something went wrong on the server; its log has the details under {crash}."
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, errors.VodbucketError.code, {})


def _sentence_of(error: ValidationException) -> str:
    extra = error.extra if isinstance(error.extra, list) else []
    items = [item for item in extra if isinstance(item, dict)]
    details = "; ".join(f"{item.get('key', 'body')}: {item.get('message')}" for item in items)
    return details or "The request is not valid."


def _answer(status: int, sentence: str, code: str, headers: Mapping[str, str]) -> Response[Problem]:
    return Response(
        Problem(error=sentence, code=code),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff", **headers},
    )


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe these error answers for OpenAPI."""
    return {
        int(status): ResponseSpec(Problem, generate_examples=False, description=_phrase_of(status))
        for status in statuses
    }


def _phrase_of(status: int) -> str:
    return "Checksum Mismatch" if status == CHECKSUM_MISMATCH else HTTPStatus(status).phrase


HANDLERS: ExceptionHandlersMap = {
    errors.VodbucketError: from_domain,
    HTTPException: from_framework,
    Exception: from_crash,
}
