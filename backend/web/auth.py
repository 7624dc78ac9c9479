"""Authentication: every route requires the admin token or a session, unless it has `opt=PUBLIC`.

The session cookie is SameSite=Strict. In addition, a request that uses it to change something must not come
from a page of another origin.
"""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from backend.core.access.admin_token import AdminToken
from backend.core.access.rights import Right, RightKind
from backend.core.access.sessions import Sessions
from backend.core.errors import Unauthorized, VodbucketError
from backend.web.attempts import Attempts

PUBLIC = {"public": True}
"""Route option: no authentication needed."""

COOKIE = "vodbucket_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Connection = ASGIConnection[Any, Any, Any, Any]
"""Any connection: guards and handlers receive differently typed ones."""


class ForeignOrigin(VodbucketError):
    """Pages of other sites cannot use this browser's session. If there is a proxy, it must pass on Host."""

    code = "foreign_origin"


class Authenticator:
    """Checks the admin token and sessions. Pages of `cors_origins` may use a session too."""

    def __init__(
        self, admin: AdminToken, sessions: Sessions, attempts: Attempts, cors_origins: Collection[str]
    ) -> None:
        self._admin = admin
        self._sessions = sessions
        self._attempts = attempts
        self._cors_origins = frozenset(cors_origins) - {"*"}

    def is_admin_token(self, connection: Connection, token: str) -> bool:
        """Raises: TooManyAttempts: too many wrong tokens came before."""
        address = connection.client.host if connection.client else ""
        return self._attempts.check(address, lambda: self._admin.matches(token))

    async def is_authenticated(self, connection: Connection) -> bool:
        """Raises: ForeignOrigin, TooManyAttempts: see `right_of`."""
        if "authorization" in connection.headers:
            return self.sends_token(connection)
        return await self.session_of(connection) is not None

    async def right_of(self, connection: Connection) -> Right | None:
        """Return the right that the request has everywhere, or None for a guest.

        Raises:
            ForeignOrigin: the session is valid, but the request comes from another site's page.
            TooManyAttempts: too many wrong tokens came before.
        """
        if "authorization" in connection.headers:
            sent = self.sends_token(connection)
            return Right(RightKind.ADMIN, self._admin.fingerprint()) if sent else None
        session_id = await self.session_of(connection)
        return None if session_id is None else Right(RightKind.SESSION, session_id)

    def sends_token(self, connection: Connection) -> bool:
        """Return whether the header Authorization has the admin token. Raises: TooManyAttempts."""
        scheme, _, token = connection.headers["authorization"].partition(" ")
        return scheme.lower() == "bearer" and self.is_admin_token(connection, token.strip())

    async def session_of(self, connection: Connection) -> str | None:
        """Return the id of the browser's session. Raises: ForeignOrigin."""
        session_id = self._sessions.id_of(_cookie_of(connection))
        if session_id is None or not await self._sessions.stands(session_id):
            return None
        if connection.scope.get("method") not in SAFE_METHODS and not self._is_own_origin(connection):
            raise ForeignOrigin
        return session_id

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


def _cookie_of(connection: Connection) -> str:
    """Return the session cookie. Litestar would parse all cookies, and keep those of the last 1,024 clients.

    The first counts: browsers send cookies of longer paths first, and another server may own the site's root.
    """
    headers = "; ".join(connection.headers.getall("cookie", []))
    found = _COOKIE.search(headers)
    return found[1] if found else ""


_COOKIE = re.compile(rf"(?:^|;) *{COOKIE}=([A-Za-z0-9_-]+)")


async def require_admin(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard for the whole application.

    Raises:
        Unauthorized: the route is not public, and the request has neither the token nor a valid session.
        ForeignOrigin, TooManyAttempts: see `Authenticator.right_of`.
    """
    if handler.opt.get("public"):
        return
    authenticator: Authenticator = connection.app.state.services.authenticator
    if not await authenticator.is_authenticated(connection):
        raise Unauthorized
