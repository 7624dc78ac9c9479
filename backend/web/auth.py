"""Who may call what: every route asks for the admin token or a session unless it says `opt=PUBLIC`.

Cookies are SameSite=Strict; besides, a request that changes something on a cookie's authority must not come
from a page of another origin.
"""

import hmac
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from backend.core.errors import Unauthorized, VodbucketError
from backend.playback.grants import Sessions

PUBLIC = {"public": True}
"""Route option: no authentication."""

COOKIE = "vodbucket_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Connection = ASGIConnection[Any, Any, Any, Any]
"""Any connection: guards and handlers are handed differently typed ones."""


class ForeignOrigin(VodbucketError):
    """Another site's page cannot use this browser's session; a proxy must pass Host on."""

    code = "foreign_origin"


class Authenticator:
    """Checks the admin token and sessions; `cors_origins` are foreign pages that may use a session."""

    def __init__(self, admin_token: str, sessions: Sessions, cors_origins: Collection[str]) -> None:
        self._admin_token = admin_token.encode()
        self._sessions = sessions
        self._cors_origins = frozenset(cors_origins) - {"*"}

    def is_admin_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(errors="surrogateescape"), self._admin_token)

    def require(self, connection: Connection) -> None:
        """Raises: Unauthorized: neither the token nor a valid session came with the request."""
        if not self.is_authenticated(connection):
            raise Unauthorized

    def is_authenticated(self, connection: Connection) -> bool:
        """Raises: ForeignOrigin: there is a session, but the request was forged by another site's page."""
        authorization = connection.headers.get("authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            return scheme.lower() == "bearer" and self.is_admin_token(token.strip())
        if not self._sessions.is_valid(connection.cookies.get(COOKIE, "")):
            return False
        if connection.scope.get("method") not in SAFE_METHODS and not self._is_own_origin(connection):
            raise ForeignOrigin
        return True

    def _is_own_origin(self, connection: Connection) -> bool:
        origin = connection.headers.get("origin")
        if origin is None or origin in self._cors_origins:
            return True
        try:
            return urlsplit(origin).netloc == connection.headers.get("host")
        except ValueError:
            return False


def require_admin(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard of the whole application: refuse unless the route is public. Raises: Unauthorized."""
    if not handler.opt.get("public"):
        authenticator: Authenticator = connection.app.state.services.authenticator
        authenticator.require(connection)
