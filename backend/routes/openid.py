"""Sign-in through an OpenID Connect provider: there and back.

Browsers go to these addresses themselves, so failures are redirects to the site, which says what is wrong.
"""

from http import HTTPStatus
from typing import Annotated

from litestar import get
from litestar.datastructures import Cookie
from litestar.exceptions import NotFoundException
from litestar.params import QueryParameter
from litestar.response import Redirect
from pydantic import BaseModel

from backend.core.errors import VodbucketError
from backend.openid.attempts import TTL_SECONDS
from backend.openid.errors import SignInCancelled, SignInExpired, SignInFailed
from backend.openid.service import OpenId
from backend.routes.services import FromServices, Services
from backend.routes.session import begin_session
from backend.web.auth import PUBLIC, cookie_of
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented
from backend.web.public_address import public_address

PATH = "/api/oidc"
COOKIE = "vodbucket_sign_in_"
"""Followed by the state: people may sign in in several tabs at once."""
_ERRORS = documented(HTTPStatus.NOT_FOUND)
Text = Annotated[str | None, QueryParameter(max_length=4096)]


class SignInService(BaseModel):
    """`name` is null if there is no provider."""

    name: str | None


@get(PATH, opt=PUBLIC, tags=["session"])
async def sign_in_service(services: FromServices) -> SignInService:
    """Get what people call the OpenID Connect provider by which they can sign in."""
    return SignInService(name=services.openid and services.openid.name)


@get(
    f"{PATH}/sign-in",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=HTTPStatus.FOUND,
    tags=["session"],
)
async def sign_in_there(request: AnyRequest, services: FromServices) -> Redirect:
    """Redirect to the provider."""
    openid = _configured(services)
    attempt = openid.attempts.begin()
    try:
        url = await openid.provider.sign_in_url(attempt, _callback(request, services))
    except VodbucketError as problem:
        return _to_site(problem)
    return Redirect(url, cookies=[_attempt_cookie(request, attempt.state, attempt.cookie, TTL_SECONDS)])


@get(
    f"{PATH}/callback",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=HTTPStatus.FOUND,
    tags=["session"],
)
async def come_back(
    request: AnyRequest,
    services: FromServices,
    code: Text = None,
    attempt: Annotated[str | None, QueryParameter(name="state", pattern="^[0-9a-f]{32}$")] = None,
    issuer: Annotated[str | None, QueryParameter(name="iss", max_length=2048)] = None,
    error: Text = None,
) -> Redirect:
    """Sign in with what the provider says, and redirect to the site."""
    openid = _configured(services)
    try:
        begun = attempt and openid.attempts.find(cookie_of(request, COOKIE + attempt), attempt)
        if not begun:
            raise SignInExpired
        if code is None or error is not None:
            raise SignInCancelled if error == "access_denied" else SignInFailed
        callback = _callback(request, services)
        account = await openid.provider.account(begun, callback, code, issuer)
        person = await openid.identities.person_of(account, openid.role_of_new)
    except VodbucketError as problem:
        return _to_site(problem)
    services.principals.forget_all()  # the person may have been found missing a moment ago
    return Redirect(
        "/",
        cookies=[
            await begin_session(request, services, "", person.id),
            _attempt_cookie(request, begun.state, "", 0),
        ],
    )


@get(
    f"{PATH}/sign-out",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=HTTPStatus.FOUND,
    tags=["session"],
)
async def sign_out_there(request: AnyRequest, services: FromServices) -> Redirect:
    """Redirect to the page where people may sign out at the provider too, or else to the site."""
    try:
        site = f"{public_address(request, services.settings)}/"
        return Redirect(await _configured(services).provider.sign_out_url(site) or "/")
    except VodbucketError as problem:
        return _to_site(problem)


def _configured(services: Services) -> OpenId:
    if services.openid is None:
        raise NotFoundException
    return services.openid


def _callback(request: AnyRequest, services: Services) -> str:
    return f"{public_address(request, services.settings)}{PATH}/callback"


def _to_site(problem: VodbucketError) -> Redirect:
    """Let the site say what is wrong."""
    return Redirect(f"/#sign-in={problem.code}")


def _attempt_cookie(request: AnyRequest, state: str, value: str, max_age: int) -> Cookie:
    """Lax, as it must come back with a navigation from the provider's site."""
    return Cookie(
        key=COOKIE + state,
        value=value,
        max_age=max_age,
        path=f"{request.app.state.services.settings.root_path}{PATH}",
        httponly=True,
        samesite="lax",
        secure=request.scope["scheme"] == "https",
    )


HANDLERS = (sign_in_service, sign_in_there, come_back, sign_out_there)
