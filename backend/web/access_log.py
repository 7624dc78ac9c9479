"""One log event per request. Query strings, grants and upload links are left out: they open something."""

import time
from http import HTTPStatus

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from backend.core.access.upload_links import TOKEN_LENGTH

log = structlog.get_logger(__name__)

QUIET_PATHS = frozenset({"/healthz", "/readyz"})
QUIET_PREFIX = "/play/"
"""Below it, only failures are logged: each viewer sends a request every few seconds, and a line takes half as
long as the answer."""
NO_FAILURE = "no_failure"
"""In the scope's state: whatever the answer's status, nothing has failed."""


class AccessLog:
    """ASGI wrapper that logs each request except those that players send all the time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in (ScopeType.HTTP, ScopeType.WEBSOCKET) or scope["path"] in QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method, path = scope.get("method", "GET"), scope["path"]
        status = 0

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = HTTPStatus.SWITCHING_PROTOCOLS
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        finally:
            # by now, `HttpRules` has taken ROOT_PATH out of the scope's path
            is_normal = 200 <= status < 400 or NO_FAILURE in scope.get("state", ())
            if not (scope["path"].startswith(QUIET_PREFIX) and is_normal):
                milliseconds = round((time.perf_counter() - started) * 1000, 1)
                log.info(
                    "request",
                    method=method,
                    path=loggable_path(path),
                    status=status,
                    milliseconds=milliseconds,
                )


def loggable_path(path: str) -> str:
    """Return the path without its secret: the grant of a playback path, the link of a guest's page."""
    segments = [segment for segment in path.split("/") if segment]  # routing merges slashes too
    if segments[:1] == ["play"] or (segments[:1] == ["upload"] and len(segments[-1]) == TOKEN_LENGTH):
        return "/".join(["", segments[0], "…", *segments[2:]])
    return path
