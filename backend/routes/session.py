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
    if not services.authenticator.is_admin_token(data.token):
        raise Unauthorized("Wrong admin token.")
    return _with_cookie(request, services.sessions.issue(), services.sessions.ttl_seconds)


@get(PATH, responses=documented(HTTPStatus.UNAUTHORIZED), status_code=HTTPStatus.NO_CONTENT, tags=["session"])
async def check_session() -> None:
    """Check whether this browser is signed in."""


@delete(PATH, opt=PUBLIC, status_code=HTTPStatus.NO_CONTENT, tags=["session"])
async def sign_out(request: AnyRequest) -> Response[None]:
    """Sign this browser out."""
    return _with_cookie(request, "", 0)


def _with_cookie(request: AnyRequest, value: str, max_age: int) -> Response[None]:
    cookie = Cookie(
        key=COOKIE,
        value=value,
        max_age=max_age,
        path=request.app.state.services.settings.root_path or "/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return Response(None, status_code=HTTPStatus.NO_CONTENT, cookies=[cookie])


HANDLERS = (sign_in, check_session, sign_out)
