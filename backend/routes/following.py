"""Pushed status: of one video as server-sent events, of all videos over a WebSocket.

Both end, and say so, soon after the right ends under which they were opened.
"""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Literal

import structlog
from litestar import Response, WebSocket, get, websocket
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.response import ServerSentEvent, ServerSentEventMessage
from pydantic import BaseModel

from backend.core.access.people import Role
from backend.core.access.principals import Principal
from backend.core.access.rights import Right, RightKind
from backend.core.concurrency import run_guarded
from backend.core.errors import (
    STORE_AWAY,
    AccessCodeRejected,
    GrantRejected,
    Unauthorized,
    VideoNotFound,
    VodbucketError,
)
from backend.core.library.videos import LibraryItem
from backend.core.records import Status, Visibility
from backend.following.changes import Change
from backend.playback.grants import Grant
from backend.routes.playback_links import authorize
from backend.routes.services import FromServices, Services
from backend.web.access_codes import FromAccessKey
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.error_responses import ErrorBody, documented, status_of
from backend.web.http_rules import IS_HEAD

log = structlog.get_logger(__name__)

PING_SECONDS = 15.0
"""Silence after which something is sent: proxies close silent connections, and clients notice lost ones."""
WS_CODES = 4000
"""A WebSocket closes with this plus the HTTP status of the error, and its code as the reason."""

AnySocket = WebSocket[object, object, State]

_HEADERS = {
    "cache-control": "no-store, no-transform",  # proxies that compress would hold events back
    "x-accel-buffering": "no",  # nginx would too
}


class VideoNews(BaseModel):
    """The state of a video. Guests get no visibility, and no details of failures and storage."""

    type: Literal["video"] = "video"
    id: str
    title: str
    visibility: Visibility | None
    status: Status

    @classmethod
    def of(cls, item: LibraryItem, *, for_guests: bool = False) -> "VideoNews":
        video, status = item.video, item.status
        if for_guests:
            status = status.replace(error=None, encoder=None, encoder_fallback=None, outputs=None)
        visibility = None if for_guests else video.visibility
        return cls(id=video.id, title=video.title, visibility=visibility, status=status)


class VideoGone(BaseModel):
    """The video was deleted, or may not be seen any more."""

    type: Literal["gone"] = "gone"
    id: str


class Signal(BaseModel):
    """`ping`: nothing has happened. `all`: too much has to tell it; list the videos again."""

    type: Literal["ping", "all"]


@get(
    "/api/videos/{video_id:str}/events",
    media_type="text/event-stream",
    opt=PUBLIC,
    responses=documented(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    tags=["status"],
)
async def follow_video(
    request: AnyRequest, services: FromServices, access_key: FromAccessKey, video_id: FromPath[str]
) -> ServerSentEvent | Response[None]:
    """Follow a video's status, as server-sent events. Public videos need no authentication."""
    video_id = await services.names.id_of(video_id)
    right = await authorize(request, services, access_key, video_id)
    is_guest = await services.principals.of(right) is None
    services.follower_places.require(is_guest=is_guest)
    if IS_HEAD in request.scope["state"]:
        return Response(None, media_type="text/event-stream", headers=_HEADERS)
    answer = ServerSentEvent(_events(services, video_id, right, is_guest=is_guest))
    answer.headers = {**_HEADERS}  # its own differ in case from ours, and both would be sent
    return answer


async def _events(
    services: Services, video_id: str, right: Right, *, is_guest: bool
) -> AsyncGenerator[ServerSentEventMessage]:
    grant, unsent, sent, sent_at = Grant(video_id, 0, right), "", "", time.monotonic()
    try:
        with services.follower_places.place():
            async with aclosing(services.followed.follow(video_id)) as seen:
                async for item in seen:
                    if item is not None:
                        unsent = VideoNews.of(item, for_guests=is_guest).model_dump_json()
                    with suppress(*STORE_AWAY):  # then nothing is told, as the right may have ended
                        await services.rights.check(grant)
                        if unsent and unsent != sent:
                            sent, unsent, sent_at = unsent, "", time.monotonic()
                            yield ServerSentEventMessage(sent, event="video")
                    if time.monotonic() - sent_at >= PING_SECONDS:
                        sent_at = time.monotonic()
                        yield ServerSentEventMessage("{}", event="ping")
    except (VideoNotFound, GrantRejected):
        with suppress(*STORE_AWAY):
            if right.kind is RightKind.CODE:
                error: VodbucketError = AccessCodeRejected()
            else:
                error = VideoNotFound() if await services.principals.of(right) else Unauthorized()
            body = ErrorBody(error=error.message, code=error.code)
            yield ServerSentEventMessage(body.model_dump_json(), event="end")


@websocket("/api/ws", opt=PUBLIC)
async def follow_all(socket: AnySocket, services: FromServices) -> None:
    """Follow all videos that one may see."""
    await socket.accept()  # a browser tells its page nothing about a refused one
    try:
        principal = await services.authenticator.require(socket, Role.VIEWER)
        services.follower_places.require(is_guest=False)
        with services.follower_places.place():
            await run_guarded(_send_changes(socket, services, principal), _until_closed(socket))
    except (_Closed, OSError):  # uvicorn's error for a client that has left
        return
    except VodbucketError as error:
        await socket.close(WS_CODES + (status_of(error) or HTTPStatus.INTERNAL_SERVER_ERROR), error.code)
    except Exception as error:  # Litestar closes the socket, and says nothing
        log.error("crash", path=socket.scope["path"], exc_info=error)
        raise
    else:
        await socket.close(_GOING_AWAY)


_GOING_AWAY = 1001
"""RFC 6455 section 7.4.1: the server stops."""


class _Closed(Exception):
    """The client has closed the connection."""


async def _until_closed(socket: AnySocket) -> None:
    """What clients send means nothing. Raises: _Closed."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
    raise _Closed


async def _send_changes(socket: AnySocket, services: Services, principal: Principal) -> None:
    """Raises: Unauthorized: the session or token has ended."""
    right = services.principals.lasting(principal.right)
    sent_at, is_lost = time.monotonic(), False
    async with aclosing(services.changes.follow()) as seen:
        async for changes in seen:
            try:
                found = await services.principals.of(right)
            except STORE_AWAY:  # then nothing is told, as the right may have ended
                is_lost = is_lost or changes is not None
                continue
            if found is None:
                raise Unauthorized
            messages = _messages_for(found, {} if is_lost else changes)
            if not messages and time.monotonic() - sent_at >= PING_SECONDS:
                messages = [Signal(type="ping")]
            for message in messages:
                await socket.send_text(message.model_dump_json())
                sent_at, is_lost = time.monotonic(), False


def _messages_for(
    principal: Principal, changes: Mapping[str, Change] | None
) -> list[VideoNews | VideoGone | Signal]:
    """Return what this person is told. It tells nothing about videos that they could never see."""
    if changes is None:
        return []
    told: list[VideoNews | VideoGone | Signal] = []
    is_unsure = not changes
    for video_id, (item, before) in changes.items():
        if item is not None and principal.sees(item.video.owner, item.video.visibility):
            told.append(VideoNews.of(item))
        elif before is None:
            is_unsure = True  # whether they could see it
        elif principal.sees(*before):
            told.append(VideoGone(id=video_id))
    return [*told, Signal(type="all")] if is_unsure else told


HANDLERS = (follow_video, follow_all)
