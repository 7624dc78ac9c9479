"""Whether the endpoints of webhooks take events."""

from collections.abc import AsyncIterator

from backend.core.event_records import WebhookState
from backend.core.events.delivering import read_state, serving_endpoints
from backend.core.store.interface import Store
from backend.core.store.probes import Check, Verdict

ADVICE = "See to the receiver, then run `vodbucket events --test`."


async def check_webhooks(video: Store) -> AsyncIterator[Check]:
    """Check each endpoint to which a worker delivers. There is nothing to check where none does."""
    for endpoint in await serving_endpoints(video):
        state = await read_state(video, endpoint)
        if state is not None:
            yield _check_of(state)


def _check_of(state: WebhookState) -> Check:
    name = f"webhook {state.address}"
    if state.failing_since is not None:
        why = f"takes no events since {state.failing_since:%Y-%m-%d %H:%M} UTC. {state.error or ''}"
        return Check(name, Verdict.WARN, why.strip(), ADVICE)
    if state.held:
        why = f"{len(state.held)} events are held back. {state.error or ''}"
        return Check(name, Verdict.WARN, why.strip(), ADVICE)
    return Check(name, Verdict.OK, "takes events")
