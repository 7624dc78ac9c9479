"""Sign-in for browsers: exchanges a token for a session cookie that scripts cannot read."""

import asyncio
import re
from http import HTTPStatus

from litestar import Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import FromPath, JSONBody
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from backend.core.access.people import Role
from backend.core.access.rights import HOLDER_DIGITS, Right, RightKind
from backend.core.errors import BadRequest, Unauthorized
from backend.routes.services import FromServices, Services
from backend.web.auth import COOKIE, PUBLIC, SIGNED_IN, FromPrincipal
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented
from backend.web.user_agent import client_name

PATH = "/api/session"


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str


class SessionItem(BaseModel):
    """A browser that is signed in. `client` names it, as far as that is known."""

    id: str
    client: str
    created_at: AwareDatetime
    expires_at: AwareDatetime
    last_used_on: AwareDatetime | None = Field(description="to the day")
    is_current: bool = Field(description="the session of this request")


class SessionList(BaseModel):
    sessions: list[SessionItem]


class SignedIn(BaseModel):
    """Who is signed in. `person` and `name` are null for the holder of the admin token."""

    role: Role
    person: str | None
    name: str | None


@post(
    PATH,
    opt=PUBLIC,
    responses=documented(HTTPStatus.UNAUTHORIZED),
    status_code=HTTPStatus.NO_CONTENT,
    tags=["session"],
)
async def sign_in(request: AnyRequest, services: FromServices, data: JSONBody[SignIn]) -> Response[None]:
    """Sign in with the admin token or a person's."""
    principal = await services.authenticator.of_token(request, data.token.strip())
    if principal is None:
        raise Unauthorized("Wrong token.")
    holder = services.principals.lasting(principal.right).holder
    cookie = await begin_session(request, services, holder, principal.person)
    return Response(None, status_code=HTTPStatus.NO_CONTENT, cookies=[cookie])


@get(PATH, opt=SIGNED_IN, responses=documented(HTTPStatus.UNAUTHORIZED), tags=["session"])
async def check_session(services: FromServices, principal: FromPrincipal) -> SignedIn:
    """Get who is signed in."""
    person = await services.people.find(principal.person) if principal.person else None
    return SignedIn(role=principal.role, person=principal.person, name=person.name if person else None)


@delete(
    PATH,
    opt=PUBLIC,
    responses=documented(HTTPStatus.FORBIDDEN),
    status_code=HTTPStatus.NO_CONTENT,
    tags=["session"],
)
async def sign_out(request: AnyRequest, services: FromServices) -> Response[None]:
    """Sign this browser out."""
    principal = await services.authenticator.principal_of(request)
    if principal is not None and principal.right.kind is RightKind.SESSION:
        await services.sessions.end(principal.right.holder)
        services.principals.forget_all()
    return Response(None, status_code=HTTPStatus.NO_CONTENT, cookies=[_cookie(request, "", 0)])


@get("/api/sessions", opt=SIGNED_IN, responses=documented(HTTPStatus.UNAUTHORIZED), tags=["session"])
async def list_sessions(services: FromServices, principal: FromPrincipal) -> SessionList:
    """List where this person is signed in, the latest first."""
    listed = await services.sessions.all_of(principal.person)
    listed.sort(key=lambda one: one.record.created_at, reverse=True)
    return SessionList(
        sessions=[
            SessionItem(
                id=one.id,
                client=one.record.client,
                created_at=one.record.created_at,
                expires_at=one.record.expires_at,
                last_used_on=one.seen_at,
                is_current=right == principal.right,
            )
            for one in listed
            if await services.principals.of(right := Right(RightKind.SESSION, one.id))
        ]
    )


@delete(
    "/api/sessions/{session_id:str}",
    opt=SIGNED_IN,
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    tags=["session"],
)
async def end_session(services: FromServices, principal: FromPrincipal, session_id: FromPath[str]) -> None:
    """Sign out one browser of this person."""
    if not re.fullmatch(f"[0-9a-f]{{{HOLDER_DIGITS}}}", session_id):
        raise BadRequest("This is not the id of a session.")
    if session_id in {one.id for one in await services.sessions.all_of(principal.person)}:
        await services.sessions.end(session_id)
        services.principals.forget_all()


@delete(
    "/api/sessions",
    opt=SIGNED_IN,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    status_code=HTTPStatus.NO_CONTENT,
    tags=["session"],
)
async def end_other_sessions(services: FromServices, principal: FromPrincipal) -> None:
    """Sign out all other browsers of this person."""
    is_session = principal.right.kind is RightKind.SESSION
    await services.sessions.end_others(principal.right.holder if is_session else None, principal.person)
    services.principals.forget_all()


async def begin_session(
    request: AnyRequest, services: Services, made_with: str, person: str | None
) -> Cookie:
    """Begin a session of this browser, and return its cookie. The arguments are as in `Session`."""
    client = await asyncio.to_thread(client_name, request.headers.get("user-agent", ""))
    value = await services.sessions.begin(made_with, person, client)
    return _cookie(request, value, services.sessions.ttl_seconds)


def _cookie(request: AnyRequest, value: str, max_age: int) -> Cookie:
    return Cookie(
        key=COOKIE,
        value=value,
        max_age=max_age,
        path=request.app.state.services.settings.root_path or "/",
        httponly=True,
        samesite="strict",
        secure=request.scope["scheme"] == "https",
    )


HANDLERS = (sign_in, check_session, sign_out, list_sessions, end_session, end_other_sessions)
