"""The errors that end a connection before the application sees a request, and their statuses."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from backend.core.errors import VodbucketError


class Refusal(VodbucketError):
    """This is not a valid HTTP request."""

    code = "bad_request"


class HeadersTooLarge(Refusal):
    """The headers of the request are too large."""

    code = "headers_too_large"


class AddressTooLong(Refusal):
    """The address is too long."""

    code = "address_too_long"


class RequestTimeout(Refusal):
    """The request did not arrive in time."""

    code = "request_timeout"


class TooManyConnections(Refusal):
    """The server is busy. Try again soon."""

    code = "too_many_connections"


STATUS_OF_REFUSAL: Mapping[type[VodbucketError], int] = {
    Refusal: HTTPStatus.BAD_REQUEST,
    HeadersTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    AddressTooLong: HTTPStatus.REQUEST_URI_TOO_LONG,
    RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    TooManyConnections: HTTPStatus.SERVICE_UNAVAILABLE,
}


def response_to(refusal: Refusal) -> bytes:
    """Return a whole response, after which the connection is closed."""
    body = json.dumps({"error": refusal.message, "code": refusal.code}).encode()
    head = (
        "content-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return STATUS_LINE[STATUS_OF_REFUSAL[type(refusal)]] + head.encode() + body
