"""Authentication: every route requires the admin token or a session, unless it has `opt=PUBLIC`.

The session cookie is SameSite=Strict. In addition, a request that uses it to change something must not come
from a page of another origin.
"""

import hmac
import struct
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from backend.core.errors import Unauthorized, VodbucketError
from backend.playback.grants import TokenSigner

PUBLIC = {"public": True}
"""Route option: no authentication needed."""

COOKIE = "vodbucket_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Connection = ASGIConnection[Any, Any, Any, Any]
"""Any connection: guards and handlers receive differently typed ones."""

SESSION_VERSION = 1
_PAYLOAD = struct.Struct(">BI")


class ForeignOrigin(VodbucketError):
    """Pages of other sites cannot use this browser's session. If there is a proxy, it must pass on Host."""

    code = "foreign_origin"


class Sessions:
    """Issues and checks the session tokens of signed-in browsers. `clock` returns Unix seconds."""

    def __init__(self, secret: str, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._signer = TokenSigner(secret, "session", _PAYLOAD.size)
        self.ttl_seconds = ttl_seconds
        self._clock = clock

    def issue(self) -> str:
        return self._signer.sign(_PAYLOAD.pack(SESSION_VERSION, int(self._clock()) + self.ttl_seconds))

    def is_valid(self, token: str) -> bool:
        payload = self._signer.verify(token)
        if payload is None:
            return False
        version, expires_unix = _PAYLOAD.unpack(payload)
        return bool(version == SESSION_VERSION and expires_unix > self._clock())


class Authenticator:
    """Checks the admin token and sessions. Pages of `cors_origins` may use a session too."""

    def __init__(self, admin_token: str, sessions: Sessions, cors_origins: Collection[str]) -> None:
        self._admin_token = admin_token.encode()
        self._sessions = sessions
        self._cors_origins = frozenset(cors_origins) - {"*"}

    def is_admin_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(errors="surrogateescape"), self._admin_token)

    def is_authenticated(self, connection: Connection) -> bool:
        """Raises: ForeignOrigin: the session is valid, but the request comes from another site's page."""
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
        if origin is None:
            return connection.headers.get("sec-fetch-site") in (None, "same-origin", "none")
        if origin in self._cors_origins:
            return True
        try:
            return urlsplit(origin).netloc == connection.headers.get("host")
        except ValueError:
            return False


def require_admin(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard for the whole application.

    Raises:
        Unauthorized: the route is not public, and the request has neither the token nor a valid session.
    """
    if handler.opt.get("public"):
        return
    authenticator: Authenticator = connection.app.state.services.authenticator
    if not authenticator.is_authenticated(connection):
        raise Unauthorized
