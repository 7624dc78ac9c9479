"""Images: upload (raw or in a form), list, get, edit, delete; /images/<id> leads to the picture."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from pydantic import BaseModel, Field

from backend.core import keys
from backend.core.access.codes import MediaType
from backend.core.access.principals import Media, Principal
from backend.core.errors import EmptyUpload, ImageNotFound, IncompleteUpload, Unauthorized
from backend.core.ids import new_id, parse_id
from backend.core.image_records import Image, ImageFormat
from backend.core.library.images import add_image, delete_image, edit_image, list_images
from backend.core.library.slugs import IMAGE
from backend.core.library.videos import VideoEdit
from backend.core.names import clean_filename, clean_text
from backend.core.records import Visibility
from backend.images.rewriting import MAX_IMAGE_BYTES, ImageTooLarge
from backend.playback.serving import SigningWindow
from backend.routes.permitted import require_managed_image, require_visible_image
from backend.routes.services import FromServices, Services
from backend.web.access_codes import AccessKey, FromAccessKey
from backend.web.auth import PUBLIC, SIGNED_IN, UPLOADERS, FromPrincipal
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented
from backend.web.forms import FILE_FIELD, read_file

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
RECEIVE_SECONDS = 300.0
"""For an upload to arrive: while it does, it takes one of few places."""

_ERRORS = documented(
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND
)
_CHANGE_ERRORS = _ERRORS | documented(HTTPStatus.CONFLICT)
_UPLOAD_ERRORS = documented(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_TEXT = Schema(type=OpenAPIType.STRING)
_FILE = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


class ImageItem(Image):
    """An image and where to see it."""

    url: str = Field(description="path on this server; opens for people who may see the image")
    thumbnail: str = Field(description="address of a small picture, valid for minutes")

    @classmethod
    def of(cls, image: Image, services: Services) -> "ImageItem":
        ttl = services.settings.presign_ttl_seconds
        how = SigningWindow.at(services.clock(), ttl).get(ttl)
        return cls.model_construct(
            **dict(image),
            url=f"{services.settings.root_path}/images/{image.id}",
            thumbnail=services.buckets.video.presign_get(keys.thumbnail(image.id), how),
        )


class ImageList(BaseModel):
    """One page of images, newest first. `next_cursor` is null on the last page."""

    images: tuple[ImageItem, ...]
    next_cursor: str | None


@dataclass
class ImageUploadOperation(Operation):
    """Describes the body. The handler reads it as a stream, so Litestar cannot."""

    def __post_init__(self) -> None:
        form = Schema(
            type=OpenAPIType.OBJECT, properties={FILE_FIELD: _FILE, "title": _TEXT}, required=[FILE_FIELD]
        )
        content = {f"image/{one}": OpenAPIMediaType(_FILE) for one in ImageFormat}
        content["multipart/form-data"] = OpenAPIMediaType(form)
        self.request_body = RequestBody(content, required=True)


@post(
    "/api/images",
    opt=UPLOADERS,
    request_max_body_size=None,
    responses=_UPLOAD_ERRORS,
    operation_class=ImageUploadOperation,
    tags=["images"],
)
async def upload_image(
    request: AnyRequest,
    services: FromServices,
    principal: FromPrincipal,
    filename: FromQuery[str | None] = None,
    title: FromQuery[str | None] = None,
) -> Response[ImageItem]:
    """Upload an image as the request body, or as the form field `file`. It is stored without metadata."""
    async with services.rewriter.places:
        try:
            async with asyncio.timeout(RECEIVE_SECONDS):
                body, form = await read_file(request, MAX_IMAGE_BYTES, ImageTooLarge())
        except TimeoutError:
            raise IncompleteUpload("The image took too long to arrive.") from None
        if not body:
            raise EmptyUpload
        rewritten = await services.rewriter.rewrite(body)
        if form is not None:
            filename, title = form.filename, form.text("title")
        now = services.clock()
        image = Image(
            id=new_id(int(now * 1000)),
            title=clean_text(title) or PurePosixPath(clean_filename(filename or "image")).stem,
            format=rewritten.head.format,
            width=rewritten.head.width,
            height=rewritten.head.height,
            size_bytes=rewritten.head.size_bytes,
            owner=principal.person,
            created_at=datetime.fromtimestamp(now, UTC),
        )
        await add_image(services.retrying_buckets.video, image, rewritten.picture, rewritten.thumbnail)
    item = ImageItem.of(image, services)
    return Response(item, status_code=HTTPStatus.CREATED, headers={"location": f"/api/images/{image.id}"})


@get(
    "/api/images",
    opt=SIGNED_IN,
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED),
    tags=["images"],
)
async def get_images(
    services: FromServices,
    principal: FromPrincipal,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the previous page")] = None,
) -> ImageList:
    """List the images that one may see, newest first."""
    page = await list_images(
        services.buckets.video,
        limit=limit,
        cursor=None if cursor is None else parse_id(cursor),
        shown=lambda image: principal.sees(image.owner, image.visibility),
    )
    images = tuple(ImageItem.of(image, services) for image in page.images)
    return ImageList(images=images, next_cursor=page.next_cursor)


@get("/api/images/{image_id:str}", opt=SIGNED_IN, responses=_ERRORS, tags=["images"])
async def get_image(services: FromServices, principal: FromPrincipal, image_id: FromPath[str]) -> ImageItem:
    """Get an image."""
    return ImageItem.of(await require_visible_image(services, principal, parse_id(image_id)), services)


@patch("/api/images/{image_id:str}", opt=UPLOADERS, responses=_CHANGE_ERRORS, tags=["images"])
async def patch_image(
    services: FromServices, principal: FromPrincipal, image_id: FromPath[str], data: JSONBody[VideoEdit]
) -> ImageItem:
    """Change an image's title, visibility or slug."""
    await require_managed_image(services, principal, parse_id(image_id))
    try:
        image = await edit_image(services.buckets.video, image_id, data)
    finally:
        services.images.forget(image_id)
        services.names.forget()
    return ImageItem.of(image, services)


@delete("/api/images/{image_id:str}", opt=UPLOADERS, responses=_ERRORS, tags=["images"])
async def remove_image(services: FromServices, principal: FromPrincipal, image_id: FromPath[str]) -> None:
    """Delete an image. Its address stops working within seconds."""
    await require_managed_image(services, principal, parse_id(image_id))
    try:
        await delete_image(services.buckets.video, image_id)
    finally:
        services.images.forget(image_id)


@get("/images/{image_id:str}", opt=PUBLIC, responses=_ERRORS, status_code=307, tags=["images"])
async def show_image(
    request: AnyRequest, services: FromServices, access_key: FromAccessKey, image_id: FromPath[str]
) -> Response[bytes]:
    """Redirect to the picture. Public images need no authentication. Requests with a token get its bytes."""
    image, principal = await _authorized(request, services, access_key, image_id)
    key = keys.picture(image.id, image.format)
    if principal is not None and "authorization" in request.headers:
        # curl and others would send the token on to the store, which rejects it
        body = (await services.buckets.video.get(key)).body
        return Response(body, status_code=HTTPStatus.OK, media_type=f"image/{image.format}")
    ttl = services.settings.presign_ttl_seconds
    address = services.buckets.video.presign_get(key, SigningWindow.at(services.clock(), ttl).get(ttl))
    return Response(b"", status_code=HTTPStatus.TEMPORARY_REDIRECT, headers={"location": address})


async def _authorized(
    request: AnyRequest, services: Services, access_key: AccessKey | None, name: str
) -> tuple[Image, Principal | None]:
    """Return the image with this id or slug, and who asks. An access code counts if nothing else does.

    Raises:
        ImageNotFound: to who is signed in.
        Unauthorized: to others, also if the image does not exist.
        AccessCodeRejected, PassphraseRequired, PassphraseWrong, TooManyAttempts: see `AccessGate`.
    """
    principal = await services.authenticator.principal_of(request)
    image = await services.images.get(await services.names.id_of(name, IMAGE))
    if image is not None:
        sees = principal is not None and principal.sees(image.owner, image.visibility)
        if sees or image.visibility is Visibility.PUBLIC:
            return image, principal
    if access_key is not None:
        media = None if image is None else Media(MediaType.IMAGE, image.id, image.owner)
        await services.access_gate.right_to(media, access_key)
        if image is not None:
            return image, principal
    raise Unauthorized if principal is None else ImageNotFound


HANDLERS = (upload_image, get_images, get_image, patch_image, remove_image, show_image)
