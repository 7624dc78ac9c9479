"""Access codes: make, list and withdraw them. `playback_links` and others accept them."""

from http import HTTPStatus
from typing import Annotated, Literal

from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from backend.core.access.codes import MADE_UP, CodeItem, ListedCode, MediaType, made_up, normalized
from backend.core.access.people import Role
from backend.core.access.principals import Principal
from backend.core.errors import AccessCodeNotFound, BadRequest, VideoNotFound
from backend.core.library.slugs import IMAGE
from backend.core.names import clean_text
from backend.core.setting_values import origin
from backend.routes.permitted import require_managed, require_managed_image, require_visible_image
from backend.routes.services import FromServices, Services
from backend.web.access_codes import MAX_LENGTH
from backend.web.auth import UPLOADERS, FromPrincipal
from backend.web.error_responses import documented

PATH = "/api/access-codes"
MIN_LENGTH = 6
"""Of codes and passphrases that people choose."""
MAX_ITEMS = 100


def _long_enough(secret: str) -> str:
    if len(normalized(secret)) < MIN_LENGTH:
        raise ValueError(f"must have at least {MIN_LENGTH} characters")
    return secret


def _free(code: str) -> str:
    if normalized(code).startswith(MADE_UP):
        raise ValueError(f"must not begin with {MADE_UP}")
    return code


Secret = Annotated[str, Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH), AfterValidator(_long_enough)]


class NewItem(BaseModel):
    """A video or image by its slug or id. `stream` is another name for `video`."""

    model_config = ConfigDict(extra="forbid")

    media_type: Literal["video", "image", "stream"] = "video"
    media_slug: str


class NewCode(BaseModel):
    """What to share. Without `code`, one is made up."""

    model_config = ConfigDict(extra="forbid")

    media_items: Annotated[tuple[NewItem, ...], Field(min_length=1, max_length=MAX_ITEMS)]
    code: Annotated[Secret, AfterValidator(_free)] | None = None
    description: Annotated[str, Field(max_length=300), AfterValidator(clean_text)] = ""
    expires_at: AwareDatetime | None = None
    passphrase: Secret | None = None
    frame_ancestors: (
        Annotated[tuple[Annotated[str, AfterValidator(origin)], ...], Field(max_length=20)] | None
    ) = None


class SharedItem(BaseModel):
    media_type: MediaType
    media_slug: str
    id: str


class SharedCode(BaseModel):
    """A code without what is secret about it."""

    id: str
    owner: str | None
    description: str
    expires_at: AwareDatetime | None
    needs_passphrase: bool
    media_items: tuple[SharedItem, ...]
    frame_ancestors: tuple[str, ...] | None
    created_at: AwareDatetime
    last_used_on: AwareDatetime | None = Field(description="to the day")


class MadeCode(SharedCode):
    code: str = Field(description="it is not shown again")


class SharedCodes(BaseModel):
    access_codes: tuple[SharedCode, ...]


@post(
    PATH,
    opt=UPLOADERS,
    responses=documented(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
    ),
    tags=["access codes"],
)
async def make_access_code(
    services: FromServices, principal: FromPrincipal, data: JSONBody[NewCode]
) -> MadeCode:
    """Make a code that opens media which one manages."""
    if data.expires_at is not None and data.expires_at.timestamp() <= services.clock():
        raise BadRequest("expires_at: must be in the future")
    items = tuple([await _managed(services, principal, item) for item in data.media_items])
    code = data.code or made_up()
    made = await services.codes.make(
        code,
        owner=principal.person,
        media_items=items,
        description=data.description,
        expires_at=data.expires_at,
        passphrase=data.passphrase,
        frame_ancestors=data.frame_ancestors,
    )
    services.principals.forget_all()  # guests may have tried it before it was made
    return MadeCode(**dict(_shared(made)), code=code)


async def _managed(services: Services, principal: Principal, item: NewItem) -> CodeItem:
    """Raises: VideoNotFound, ImageNotFound. Forbidden: they may only watch it."""
    if item.media_type == "image":
        image_id = await services.names.id_of(item.media_slug, IMAGE)
        await require_managed_image(services, principal, image_id)
        await require_visible_image(services, principal, image_id)
        return CodeItem(media_type=MediaType.IMAGE, media_slug=item.media_slug, id=image_id)
    video_id = await services.names.id_of(item.media_slug)
    await require_managed(services, principal, video_id)
    if await services.rights.protection(video_id) is None:
        raise VideoNotFound
    return CodeItem(media_type=MediaType.VIDEO, media_slug=item.media_slug, id=video_id)


@get(
    PATH,
    opt=UPLOADERS,
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    tags=["access codes"],
)
async def list_access_codes(
    services: FromServices, principal: FromPrincipal, media_id: FromQuery[str | None] = None
) -> SharedCodes:
    """List one's own codes, newest first, or those that open this media; administrators see everyone's."""
    return SharedCodes(
        access_codes=tuple(
            _shared(listed)
            for listed in await services.codes.all()
            if _is_theirs(principal, listed.record.owner)
            and (media_id is None or any(item.id == media_id for item in listed.record.media_items))
        )
    )


@delete(
    f"{PATH}/{{code_id:str}}",
    opt=UPLOADERS,
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
    tags=["access codes"],
)
async def withdraw_access_code(
    services: FromServices, principal: FromPrincipal, code_id: FromPath[str]
) -> None:
    """Withdraw a code. What guests play with it ends within minutes."""
    record = await services.codes.find(code_id)
    if record is None or not _is_theirs(principal, record.owner):
        raise AccessCodeNotFound
    await services.codes.withdraw(code_id)
    services.principals.forget_all()


def _is_theirs(principal: Principal, owner: str | None) -> bool:
    return principal.role is Role.ADMIN or (owner is not None and owner == principal.person)


def _shared(listed: ListedCode) -> SharedCode:
    record = listed.record
    return SharedCode(
        id=listed.id,
        owner=record.owner,
        description=record.description,
        expires_at=record.expires_at,
        needs_passphrase=record.passphrase is not None,
        media_items=tuple(SharedItem(**dict(item)) for item in record.media_items),
        frame_ancestors=record.frame_ancestors,
        created_at=record.created_at,
        last_used_on=listed.used_at,
    )


HANDLERS = (make_access_code, list_access_codes, withdraw_access_code)
