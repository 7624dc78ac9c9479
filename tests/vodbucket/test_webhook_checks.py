"""What the doctor says of webhooks."""

from datetime import UTC, datetime

from backend.core import keys
from backend.core.event_records import Held, WebhookState
from backend.core.events.delivering import DeliveryLease
from backend.core.store.probes import Verdict
from tests.lab.memory_store import MemoryStore
from vodbucket.doctor.webhooks import check_webhooks

NOW = datetime(2026, 11, 30, tzinfo=UTC)


async def test_each_endpoint_has_a_row() -> None:
    video = MemoryStore()
    assert [check async for check in check_webhooks(video)] == []
    held = (Held(number=1, video="v", due_at=NOW),)
    states = {
        "good": WebhookState(address="https://good", position=1),
        "away": WebhookState(address="https://away", position=1, failing_since=NOW, error="It answered 503."),
        "picky": WebhookState(address="https://picky", position=1, held=held, error="It answered 400."),
    }
    await DeliveryLease(video, "worker", [*states, "new"], 60).take()
    for endpoint, state in states.items():
        await video.put(keys.webhook_state(endpoint), state.to_json())

    checks = [check async for check in check_webhooks(video)]

    assert [(check.name, check.verdict, check.measured) for check in checks] == [
        ("webhook https://good", Verdict.OK, "takes events"),
        (
            "webhook https://away",
            Verdict.WARN,
            "takes no events since 2026-11-30 00:00 UTC. It answered 503.",
        ),
        ("webhook https://picky", Verdict.WARN, "1 events are held back. It answered 400."),
    ]
