"""Following a video: the command line takes what the server pushes, and asks where nothing is pushed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web
from pydantic import AnyHttpUrl, SecretStr

from backend.core.ids import new_id
from backend.core.records import Stage, Status, StatusWord, Video
from backend.core.settings import ClientSettings
from vodbucket.client import api
from vodbucket.commands import video_client
from vodbucket.commands.video_client import VideoClient

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VIDEO = Video(id=new_id(), title="A", filename="a.mp4", size_bytes=1, created_at=NOW)
BUSY = Status.queued(VIDEO.id, NOW).at_stage(Stage.TRANSCODING, NOW)
DONE = BUSY.at_stage(Stage.COMPLETE, NOW)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_client, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(api, "FIRST_EVENT_SECONDS", 0.05)


@asynccontextmanager
async def _server(events: Handler, *statuses: Status) -> AsyncIterator[tuple[VideoClient, list[str]]]:
    """Answer with these statuses in turn, then the last one forever. Yield a client, and what it asks for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        asked.append(kind)
        if kind == "events":
            return await events(request)
        status = statuses[min(asked.count("status"), len(statuses)) - 1]
        record = VIDEO.model_dump(mode="json") | {"status": status.model_dump(mode="json")}
        return web.json_response(status.model_dump(mode="json") if kind == "status" else record)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = AnyHttpUrl(f"http://127.0.0.1:{runner.addresses[0][1]}")
        yield VideoClient(ClientSettings(vodbucket_url=url, admin_token=SecretStr("t" * 16))), asked
    finally:
        await runner.cleanup()


async def _stream(request: web.Request, *events: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(f"{event}\r\n\r\n".encode())
    return response


def _video(status: Status) -> str:
    return f'event: video\r\ndata: {{"type":"video","status":{status.model_dump_json()}}}'


async def test_pushed_statuses_are_not_asked_for() -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        halves = (BUSY.replace(progress=progress / 100) for progress in range(100))
        return await _stream(request, *map(_video, halves), "event: ping\r\ndata: {}", _video(DONE))

    async with _server(events, BUSY) as (client, asked):
        await client.follow(VIDEO.id)

    assert asked == [VIDEO.id, "status", "events", VIDEO.id]


async def test_a_stream_that_ends_is_opened_again() -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        return await _stream(request, _video(BUSY), 'event: end\r\ndata: {"error":"x","code":"x"}')

    async with _server(events, BUSY, BUSY, DONE) as (client, asked):
        await client.follow(VIDEO.id)

    assert asked == [VIDEO.id, "status", "events", "status", "events", "status", VIDEO.id]


@pytest.mark.parametrize("kind", ["old", "held", "other"])
async def test_where_nothing_is_pushed_it_asks(kind: str) -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        if kind == "old":
            return web.json_response({"error": "None.", "code": "not_found"}, status=404)
        if kind == "other":
            return await _stream(request, "data: nonsense")
        response = await _stream(request)
        while request.transport is not None:  # noqa: ASYNC110  # a proxy waits for the end
            await asyncio.sleep(0.01)
        return response

    async with _server(events, BUSY, BUSY, BUSY, DONE) as (client, asked):
        found = await client.follow(VIDEO.id)

    assert asked == [VIDEO.id, "status", "events", "status", "status", "status", VIDEO.id]
    assert found.status.status is StatusWord.DONE
