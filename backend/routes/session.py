"""Sign-in for browsers: exchanges a token for a session cookie that scripts cannot read."""

from http import HTTPStatus

from litestar import Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody
from pydantic import BaseModel, ConfigDict

from backend.core.access.people import Role
from backend.core.access.rights import RightKind
from backend.core.errors import Unauthorized
from backend.routes.services import FromServices
from backend.web.auth import COOKIE, PUBLIC, SIGNED_IN, FromPrincipal
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented

PATH = "/api/session"


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str


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
    session = await services.sessions.begin(principal.right.holder, principal.person)
    return _with_cookie(request, session, services.sessions.ttl_seconds)


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
    return _with_cookie(request, "", 0)


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


def _with_cookie(request: AnyRequest, value: str, max_age: int) -> Response[None]:
    cookie = session_cookie(request, value, max_age)
    return Response(None, status_code=HTTPStatus.NO_CONTENT, cookies=[cookie])


def session_cookie(request: AnyRequest, value: str, max_age: int) -> Cookie:
    return Cookie(
        key=COOKIE,
        value=value,
        max_age=max_age,
        path=request.app.state.services.settings.root_path or "/",
        httponly=True,
        samesite="strict",
        secure=request.scope["scheme"] == "https",
    )


HANDLERS = (sign_in, check_session, sign_out, end_other_sessions)
