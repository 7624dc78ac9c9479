"""Captions: upload as SRT or WebVTT (raw or in a form), list, delete."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from litestar import delete, get, post
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, QueryParameter
from pydantic import BaseModel

from backend.core.errors import InvalidLanguage, UploadTooLarge
from backend.core.ids import parse_id
from backend.core.languages import standard_language
from backend.core.library.captions import delete_captions, list_captions, store_captions
from backend.core.library.tracks import Source, Track, tracks_of
from backend.core.library.videos import read_item
from backend.core.names import clean_text
from backend.core.records import MAX_LABEL_LENGTH
from backend.routes.permitted import require_managed, require_visible
from backend.routes.services import FromServices
from backend.web.auth import SIGNED_IN, UPLOADERS, FromPrincipal
from backend.web.bodies import AnyRequest
from backend.web.caption_conversion import MAX_CAPTIONS_BYTES, to_webvtt
from backend.web.error_responses import documented
from backend.web.forms import FILE_FIELD, read_file

_ERRORS = documented(
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND
)
_UPLOAD_ERRORS = documented(HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

_TEXT = Schema(type=OpenAPIType.STRING)
_FILE = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


class CaptionsItem(BaseModel):
    """A caption track that viewers can choose."""

    language: str
    label: str
    forced: bool
    source: Source

    @classmethod
    def of(cls, track: Track) -> "CaptionsItem":
        return cls(language=track.language, label=track.label, forced=track.forced, source=track.source)


class CaptionsList(BaseModel):
    captions: tuple[CaptionsItem, ...]


@dataclass
class CaptionsUploadOperation(Operation):
    """Describes the body. The handler reads it as a stream, so Litestar cannot."""

    def __post_init__(self) -> None:
        form = Schema(
            type=OpenAPIType.OBJECT, properties={FILE_FIELD: _FILE, "label": _TEXT}, required=[FILE_FIELD]
        )
        content = {
            "text/vtt": OpenAPIMediaType(_TEXT),
            "application/x-subrip": OpenAPIMediaType(_TEXT),
            "multipart/form-data": OpenAPIMediaType(form),
        }
        self.request_body = RequestBody(content, required=True)


@get("/api/videos/{video_id:str}/captions", opt=SIGNED_IN, responses=_ERRORS, tags=["captions"])
async def get_captions(
    services: FromServices, principal: FromPrincipal, video_id: FromPath[str]
) -> CaptionsList:
    """List a video's captions: those uploaded, and those from the video file."""
    await require_visible(services, principal, parse_id(video_id))
    status = (await read_item(services.buckets, video_id)).status
    tracks = tracks_of(await list_captions(services.buckets, video_id), status.captions)
    return CaptionsList(captions=tuple(map(CaptionsItem.of, tracks)))


@post(
    "/api/videos/{video_id:str}/captions/{language:str}",
    opt=UPLOADERS,
    request_max_body_size=None,
    responses={**_ERRORS, **_UPLOAD_ERRORS},
    operation_class=CaptionsUploadOperation,
    tags=["captions"],
)
async def upload_captions(
    request: AnyRequest,
    services: FromServices,
    principal: FromPrincipal,
    video_id: FromPath[str],
    language: FromPath[str],
    label: Annotated[str | None, QueryParameter(description="the name that viewers see")] = None,
) -> CaptionsItem:
    """Upload captions in a language. They replace earlier uploaded captions in that language."""
    await require_managed(services, principal, parse_id(video_id))
    language_tag = _standard(language)
    body, form_label = await _read_upload(request)
    webvtt = await asyncio.to_thread(to_webvtt, body)
    stored = await store_captions(
        services.buckets,
        video_id,
        language_tag,
        webvtt,
        label=clean_text(label or form_label)[:MAX_LABEL_LENGTH] or None,
        now=datetime.fromtimestamp(services.clock(), UTC),
    )
    services.forget(video_id)
    return CaptionsItem.of(tracks_of([stored], ())[0])


@delete(
    "/api/videos/{video_id:str}/captions/{language:str}",
    opt=UPLOADERS,
    responses=_ERRORS,
    tags=["captions"],
)
async def remove_captions(
    services: FromServices, principal: FromPrincipal, video_id: FromPath[str], language: FromPath[str]
) -> None:
    """Delete the uploaded captions in a language."""
    await require_managed(services, principal, parse_id(video_id))
    await delete_captions(services.buckets, video_id, _standard(language))
    services.forget(video_id)


def _standard(language: str) -> str:
    standard = standard_language(language)
    if standard is None:
        raise InvalidLanguage
    return standard


async def _read_upload(request: AnyRequest) -> tuple[bytes, str | None]:
    """Return the file, and its label if it came in a form that has one."""
    too_large = UploadTooLarge(f"Captions can be at most {MAX_CAPTIONS_BYTES // 2**20} MiB.")
    body, form = await read_file(request, MAX_CAPTIONS_BYTES, too_large)
    return body, form.text("label") if form else None


HANDLERS = (get_captions, upload_captions, remove_captions)
