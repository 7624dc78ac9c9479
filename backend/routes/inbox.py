"""The inbox: a store says that something is new there."""

import secrets
from http import HTTPStatus
from typing import Annotated

from litestar import post
from litestar.params import QueryParameter

from backend.core.access.people import Role
from backend.routes.services import FromServices, Services
from backend.web.auth import PUBLIC, address_of
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
    if token is None or not await _is_inbox_token(request, services, token):
        await services.authenticator.require(request, Role.ADMIN)
    services.inbox.hint()


async def _is_inbox_token(request: AnyRequest, services: Services, token: str) -> bool:
    expected = services.settings.inbox_token
    if expected is None:
        return False
    secret = expected.get_secret_value().encode()

    async def is_right() -> bool:
        return secrets.compare_digest(token.encode(), secret)

    return await services.inbox_attempts.check(address_of(request), is_right)


HANDLERS = (inbox_changed,)
