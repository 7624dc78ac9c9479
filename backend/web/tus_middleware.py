"""Prepares tus requests before routing (https://tus.io/protocols/resumable-upload)."""

from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from backend.web.tus_headers import PATH

_OVERRIDE = b"x-http-method-override"
_PREFLIGHT = b"access-control-request-method"


class TusMiddleware:
    """ASGI wrapper that applies `X-HTTP-Method-Override` to requests below `tus_headers.PATH`.

    It also removes Origin from OPTIONS requests that are not preflights. They are for the route, but Litestar
    treats any OPTIONS with an Origin as a preflight, and browsers send Origin even to their own server.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(PATH):
            scope = _prepared(scope)
        await self._app(scope, receive, send)


def _prepared(scope: HTTPScope) -> HTTPScope:
    """Return a changed copy: the server needs the original method to frame the response correctly."""
    prepared, headers = scope.copy(), dict(scope["headers"])
    if method := headers.get(_OVERRIDE):
        prepared["method"] = method.decode("latin-1").upper()  # type: ignore[typeddict-item]  # any word
    if prepared["method"] == HttpMethod.OPTIONS and _PREFLIGHT not in headers:
        prepared["headers"] = [(name, value) for name, value in scope["headers"] if name != b"origin"]
    return prepared
