"""How requests to a vodbucket server end when they do not end well."""

from backend.core.errors import ConfigurationError, VodbucketError


class ServerAway(VodbucketError):
    """The server does not answer properly just now; the same request may succeed later."""

    code = "server_away"


class Refused(VodbucketError):
    """The server refuses, and would again."""

    code = "refused"

    def __init__(self, message: str, problem: str = "") -> None:
        """`problem` is the server's stable code for it, empty where it sent none."""
        super().__init__(message)
        self.problem = problem


class NotThere(Refused):
    """The server has no such thing, or no more (404, 410)."""


class TokenRefused(ConfigurationError):
    """The server does not accept this ADMIN_TOKEN."""

    code = "token_refused"


class FileRejected(VodbucketError):
    """This file cannot be uploaded."""

    code = "file_rejected"
