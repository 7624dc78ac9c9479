"""Events: read the log, and see and test webhooks."""

from http import HTTPStatus
from typing import Annotated

from litestar import get, post
from litestar.params import QueryParameter
from pydantic import BaseModel, Field

from backend.core.event_records import Event
from backend.core.events.webhooks import Webhook, WebhookTest, list_webhooks, try_webhooks
from backend.routes.services import FromServices
from backend.web.error_responses import documented

DEFAULT_LIMIT = 100
MAX_LIMIT = 200
MAX_WAIT_SECONDS = 25
"""Proxies close silent connections after 30 s or more."""
TEST_SECONDS = 20


class EventList(BaseModel):
    """Some events, in order."""

    events: tuple[Event, ...]
    after: int = Field(description="where to continue: the number of the last event")


class WebhookList(BaseModel):
    """All endpoints to which events are delivered."""

    webhooks: tuple[Webhook, ...]


class WebhookTests(BaseModel):
    """What became of a test event."""

    tests: tuple[WebhookTest, ...]


@get("/api/events", responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED), tags=["events"])
async def get_events(
    services: FromServices,
    after: Annotated[
        int | None,
        QueryParameter(ge=0, le=10**15, description="continue here; by default, the latest events"),
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    wait: Annotated[
        int,
        QueryParameter(
            ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait for an event if there is none"
        ),
    ] = 0,
) -> EventList:
    """Read what happened to videos, in order."""
    events = tuple(await services.events.read(after, limit, wait))
    return EventList(events=events, after=events[-1].number if events else after or 0)


@get("/api/webhooks", responses=documented(HTTPStatus.UNAUTHORIZED), tags=["events"])
async def get_webhooks(services: FromServices) -> WebhookList:
    """List the endpoints to which events are delivered."""
    await services.events.read(None, 1, 0)
    webhooks = await list_webhooks(services.buckets.video, services.events.log.last)
    return WebhookList(webhooks=tuple(webhooks))


@post(
    "/api/webhooks/test",
    status_code=HTTPStatus.OK,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT),
    tags=["events"],
)
async def test_webhooks(services: FromServices) -> WebhookTests:
    """Send a test event to all endpoints, and wait for up to 20 seconds to see whether it arrives."""
    tests = await try_webhooks(services.buckets.video, services.events, TEST_SECONDS)
    return WebhookTests(tests=tuple(tests))


HANDLERS = (get_events, get_webhooks, test_webhooks)
