"""Pages about one video, and what other sites ask about it: /watch, /embed, /oembed."""

import asyncio
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from litestar import Response, get
from litestar.params import FromPath, QueryParameter
from pydantic import BaseModel

from backend.core.access.codes import MediaType
from backend.core.access.principals import Media
from backend.core.errors import (
    AccessCodeRejected,
    FormatNotOffered,
    InvalidId,
    Unauthorized,
    VideoNotFound,
    VodbucketError,
)
from backend.core.records import Visibility
from backend.playback.cards import Card
from backend.routes.playback_links import authorize
from backend.routes.services import FromServices, Services
from backend.routes.static_site import serve
from backend.web.access_codes import AccessKey, FromAccessKey
from backend.web.auth import PUBLIC, address_of
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented
from backend.web.public_address import public_address
from backend.web.static_files import EMBED, INDEX, NOWHERE

MAX_SIDE = 10_000
_PAGE = re.compile(r"/(?:watch|embed)/([^/]+)/?")
_Side = Annotated[int | None, QueryParameter(ge=1, le=MAX_SIDE, description="in pixels")]


@get(["/watch", "/watch/{name:path}"], opt=PUBLIC, include_in_schema=False)
async def watch_page(
    request: AnyRequest, services: FromServices, access_key: FromAccessKey, name: FromPath[str] = ""
) -> Response[bytes | None]:
    """Serve the page of a video. For public ones it has tags for link previews."""
    name = name.strip("/")
    status = await _status_for(request, services, access_key, name)
    card = await _public_card(request, services, name) if status == HTTPStatus.OK else None
    page = await asyncio.to_thread(services.site.page, INDEX, card.tags() if card else "")
    return serve(request, services.site, page, status_code=status)


@get(["/embed", "/embed/{name:path}"], opt=PUBLIC, include_in_schema=False)
async def embed_page(
    request: AnyRequest, services: FromServices, access_key: FromAccessKey, name: FromPath[str] = ""
) -> Response[bytes | None]:
    """Serve a page that has only the player, for pages of other sites."""
    status = await _status_for(request, services, access_key, name.strip("/"))
    ancestors = await _ancestors(services, access_key if status == HTTPStatus.OK else None)
    page = await asyncio.to_thread(services.site.page, EMBED)
    return serve(request, services.site, page, ancestors, status)


async def _status_for(
    request: AnyRequest, services: Services, access_key: AccessKey | None, name: str
) -> HTTPStatus:
    """Return 404 for a video that the sender may not watch, whether or not there is one.

    Whatever else is wrong may pass, or the viewer can do something about it: the page says so.
    """
    try:
        await authorize(request, services, access_key, await services.names.id_of(name))
    except (AccessCodeRejected, InvalidId, Unauthorized, VideoNotFound):
        return HTTPStatus.NOT_FOUND
    except VodbucketError:
        pass
    return HTTPStatus.OK


async def _ancestors(services: Services, access_key: AccessKey | None) -> Sequence[str]:
    """Return the origins whose pages may embed the player: those of the access code count, if it has any."""
    allowed: Sequence[str] | None = None
    if access_key is not None:
        try:
            opening = await services.access_gate.opening(access_key)
        except VodbucketError:
            return NOWHERE
        allowed = opening.code.frame_ancestors if opening else None
    return (services.settings.embed_origins if allowed is None else allowed) or NOWHERE


async def _public_card(request: AnyRequest, services: Services, name: str) -> Card | None:
    """Return the card of a public video, or None if it is not public, or there is nothing to show yet."""
    try:
        video_id = await services.names.id_of(name)
        protection = await services.rights.protection(video_id)
        if protection is None or protection.visibility is not Visibility.PUBLIC:
            return None
        parts = await services.parts.recent(video_id)
    except VodbucketError:
        return None
    return Card.of(parts, public_address(request, services.settings), name)


class Embed(BaseModel):
    """A player to embed (https://oembed.com, type video). Sizes are in pixels."""

    version: Literal["1.0"] = "1.0"
    type: Literal["video"] = "video"
    provider_name: str = "vodbucket"
    provider_url: str
    title: str
    width: int
    height: int
    html: str
    thumbnail_url: str | None = None
    thumbnail_width: int | None = None
    thumbnail_height: int | None = None


@get(
    "/oembed",
    opt=PUBLIC,
    responses=documented(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.NOT_IMPLEMENTED,
    ),
    tags=["playback"],
)
async def oembed(
    request: AnyRequest,
    services: FromServices,
    url: Annotated[str, QueryParameter(description="address of a video's page on this server")],
    maxwidth: _Side = None,
    maxheight: _Side = None,
    data_format: Annotated[str, QueryParameter(name="format", description="json")] = "json",
) -> Response[Embed]:
    """Get a player to embed, for a link to a public video or one with an access code (https://oembed.com)."""
    if data_format != "json":
        raise FormatNotOffered
    server = public_address(request, services.settings)
    name, code = _named_in(url, server)
    video_id = await services.names.id_of(name)
    protection = await services.rights.protection(video_id)
    query = ""
    if protection is None or protection.visibility is not Visibility.PUBLIC:
        if code is None:
            raise VideoNotFound
        media = protection and Media(MediaType.VIDEO, video_id, protection.owner)
        await services.access_gate.right_to(media, AccessKey(code, None, address_of(request)))
        query = f"?access_code={quote(code, safe='')}"
    card = Card.of(await services.parts.recent(video_id), server, name, query)
    width, height = card.player_size(maxwidth, maxheight)
    thumbnail_width, thumbnail_height = card.poster_size or (None, None)
    return Response(
        Embed(
            provider_url=f"{server}/",
            title=card.title,
            width=width,
            height=height,
            html=card.frame(width, height),
            thumbnail_url=card.poster_url if card.poster_size else None,
            thumbnail_width=thumbnail_width,
            thumbnail_height=thumbnail_height,
        ),
        headers={"access-control-allow-origin": "*"},
    )


def _named_in(url: str, server: str) -> tuple[str, str | None]:
    """Return the video that a link names and its access code. Raises: VideoNotFound: it is not ours."""
    try:
        parts, ours = urlsplit(url), urlsplit(server)
    except ValueError:
        raise VideoNotFound from None
    found = _PAGE.fullmatch(parts.path.removeprefix(ours.path))
    if parts.scheme not in ("http", "https") or parts.netloc != ours.netloc or found is None:
        raise VideoNotFound
    return unquote(found[1]), next(iter(parse_qs(parts.query).get("access_code", [])), None)


HANDLERS = (watch_page, embed_page, oembed)
