"""Authentication and roles: every route is for administrators only, unless its `opt` says otherwise.

The session cookie is SameSite=Strict. In addition, a request that uses it to change something must not come
from a page of another origin.
"""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler

from backend.core.access.admin_token import AdminToken
from backend.core.access.people import Role, is_token, token_id_of
from backend.core.access.principals import Principal, Principals
from backend.core.access.rights import Right, RightKind
from backend.core.access.sessions import Sessions
from backend.core.access.upload_links import is_link_token, link_id_of
from backend.core.errors import Forbidden, Unauthorized, UploadLinkRejected, VodbucketError
from backend.core.store.daily_notes import DailyNotes
from backend.web.attempts import Attempts
from backend.web.bodies import AnyRequest

PUBLIC = {"public": True}
"""Route option: no authentication needed."""
SIGNED_IN = {"role": Role.VIEWER}
"""Route option: for everyone who is signed in. The handler checks what they may see."""
UPLOADERS = {"role": Role.UPLOADER}
"""Route option: for those who may upload. The handler checks what they may change."""
GUESTS = {**UPLOADERS, "guests": True}
"""Route option: for those who may upload, and for guests with an upload link in the query."""
LINK_PARAMETER = "upload_link"

COOKIE = "vodbucket_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Connection = ASGIConnection[Any, Any, Any, Any]
"""Any connection: guards and handlers receive differently typed ones."""


class ForeignOrigin(VodbucketError):
    """Pages of other sites cannot use this browser's session. If there is a proxy, it must pass on Host."""

    code = "foreign_origin"


class Authenticator:
    """Finds out who sends a request, and notes in `seen` which sessions are used.

    Pages of `cors_origins` may use a session too.
    """

    def __init__(
        self,
        admin: AdminToken,
        sessions: Sessions,
        principals: Principals,
        attempts: Attempts,
        link_attempts: Attempts,
        seen: DailyNotes,
        cors_origins: Collection[str],
    ) -> None:
        """`link_attempts` are of upload links: a wrong one must not lock out who has a token."""
        self._admin = admin
        self._sessions = sessions
        self._principals = principals
        self._attempts = attempts
        self._link_attempts = link_attempts
        self._seen = seen
        self._cors_origins = frozenset(cors_origins) - {"*"}

    async def of_token(self, connection: Connection, token: str) -> Principal | None:
        """Return whose token this is: the admin token or a person's.

        Raises: TooManyAttempts: too many wrong tokens came before.
        """
        found: Principal | None = None

        async def is_right() -> bool:
            nonlocal found
            if self._admin.matches(token):
                found = Principal(Right(RightKind.ADMIN), Role.ADMIN)
            elif is_token(token):
                found = await self._principals.of(Right(RightKind.TOKEN, token_id_of(token)))
            return found is not None

        await self._attempts.check(address_of(connection), is_right)
        return found

    async def of_link(self, connection: Connection, token: str) -> Principal:
        """Return the guest who has this upload link.

        Raises:
            UploadLinkRejected: it is wrong, over or withdrawn, or its owner may no longer upload.
            TooManyAttempts: too many wrong links came before.
        """
        found: Principal | None = None

        async def is_right() -> bool:
            nonlocal found
            if is_link_token(token):
                found = await self._principals.of(Right(RightKind.LINK, link_id_of(token)))
            return found is not None

        await self._link_attempts.check(address_of(connection), is_right)
        if found is None:
            raise UploadLinkRejected
        return found

    async def require(self, connection: Connection, role: Role) -> Principal:
        """Return who sends the request.

        Raises:
            Unauthorized: the request has neither a valid token nor a valid session.
            Forbidden: they may not do what this role may.
            ForeignOrigin, TooManyAttempts: see `principal_of`.
        """
        principal = await self.principal_of(connection)
        if principal is None:
            raise Unauthorized
        if not principal.role.includes(role):
            raise Forbidden
        return principal

    async def principal_of(self, connection: Connection) -> Principal | None:
        """Return who sends the request, or None for a guest.

        Raises:
            ForeignOrigin: the session is valid, but the request comes from another site's page.
            TooManyAttempts: too many wrong tokens came before.
        """
        if "authorization" in connection.headers:
            scheme, _, token = connection.headers["authorization"].partition(" ")
            return await self.of_token(connection, token.strip()) if scheme.lower() == "bearer" else None
        session_id = self._sessions.id_of(cookie_of(connection, COOKIE))
        principal = session_id and await self._principals.of(Right(RightKind.SESSION, session_id))
        if not principal:
            return None
        if connection.scope.get("method") not in SAFE_METHODS and not self._is_own_origin(connection):
            raise ForeignOrigin
        await self._seen.note(principal.right.holder)
        return principal

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


def cookie_of(connection: Connection, name: str) -> str:
    """Return a cookie that we issue, or nothing.

    Litestar would parse all cookies, and keep those of the last 1,024 clients.
    The first counts: browsers send cookies of longer paths first, and another server may own the site's root.
    """
    headers = "; ".join(connection.headers.getall("cookie", []))
    found = re.search(rf"(?:^|;) *{re.escape(name)}=([A-Za-z0-9_-]+)", headers)
    return found[1] if found else ""


def address_of(connection: Connection) -> str:
    """Return the client's address, by which wrong guesses are counted."""
    return connection.client.host if connection.client else ""


async def require_role(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard for the whole application. Raises: what `Authenticator.require` raises."""
    if not handler.opt.get("public"):
        authenticator: Authenticator = connection.app.state.services.authenticator
        link = connection.query_params.get(LINK_PARAMETER) if handler.opt.get("guests") else None
        if link is not None:
            principal = await authenticator.of_link(connection, link)
        else:
            principal = await authenticator.require(connection, handler.opt.get("role", Role.ADMIN))
        connection.scope["state"][_PRINCIPAL] = principal


FromPrincipal = NamedDependency[Principal]
"""The type of the parameter `principal` of a handler whose route is not public."""
_PRINCIPAL = "principal"


async def provide_principal(request: AnyRequest) -> Principal:
    principal: Principal = request.scope["state"][_PRINCIPAL]
    return principal
