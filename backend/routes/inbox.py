"""The inbox: a store says that something is new there."""

import secrets
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import post
from litestar.params import QueryParameter

from backend.core.errors import Unauthorized
from backend.routes.services import FromServices
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented


@post(
    "/api/inbox/events",
    status_code=HTTPStatus.NO_CONTENT,
    opt=PUBLIC,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    tags=["uploads"],
)
async def inbox_changed(
    request: AnyRequest,
    services: FromServices,
    token: Annotated[
        str | None, QueryParameter(description="INBOX_TOKEN, instead of the admin token")
    ] = None,
) -> None:
    """Look into the inbox soon. Whatever the body says is not read: a store's event is only a hint."""
    expected = services.settings.inbox_token
    known = (
        expected is not None
        and token is not None
        and services.inbox_attempts.check(
            request.client.host if request.client else "",
            partial(secrets.compare_digest, token.encode(), expected.get_secret_value().encode()),
        )
    )
    if not known and not await services.authenticator.is_authenticated(request):
        raise Unauthorized
    services.inbox.hint()


HANDLERS = (inbox_changed,)
