"""Errors of requests to a vodbucket server."""

from backend.core.errors import ConfigurationError, VodbucketError


class ServerUnavailable(VodbucketError):
    """The server is unavailable. The same request may succeed later."""

    code = "server_away"
    exit_code = 3


class RequestRejected(VodbucketError):
    """The server rejected the request, and would reject it again."""

    code = "refused"

    def __init__(self, message: str, server_code: str = "") -> None:
        """`server_code` is the code in the server's error response; empty if it sent none."""
        super().__init__(message)
        self.server_code = server_code


class NotPushed(VodbucketError):
    """The server, or a proxy before it, does not push changes."""

    code = "not_pushed"


class BodyTooLarge(RequestRejected):
    """A proxy in front of the server limits request bodies (413): shorter ones may pass."""


class NotFound(RequestRejected):
    """The server does not have it, or no longer has it (404, 410)."""


class TokenRejected(ConfigurationError):
    """The server does not accept this ADMIN_TOKEN."""

    code = "token_refused"


class FileRejected(VodbucketError):
    """This file cannot be uploaded."""

    code = "file_rejected"
