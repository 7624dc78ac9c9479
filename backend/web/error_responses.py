"""Error responses: every error has the body `{"error": "<sentence>", "code": "<stable_code>"}`.

Owns the table that maps error classes to HTTP statuses. A crash is logged under an id. The response contains
that id and no other detail.
"""

import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from litestar import Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap
from pydantic import BaseModel

from backend.core import errors
from backend.images.rewriting import ImagesUnavailable, ImageTooLarge, UnsupportedImage
from backend.web import tus_headers
from backend.web.access_log import NO_FAILURE
from backend.web.attempts import TooManyAttempts
from backend.web.auth import ForeignOrigin
from backend.web.bodies import AnyRequest
from backend.web.byte_ranges import RangeNotSatisfiable
from backend.web.http_rules import allowed_methods
from backend.web.server.refusals import STATUS_OF_REFUSAL

log = structlog.get_logger(__name__)

CHECKSUM_MISMATCH = 460
"""A status that the tus protocol defines."""

STATUS_OF: Mapping[type[errors.VodbucketError], int] = {
    errors.BadRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.GrantRejected: HTTPStatus.FORBIDDEN,
    errors.AccessCodeRejected: HTTPStatus.FORBIDDEN,
    errors.PassphraseRequired: HTTPStatus.FORBIDDEN,
    errors.PassphraseWrong: HTTPStatus.FORBIDDEN,
    errors.AccessCodeNotFound: HTTPStatus.NOT_FOUND,
    errors.AccessCodeTaken: HTTPStatus.CONFLICT,
    ForeignOrigin: HTTPStatus.FORBIDDEN,
    errors.VideoNotFound: HTTPStatus.NOT_FOUND,
    errors.ImageNotFound: HTTPStatus.NOT_FOUND,
    errors.PersonNotFound: HTTPStatus.NOT_FOUND,
    errors.PersonExists: HTTPStatus.CONFLICT,
    errors.AccountRefused: HTTPStatus.FORBIDDEN,
    errors.ObjectNotFound: HTTPStatus.NOT_FOUND,
    errors.SourceMissing: HTTPStatus.NOT_FOUND,
    errors.SourceDenied: HTTPStatus.FORBIDDEN,
    errors.NotReady: HTTPStatus.CONFLICT,
    errors.SourceGone: HTTPStatus.CONFLICT,
    errors.AlreadyQueued: HTTPStatus.CONFLICT,
    errors.NothingToCancel: HTTPStatus.CONFLICT,
    errors.TooManyCaptions: HTTPStatus.CONFLICT,
    errors.SlugTaken: HTTPStatus.CONFLICT,
    errors.FormatNotOffered: HTTPStatus.NOT_IMPLEMENTED,
    errors.NoWebhooks: HTTPStatus.CONFLICT,
    errors.UploadNotFound: HTTPStatus.NOT_FOUND,
    errors.UploadExpired: HTTPStatus.GONE,
    errors.UploadLinkRejected: HTTPStatus.FORBIDDEN,
    errors.UploadLinkUsedUp: HTTPStatus.FORBIDDEN,
    errors.UploadLinkNotFound: HTTPStatus.NOT_FOUND,
    errors.UploadLocked: HTTPStatus.LOCKED,
    errors.OffsetMismatch: HTTPStatus.CONFLICT,
    errors.ChecksumMismatch: CHECKSUM_MISMATCH,
    errors.FinalUpload: HTTPStatus.FORBIDDEN,
    errors.UnsupportedType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    UnsupportedImage: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    tus_headers.WrongBodyType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    tus_headers.UnsupportedVersion: HTTPStatus.PRECONDITION_FAILED,
    TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManyUploads: HTTPStatus.TOO_MANY_REQUESTS,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    RangeNotSatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    errors.UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ConversionTooLong: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ConversionFailed: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooManyConversions: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyFollowers: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotMadeYet: HTTPStatus.SERVICE_UNAVAILABLE,
    ImagesUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreDenied: HTTPStatus.BAD_GATEWAY,
    errors.StoreError: HTTPStatus.BAD_GATEWAY,
    **STATUS_OF_REFUSAL,
}
"""The nearest ancestor in this table counts. Errors without one are treated as crashes."""

_CODE_OF_STATUS = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
}
_SENTENCE_OF_STATUS = {
    HTTPStatus.NOT_FOUND: "Nothing was found at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not support this method.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request body is too large.",
}
RETRY_AFTER_SECONDS = 5
MAX_DETAILS = 10
"""A small body can have thousands of faults."""


class ErrorBody(BaseModel):
    """The body of every error response."""

    error: str
    code: str


def from_domain(request: AnyRequest, error: errors.VodbucketError) -> Response[ErrorBody]:
    """Respond to an error of our own hierarchy."""
    status = status_of(error)
    if status is None:
        return from_crash(request, error)
    headers, sentence = {}, error.message
    if status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, (errors.NotMadeYet, errors.TooManyConversions, errors.TooManyFollowers)):
        request.scope["state"][NO_FAILURE] = True
    if isinstance(error, (TooManyAttempts, errors.NotMadeYet, errors.TooManyConversions)):
        headers["retry-after"] = str(error.retry_after_seconds)
    if isinstance(error, RangeNotSatisfiable):
        headers["content-range"] = error.content_range
    if status is HTTPStatus.PRECONDITION_FAILED:
        headers["tus-version"] = tus_headers.VERSION
    if isinstance(error, errors.StoreError) and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("store_failed", code=error.code, error=error.message, cause=repr(error.__cause__))
        # Its message names the store's address and settings, which are not for clients.
        sentence = next(str(kind.__doc__) for kind in type(error).__mro__ if "code" in vars(kind))
    code = error.failure_code if isinstance(error, errors.JobFailure) else error.code
    return _respond(status, sentence, code, headers)


def status_of(error: errors.VodbucketError) -> int | None:
    """Return the status of an error, or None if it is a crash."""
    return next((STATUS_OF[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS_OF), None)


def from_framework(request: AnyRequest, error: HTTPException) -> Response[ErrorBody]:
    """Respond to errors that Litestar raises in routing, parsing and validation."""
    headers = dict(error.headers or {})
    if isinstance(error, MethodNotAllowedException):
        try:
            headers["allow"] = ", ".join(allowed_methods(request.app, request.scope["path"]))
        except NotFoundException as missing:
            error = missing
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return from_crash(request, error)
    if isinstance(error, ValidationException):
        return _respond(status, _validation_sentence(error), "invalid_request", {})
    sentence = _SENTENCE_OF_STATUS.get(status) or error.detail or status.phrase
    return _respond(status, sentence, _CODE_OF_STATUS.get(status, "bad_request"), headers)


def from_crash(request: AnyRequest, error: Exception) -> Response[ErrorBody]:
    """Respond to any other exception. This is the last resort."""
    crash = secrets.token_hex(6)
    log.error("crash", crash=crash, method=request.method, exc_info=error)
    sentence = f"Internal server error. The server's log has the details under {crash}."
    return _respond(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, errors.VodbucketError.code, {})


def _validation_sentence(error: ValidationException) -> str:
    extra = error.extra if isinstance(error.extra, list) else []
    items = [item for item in extra if isinstance(item, dict)]
    details = "; ".join(f"{item.get('key', 'body')}: {item.get('message')}" for item in items[:MAX_DETAILS])
    if details == "data: 'data'":
        return "The request needs a JSON body."
    if details.startswith("body: Input should be a valid dictionary"):
        return "The JSON body must be an object."
    # msgspec's words for query parameters
    return re.sub("Expected `(?:int|str)` ", "must be ", details) or "The request is invalid."


def _respond(status: int, sentence: str, code: str, headers: Mapping[str, str]) -> Response[ErrorBody]:
    return Response(
        ErrorBody(error=sentence, code=code),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff", **headers},
    )


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Describe error responses with these statuses for OpenAPI. A request that needs a token may get 429."""
    guarded = HTTPStatus.UNAUTHORIZED in statuses
    return {
        int(status): ResponseSpec(ErrorBody, generate_examples=False, description=_phrase_of(status))
        for status in (*statuses, *((HTTPStatus.TOO_MANY_REQUESTS,) if guarded else ()))
    }


def _phrase_of(status: int) -> str:
    return "Checksum Mismatch" if status == CHECKSUM_MISMATCH else HTTPStatus(status).phrase


HANDLERS: ExceptionHandlersMap = {
    errors.VodbucketError: from_domain,
    HTTPException: from_framework,
    Exception: from_crash,
}
