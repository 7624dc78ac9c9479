"""What an operator sees of webhooks, and tests of them."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from backend.core.errors import NoWebhooks
from backend.core.event_records import WebhookState
from backend.core.events.delivering import read_state, serving_endpoints
from backend.core.events.feed import EventFeed
from backend.core.events.log import MOST_EVENTS
from backend.core.library.outbox import announce_test
from backend.core.store.interface import Store

LOOK_SECONDS = 1.0


class Webhook(BaseModel):
    """One endpoint, and how it is doing."""

    model_config = ConfigDict(frozen=True)

    address: str = Field(description="without path, query and credentials")
    waiting: int = Field(description="events of the log that it has not got yet")
    held: int = Field(description="events that it has refused, or that wait for one of the same video")
    given_up: int = Field(description="events that it never got")
    delivered_at: AwareDatetime | None = Field(description="the last success")
    failing_since: AwareDatetime | None = Field(description="since when nothing gets through")
    due_at: AwareDatetime | None = Field(description="when the next attempt is made, if it is failing")
    error: str | None = Field(description="why the last attempt failed")


class WebhookTest(BaseModel):
    """What became of a test event at one endpoint."""

    model_config = ConfigDict(frozen=True)

    address: str
    delivered: bool = Field(description="false: not so far; it is tried for a day")
    error: str | None


async def list_webhooks(video: Store, last: int) -> Sequence[Webhook]:
    """Return the endpoints to which events are delivered. `last` is the number of the log's last event."""
    return [
        Webhook(
            address=state.address,
            waiting=max(0, last - state.position),
            held=len(state.held),
            given_up=state.given_up,
            delivered_at=state.delivered_at,
            failing_since=state.failing_since,
            due_at=state.due_at,
            error=state.error,
        )
        for state in (await _states(video)).values()
    ]


async def try_webhooks(video: Store, feed: EventFeed, wait_seconds: float) -> Sequence[WebhookTest]:
    """Send a test event to all endpoints, the way that all events take. Return what came of it.

    Raises: NoWebhooks.
    """
    before = await _states(video)
    if not before:
        raise NoWebhooks
    await feed.read(None, 1, 0)
    after, number = feed.log.last, None
    event, deadline = await announce_test(video, datetime.now(UTC)), time.monotonic() + wait_seconds
    while True:
        if number is None:
            found = await feed.read(after, MOST_EVENTS, 0)
            number = next((one.number for one in found if one.id == event), None)
            after = found[-1].number if found else after
        states = await _states(video)
        got = {one for one, state in states.items() if _has_got(state, number)}
        failed = {one for one in states.keys() & before.keys() if states[one].failures > before[one].failures}
        held = {one for one, state in states.items() if any(held.number == number for held in state.held)}
        if states.keys() <= got | failed | held or time.monotonic() >= deadline:
            return [
                WebhookTest(
                    address=state.address, delivered=one in got, error=None if one in got else state.error
                )
                for one, state in states.items()
            ]
        await asyncio.sleep(LOOK_SECONDS)


def _has_got(state: WebhookState, number: int | None) -> bool:
    held = any(one.number == number for one in state.held)
    return number is not None and state.position >= number and not held


async def _states(video: Store) -> Mapping[str, WebhookState]:
    """Return the endpoints to which events are delivered."""
    states = {endpoint: await read_state(video, endpoint) for endpoint in await serving_endpoints(video)}
    return {endpoint: state for endpoint, state in states.items() if state is not None}
