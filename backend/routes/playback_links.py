"""Playback links: checks who may watch, and issues a grant. `media` serves what the links point to."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from litestar import get
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect
from pydantic import AwareDatetime, BaseModel

from backend.core import keys
from backend.core.access.codes import MediaType
from backend.core.access.principals import Media
from backend.core.access.rights import EVERYONE, Right, RightKind
from backend.core.errors import (
    BadRequest,
    NotMadeYet,
    NotReady,
    ObjectNotFound,
    Unauthorized,
    VideoNotFound,
)
from backend.core.library.tracks import Source
from backend.core.records import Chapter, Download, Visibility
from backend.playback.parts import Presentation
from backend.routes.services import FromServices, Services
from backend.web.access_codes import AccessKey, FromAccessKey
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented

DownloadFormat = Annotated[
    Download, QueryParameter(name="format", description="webm, or mp4 if DOWNLOADS names it")
]
_OF_GUESTS = frozenset({RightKind.PUBLIC, RightKind.CODE})
_ERRORS = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
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

    title: str
    presentation: Presentation
    hls: str
    dash: str
    webm: str | None
    mp4: str | None
    poster: str | None
    storyboard: str | None
    captions: tuple[PlayableCaptions, ...]
    chapters: tuple[Chapter, ...]
    expires_at: AwareDatetime


@get("/api/videos/{video_id:str}/playback", opt=PUBLIC, responses=_ERRORS, tags=["playback"])
async def get_playback(
    request: AnyRequest, services: FromServices, access_key: FromAccessKey, video_id: FromPath[str]
) -> Playback:
    """Get playback links. Public videos need no authentication."""
    video_id = await services.names.id_of(video_id)
    right = await authorize(request, services, access_key, video_id)
    read = services.parts.recent if right.kind in _OF_GUESTS else services.parts.read
    parts = await read(video_id)
    await services.watched.note(video_id)
    if parts.is_reduced:
        await services.rebuilds.begin(video_id)
    token, grant = services.grants.issue(video_id, right)
    root = services.settings.root_path

    def link(path: str) -> str | None:
        # With the run, a player that reads a file in pieces gets all of them from the same file.
        return f"{root}/play/{token}/{parts.files[path]}/{path}" if path in parts.files else None

    return Playback(
        title=parts.title,
        presentation=parts.presentation,
        hls=f"{root}/play/{token}/{keys.MASTER_PLAYLIST}",
        dash=f"{root}/play/{token}/{keys.DASH_MANIFEST}",
        webm=link(keys.DOWNLOAD),
        mp4=link(keys.DOWNLOAD_MP4),
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
            for track in parts.tracks
        ),
        chapters=parts.chapters,
        expires_at=datetime.fromtimestamp(grant.expires_unix, UTC),
    )


@get("/videos/{video_id:str}", opt=PUBLIC, responses=_ERRORS, status_code=307, tags=["playback"])
async def watch_webm(
    request: AnyRequest, services: FromServices, access_key: FromAccessKey, video_id: FromPath[str]
) -> Redirect:
    """Redirect to the WebM file."""
    return await _redirect_to_media(request, services, access_key, video_id, keys.DOWNLOAD)


@get("/videos/{video_id:str}/download", opt=PUBLIC, responses=_ERRORS, status_code=307, tags=["playback"])
async def download(
    request: AnyRequest,
    services: FromServices,
    access_key: FromAccessKey,
    video_id: FromPath[str],
    kind: DownloadFormat = "webm",
) -> Redirect:
    """Redirect to the WebM or MP4 file as a download."""
    path = keys.DOWNLOAD if kind == "webm" else keys.DOWNLOAD_MP4
    return await _redirect_to_media(request, services, access_key, video_id, path, "?download=1")


@get(
    "/videos/{video_id:str}/hls/{asset:path}",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=307,
    tags=["playback"],
)
async def hls_asset(
    request: AnyRequest,
    services: FromServices,
    access_key: FromAccessKey,
    video_id: FromPath[str],
    asset: FromPath[str],
) -> Redirect:
    """Redirect to an HLS playlist or segment."""
    return await _redirect_to_media(request, services, access_key, video_id, f"hls{asset}")


@get(
    "/videos/{video_id:str}/dash/{asset:path}",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=307,
    tags=["playback"],
)
async def dash_asset(
    request: AnyRequest,
    services: FromServices,
    access_key: FromAccessKey,
    video_id: FromPath[str],
    asset: FromPath[str],
) -> Redirect:
    """Redirect to the DASH manifest or a segment."""
    return await _redirect_to_media(request, services, access_key, video_id, f"dash{asset}")


@get(
    "/videos/{video_id:str}/media/{asset:path}",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=307,
    tags=["playback"],
)
async def media_asset(
    request: AnyRequest,
    services: FromServices,
    access_key: FromAccessKey,
    video_id: FromPath[str],
    asset: FromPath[str],
) -> Redirect:
    """Redirect to a segment, for players that did not notice that the manifest was redirected (ffmpeg)."""
    return await _redirect_to_media(request, services, access_key, video_id, f"media{asset}")


@get(
    "/videos/{video_id:str}/poster.jpg",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=307,
    tags=["playback"],
)
async def poster(
    request: AnyRequest, services: FromServices, access_key: FromAccessKey, video_id: FromPath[str]
) -> Redirect:
    """Redirect to the poster. Unlike in the store, its address does not change."""
    video_id = await services.names.id_of(video_id)
    right = await authorize(request, services, access_key, video_id)
    run = (await services.parts.recent(video_id)).files.get(keys.POSTER)
    if run is None:
        raise ObjectNotFound("This video has no poster.")
    return _to_play(services, video_id, right, f"{run}/{keys.POSTER}")


@get(
    "/hls/{video_id:str}/{asset:path}",
    opt=PUBLIC,
    responses=_ERRORS,
    status_code=307,
    tags=["playback"],
)
async def known_hls_asset(
    request: AnyRequest,
    services: FromServices,
    access_key: FromAccessKey,
    video_id: FromPath[str],
    asset: FromPath[str],
) -> Redirect:
    """Redirect to an HLS playlist or segment; `index.m3u8` is the master playlist."""
    path = keys.MASTER_PLAYLIST if asset == "/index.m3u8" else f"hls{asset}"
    return await _redirect_to_media(request, services, access_key, video_id, path)


async def authorize(
    request: AnyRequest, services: Services, access_key: AccessKey | None, video_id: str
) -> Right:
    """Return the right to grant playback under. An access code counts if nothing else does.

    Raises:
        VideoNotFound: to who is signed in.
        Unauthorized: to others, also if the video does not exist, so that nobody can probe for ids.
        AccessCodeRejected, PassphraseRequired, PassphraseWrong, TooManyAttempts: see `AccessGate`.
    """
    principal = await services.authenticator.principal_of(request)
    protection = await services.rights.protection(video_id)
    if protection is not None:
        if principal is not None and principal.sees(*protection):
            return services.principals.lasting(principal.right)
        if protection.visibility is Visibility.PUBLIC:
            return EVERYONE
    if access_key is not None:
        media = protection and Media(MediaType.VIDEO, video_id, protection.owner)
        return await services.access_gate.right_to(media, access_key)
    raise Unauthorized if principal is None else VideoNotFound


async def _redirect_to_media(
    request: AnyRequest,
    services: Services,
    access_key: AccessKey | None,
    video_id: str,
    path: str,
    query: str = "",
) -> Redirect:
    video_id = await services.names.id_of(video_id)
    right = await authorize(request, services, access_key, video_id)
    try:
        asset = keys.parse_asset_path(path)
    except BadRequest:
        raise ObjectNotFound from None
    playable = await services.playback.resolve(video_id)
    await services.watched.note(video_id)
    run = playable.run
    if path in {keys.DOWNLOAD, keys.DOWNLOAD_MP4}:
        if playable.download_run is None:
            raise NotReady("The files for download are not ready yet. They are made last.")
        run = playable.download_run
    elif not playable.can_play:
        await services.rebuilds.begin(video_id)
        raise NotMadeYet
    if path == keys.DOWNLOAD_MP4 and path not in (await services.parts.recent(video_id)).files:
        raise ObjectNotFound("This video has no MP4. Set DOWNLOADS=webm,mp4 and encode it again.")
    return _to_play(services, video_id, right, f"{run}/{asset}{query}")


def _to_play(services: Services, video_id: str, right: Right, path: str) -> Redirect:
    token, _ = services.grants.issue(video_id, right)
    return Redirect(
        f"/play/{token}/{path}",
        status_code=307,
        headers={"cache-control": "no-store"},
    )


HANDLERS = (
    get_playback,
    watch_webm,
    download,
    poster,
    hls_asset,
    known_hls_asset,
    dash_asset,
    media_asset,
)
