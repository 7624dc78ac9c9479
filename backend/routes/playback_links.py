"""Playback links: checks who may watch, and issues a grant. `media` serves what the links point to."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from litestar import get
from litestar.params import FromPath
from litestar.response import Redirect
from pydantic import AwareDatetime, BaseModel

from backend.core import keys
from backend.core.access.rights import EVERYONE, Right
from backend.core.concurrency import gather_pair
from backend.core.errors import BadRequest, NotReady, ObjectNotFound, Unauthorized, VideoNotFound
from backend.core.ids import parse_id
from backend.core.library.captions import list_captions
from backend.core.library.videos import published_outputs, read_item, read_video
from backend.core.records import Chapter, Stage, Status, Visibility
from backend.playback.tracks import Source, tracks_of
from backend.routes.services import FromServices, Services
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented

_ERRORS = documented(
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT
)


class PlayableCaptions(BaseModel):
    """A WebVTT caption track for a player."""

    language: str
    label: str
    forced: bool
    source: Source
    url: str


class Playback(BaseModel):
    """Links for players. Each works without credentials until `expires_at`; null means not available yet."""

    hls: str
    dash: str
    webm: str | None
    poster: str | None
    storyboard: str | None
    captions: tuple[PlayableCaptions, ...]
    chapters: tuple[Chapter, ...]
    expires_at: AwareDatetime


@get("/api/videos/{video_id:str}/playback", opt=PUBLIC, responses=_ERRORS, tags=["playback"])
async def get_playback(request: AnyRequest, services: FromServices, video_id: FromPath[str]) -> Playback:
    """Get playback links. Public videos need no authentication."""
    right = await _authorize(request, services, parse_id(video_id))
    status = (await read_item(services.buckets, video_id)).status
    if not status.playable:
        raise NotReady
    extras, uploaded = await gather_pair(_extras(services, status), list_captions(services.buckets, video_id))
    tracks = tracks_of(uploaded, status.captions)
    token, grant = services.grants.issue(video_id, right)
    run = keys.run_of_key(video_id, status.outputs or "")
    root = services.settings.root_path

    def link(path: str) -> str | None:
        # With the run, a player that reads a file in pieces gets all of them from the same file.
        return f"{root}/play/{token}/{run}/{path}" if path in extras.paths else None

    return Playback(
        hls=f"{root}/play/{token}/{keys.MASTER_PLAYLIST}",
        dash=f"{root}/play/{token}/{keys.DASH_MANIFEST}",
        webm=link(keys.DOWNLOAD),
        poster=link(keys.POSTER),
        storyboard=link(keys.STORYBOARD),
        captions=tuple(
            PlayableCaptions(
                language=track.language,
                label=track.label,
                forced=track.forced,
                source=track.source,
                url=f"{root}/play/{token}/{track.path}",
            )
            for track in tracks
        ),
        chapters=extras.chapters,
        expires_at=datetime.fromtimestamp(grant.expires_unix, UTC),
    )


@get("/videos/{video_id:str}", opt=PUBLIC, responses=_ERRORS, status_code=307, tags=["playback"])
async def watch_webm(request: AnyRequest, services: FromServices, video_id: FromPath[str]) -> Redirect:
    """Redirect to the WebM file."""
    return await _redirect_to_media(request, services, video_id, keys.DOWNLOAD)


@get("/videos/{video_id:str}/download", opt=PUBLIC, responses=_ERRORS, status_code=307, tags=["playback"])
async def download_webm(request: AnyRequest, services: FromServices, video_id: FromPath[str]) -> Redirect:
    """Redirect to the WebM file as a download."""
    return await _redirect_to_media(request, services, video_id, keys.DOWNLOAD, "?download=1")


@get(
    "/videos/{video_id:str}/hls/{asset:path}",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=307,
    tags=["playback"],
)
async def hls_asset(
    request: AnyRequest, services: FromServices, video_id: FromPath[str], asset: FromPath[str]
) -> Redirect:
    """Redirect to an HLS playlist or segment."""
    return await _redirect_to_media(request, services, video_id, f"hls{asset}")


@get(
    "/videos/{video_id:str}/dash/{asset:path}",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=307,
    tags=["playback"],
)
async def dash_asset(
    request: AnyRequest, services: FromServices, video_id: FromPath[str], asset: FromPath[str]
) -> Redirect:
    """Redirect to the DASH manifest or a segment."""
    return await _redirect_to_media(request, services, video_id, f"dash{asset}")


async def _authorize(request: AnyRequest, services: Services, video_id: str) -> Right:
    """Return the right to grant playback under.

    Raises: Unauthorized: also if the video does not exist, so that nobody can probe for ids.
    """
    right = await services.authenticator.right_of(request)
    if right is not None:
        return right
    with suppress(VideoNotFound):
        if (await read_video(services.buckets, video_id)).visibility is Visibility.PUBLIC:
            return EVERYONE
    raise Unauthorized


@dataclass(frozen=True, slots=True)
class _Extras:
    """What some videos do not have, or only have later."""

    paths: frozenset[str] = frozenset()
    chapters: tuple[Chapter, ...] = ()


async def _extras(services: Services, status: Status) -> _Extras:
    if status.stage is Stage.COMPLETE:
        outputs = await published_outputs(services.buckets, status.id)
        if outputs is None:
            return _Extras()
        return _Extras(frozenset(output.path for output in outputs.objects), outputs.chapters)
    try:
        await services.buckets.video.head(f"{status.outputs}{keys.POSTER}")
    except ObjectNotFound:
        return _Extras()
    return _Extras(frozenset({keys.POSTER}))


async def _redirect_to_media(
    request: AnyRequest, services: Services, video_id: str, path: str, query: str = ""
) -> Redirect:
    right = await _authorize(request, services, parse_id(video_id))
    try:
        asset = keys.parse_asset_path(path)
    except BadRequest:
        raise ObjectNotFound from None
    playable = await services.playback.resolve(video_id)
    if path == keys.DOWNLOAD and not playable.is_published:
        raise NotReady("The WebM file is not ready yet. It is made last.")
    token, _ = services.grants.issue(video_id, right)
    return Redirect(
        f"/play/{token}/{playable.run}/{asset}{query}",
        status_code=307,
        headers={"cache-control": "no-store"},
    )


HANDLERS = (get_playback, watch_webm, download_webm, hls_asset, dash_asset)
