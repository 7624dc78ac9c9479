"""Sign-in for browsers: exchanges the admin token for a session cookie that scripts cannot read."""

from http import HTTPStatus

from litestar import Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody
from pydantic import BaseModel, ConfigDict

from backend.core.errors import Unauthorized
from backend.routes.services import FromServices
from backend.web.auth import COOKIE, PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented

PATH = "/api/session"


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str


@post(
    PATH,
    opt=PUBLIC,
    responses=documented(HTTPStatus.UNAUTHORIZED),
    status_code=HTTPStatus.NO_CONTENT,
    tags=["session"],
)
async def sign_in(request: AnyRequest, services: FromServices, data: JSONBody[SignIn]) -> Response[None]:
    """Sign in with the admin token."""
    if not services.authenticator.is_admin_token(request, data.token):
        raise Unauthorized("Wrong admin token.")
    return _with_cookie(request, await services.sessions.begin(), services.sessions.ttl_seconds)


@get(PATH, responses=documented(HTTPStatus.UNAUTHORIZED), status_code=HTTPStatus.NO_CONTENT, tags=["session"])
async def check_session() -> None:
    """Check whether this browser is signed in."""


@delete(
    PATH,
    opt=PUBLIC,
    responses=documented(HTTPStatus.FORBIDDEN),
    status_code=HTTPStatus.NO_CONTENT,
    tags=["session"],
)
async def sign_out(request: AnyRequest, services: FromServices) -> Response[None]:
    """Sign this browser out."""
    session_id = await services.authenticator.session_of(request)
    if session_id is not None:
        await services.sessions.end(session_id)
    return _with_cookie(request, "", 0)


@delete(
    "/api/sessions",
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    status_code=HTTPStatus.NO_CONTENT,
    tags=["session"],
)
async def end_other_sessions(request: AnyRequest, services: FromServices) -> None:
    """Sign out every other browser."""
    await services.sessions.end_others(await services.authenticator.session_of(request))


def _with_cookie(request: AnyRequest, value: str, max_age: int) -> Response[None]:
    cookie = Cookie(
        key=COOKIE,
        value=value,
        max_age=max_age,
        path=request.app.state.services.settings.root_path or "/",
        httponly=True,
        samesite="strict",
        secure=request.scope["scheme"] == "https",
    )
    return Response(None, status_code=HTTPStatus.NO_CONTENT, cookies=[cookie])


HANDLERS = (sign_in, check_session, sign_out, end_other_sessions)
