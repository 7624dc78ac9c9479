"""What a receiver gets, and how its answers are understood."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from backend.core.event_records import Event, EventData
from worker.webhooks.sending import NotDelivered, Refused, Sender, Target, Unreachable

OLD, NEW = (f"whsec_{b64encode(bytes([one]) * 24).decode()}" for one in (1, 2))
EVENT = Event(
    number=7,
    id="v-0-done",
    type="video.done",
    timestamp=datetime(2026, 11, 30, tzinfo=UTC),
    data=EventData(id="v", title="Ein Häuschen"),
)


@dataclass
class Receiver:
    url: str = ""
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, headers={"location": "/elsewhere"})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/{path:.*}", receiver.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook?key=secret"
    yield receiver
    await runner.cleanup()


async def _send(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        await Sender(session, Target(url, (OLD, NEW))).send(EVENT)


async def test_receivers_can_verify_an_event_with_either_secret(receiver: Receiver) -> None:
    await _send(receiver.url)

    ((headers, body),) = receiver.got
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(body, headers) == json.loads(body)
    assert json.loads(body) == {
        "type": "video.done",
        "timestamp": "2026-11-30T00:00:00Z",
        "data": {"id": "v", "title": "Ein Häuschen"},
    }
    names = {name.lower(): value for name, value in headers.items()}
    assert (names["webhook-id"], names["content-type"]) == ("v-0-done", "application/json")


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Refused), (500, Refused)] + [(status, Unreachable) for status in (302, 404, 410, 503)],
)
async def test_answers_concern_the_event_or_the_endpoint(
    receiver: Receiver, status: int, error: type[NotDelivered]
) -> None:
    receiver.status = status

    with pytest.raises(error, match=f"^It answered {status}.$"):
        await _send(receiver.url)

    assert len(receiver.got) == 1, "redirects are not followed"


async def test_what_does_not_speak_http_is_unreachable() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="The connection failed"):
            await _send(f"http://127.0.0.1:{port}/")


def test_the_address_that_is_shown_holds_no_secret() -> None:
    target = Target("https://user:pass@hooks.example:8443/T0/B1/secret?key=secret", (OLD,))

    assert target.address == "https://hooks.example:8443"
    assert target.id != Target("https://hooks.example:8443/", (OLD,)).id
