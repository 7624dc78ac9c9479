"""What requests of the tus protocol need before they are routed (https://tus.io/protocols/resumable-upload)."""

from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from backend.web import tus

_OVERRIDE = b"x-http-method-override"
_PREFLIGHT = b"access-control-request-method"


class TusRequests:
    """Wraps an ASGI application: gives requests below `tus.PATH` the method that they ask for.

    An OPTIONS that is no preflight comes without its Origin: it is for the route, and Litestar takes any
    that has one for a preflight. Browsers send it to their own server, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(tus.PATH):
            scope = _as_asked(scope)
        await self._app(scope, receive, send)


def _as_asked(scope: HTTPScope) -> HTTPScope:
    """Return a copy: in its own the server looks up how the answer to the actual method is framed."""
    asked, headers = scope.copy(), dict(scope["headers"])
    if method := headers.get(_OVERRIDE):
        asked["method"] = method.decode("latin-1").upper()  # type: ignore[typeddict-item]  # any word
    if asked["method"] == HttpMethod.OPTIONS and _PREFLIGHT not in headers:
        asked["headers"] = [(name, value) for name, value in scope["headers"] if name != b"origin"]
    return asked
