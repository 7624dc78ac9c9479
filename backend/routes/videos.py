"""Videos: list, get, edit, delete, and get their status."""

import posixpath
from http import HTTPStatus
from typing import Annotated

from litestar import delete, get, patch
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Redirect
from pydantic import BaseModel, Field

from backend.core import keys
from backend.core.access.principals import Principal
from backend.core.concurrency import gather_pair
from backend.core.errors import SourceGone, VideoNotFound
from backend.core.ids import parse_id
from backend.core.library.videos import (
    LibraryItem,
    VideoEdit,
    delete_video,
    edit_video,
    list_videos,
    published_outputs,
    read_item,
    read_video,
    video_remains,
)
from backend.core.records import Chapter, SourceFile, Status, Video
from backend.core.store.interface import PresignedGet, exists
from backend.core.uploads.inbox import withdraw
from backend.playback.serving import SigningWindow, attachment
from backend.routes.permitted import indexes_for, require_managed, require_visible
from backend.routes.services import FromServices, Services
from backend.web.auth import SIGNED_IN, UPLOADERS, FromPrincipal
from backend.web.error_responses import documented

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

_ERRORS = documented(
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND
)


class VideoItem(Video):
    """A video with its current status."""

    status: Status
    poster: str | None = Field(
        description="address of a picture, valid for minutes; null, or not there yet, until some is encoded"
    )

    @classmethod
    def of(cls, item: LibraryItem, services: Services, principal: Principal) -> "VideoItem":
        """Return what this person may know: a guest's note is for who manages the video."""
        run = keys.run_of_key(item.video.id, item.status.outputs or "")
        if run is None and item.kept is not None:
            run = item.kept.run
        poster = None
        if run is not None:
            ttl = services.settings.presign_ttl_seconds
            how = SigningWindow.at(services.clock(), ttl).get(ttl)
            key = keys.run_prefix(item.video.id, run) + keys.POSTER
            poster = services.buckets.video.presign_get(key, how)
        guest = item.video.guest if principal.manages(item.video.owner) else None
        known = {**dict(item.video), "guest": guest}
        return cls.model_construct(**known, status=item.status, poster=poster)


class VideoDetails(VideoItem):
    """A video with facts about its source file, which are known once it is encoded."""

    source: SourceFile | None
    chapters: tuple[Chapter, ...]


class VideoList(BaseModel):
    """One page of videos, newest first. `next_cursor` is null on the last page."""

    videos: tuple[VideoItem, ...]
    next_cursor: str | None


@get(
    "/api/videos",
    opt=SIGNED_IN,
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED),
    tags=["videos"],
)
async def get_videos(
    services: FromServices,
    principal: FromPrincipal,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the previous page")] = None,
) -> VideoList:
    """List the videos that one may see, newest first."""
    page = await list_videos(
        services.buckets,
        limit=limit,
        cursor=None if cursor is None else parse_id(cursor),
        indexes=indexes_for(principal),
        shown=lambda video: principal.sees(video.owner, video.visibility),
    )
    videos = tuple(VideoItem.of(item, services, principal) for item in page.items)
    return VideoList(videos=videos, next_cursor=page.next_cursor)


@get("/api/videos/{video_id:str}", opt=SIGNED_IN, responses=_ERRORS, tags=["videos"])
async def get_video(
    services: FromServices, principal: FromPrincipal, video_id: FromPath[str]
) -> VideoDetails:
    """Get a video, by its id or slug, with its status and facts about its source file."""
    video_id = await services.names.id_of(video_id)
    await require_visible(services, principal, video_id)
    return await _details(services, principal, video_id)


@patch(
    "/api/videos/{video_id:str}",
    opt=UPLOADERS,
    responses=_ERRORS | documented(HTTPStatus.CONFLICT),
    tags=["videos"],
)
async def patch_video(
    services: FromServices, principal: FromPrincipal, video_id: FromPath[str], data: JSONBody[VideoEdit]
) -> VideoDetails:
    """Change a video's title, visibility or slug."""
    await require_managed(services, principal, parse_id(video_id))
    await edit_video(services.buckets, video_id, data)
    services.forget(video_id)
    services.names.forget()
    return await _details(services, principal, video_id)


async def _details(services: Services, principal: Principal, video_id: str) -> VideoDetails:
    item, outputs = await gather_pair(
        read_item(services.buckets, video_id), published_outputs(services.buckets, video_id)
    )
    return VideoDetails.model_construct(
        **dict(VideoItem.of(item, services, principal)),
        source=outputs.source if outputs else None,
        chapters=outputs.chapters if outputs else item.status.chapters,
    )


@delete("/api/videos/{video_id:str}", opt=UPLOADERS, responses=_ERRORS, tags=["videos"])
async def remove_video(services: FromServices, principal: FromPrincipal, video_id: FromPath[str]) -> None:
    """Delete a video and everything that belongs to it. Its links stop working within seconds."""
    await require_managed(services, principal, parse_id(video_id))
    if not await video_remains(services.buckets, video_id):
        raise VideoNotFound
    await withdraw(services.buckets, video_id)
    await delete_video(services.buckets, video_id)
    services.forget(video_id)


@get(
    "/api/videos/{video_id:str}/original",
    opt=UPLOADERS,
    responses=_ERRORS | documented(HTTPStatus.CONFLICT),
    status_code=307,
    tags=["videos"],
)
async def get_original(services: FromServices, principal: FromPrincipal, video_id: FromPath[str]) -> Redirect:
    """Redirect to the uploaded file as a download, if it is still stored."""
    await require_managed(services, principal, parse_id(video_id))
    video = await read_video(services.buckets, video_id)
    key, ttl = keys.upload(video_id), services.settings.presign_ttl_seconds
    if not await exists(services.buckets.raw, key):
        raise SourceGone("The uploaded file is no longer stored.")
    how = PresignedGet(ttl, attachment(*posixpath.splitext(video.filename)))
    return Redirect(
        services.buckets.raw.presign_get(key, how), status_code=307, headers={"cache-control": "no-store"}
    )


@get("/api/videos/{video_id:str}/status", opt=SIGNED_IN, responses=_ERRORS, tags=["status"])
async def get_status(services: FromServices, principal: FromPrincipal, video_id: FromPath[str]) -> Status:
    """Get a video's status and progress."""
    video_id = await services.names.id_of(video_id)
    await require_visible(services, principal, video_id)
    return (await read_item(services.buckets, video_id)).status


HANDLERS = (get_videos, get_video, patch_video, remove_video, get_original, get_status)
