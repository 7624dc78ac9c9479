"""Upload links: who may upload makes them for guests, who may do nothing else."""

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from backend.core.access.upload_links import MAX_UPLOADS, UploadLink, is_link_id, link_id_of
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import UploadLinkNotFound, UploadLinkRejected
from backend.core.names import clean_lines, clean_text
from backend.core.records import Title
from backend.routes.services import FromServices, Services
from backend.web.auth import GUESTS, UPLOADERS, FromPrincipal
from backend.web.error_responses import documented
from backend.web.strict_requests import InvalidRequest, only_whole

DEFAULT_DAYS, MAX_DAYS = 7, 366
MAX_DESCRIPTION_LENGTH = 1000

_ERRORS = documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class NewUploadLink(BaseModel):
    """What a link allows. By default, one upload as large as this server accepts, within a week."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_LENGTH)] = ""
    expires_at: AwareDatetime | None = None
    max_uploads: Annotated[int, Field(ge=1, le=MAX_UPLOADS)] = 1
    max_bytes: Annotated[int, Field(ge=1, le=2**53)] | None = None

    _whole = field_validator("max_uploads", "max_bytes", mode="before")(only_whole)

    @field_validator("title")
    @classmethod
    def _visible(cls, title: str) -> str:
        cleaned = clean_text(title)
        if not cleaned:
            raise ValueError("must not be empty")
        return cleaned


class UploadLinkItem(BaseModel):
    """A link as its owner sees it. Its address is not stored, so only the answer that made it has that."""

    id: str
    owner: str | None
    title: str
    description: str
    expires_at: datetime
    max_uploads: int
    max_bytes: int
    created_at: datetime
    uploads_left: int
    is_open: bool = Field(description="an upload may begin")

    @classmethod
    async def of(cls, services: Services, link_id: str, link: UploadLink) -> "UploadLinkItem":
        left = await services.places.left(link_id, link.max_uploads)
        known = link.model_dump(exclude={"schema_version", "nonce"})
        is_open = left > 0 and services.upload_links.is_open(link)
        return cls(id=link_id, uploads_left=left, is_open=is_open, **known)


class MadeUploadLink(UploadLinkItem):
    """A new link. `url` is the guest's page, as a path on this server."""

    upload_link: str
    url: str


class UploadLinkList(BaseModel):
    """The links of one person, or all for an administrator. The newest comes first."""

    upload_links: tuple[UploadLinkItem, ...]


class UploadLinkForGuest(BaseModel):
    """All that a guest learns."""

    title: str
    description: str
    expires_at: datetime
    max_bytes: int
    uploads_left: int
    is_open: bool = Field(description="an upload may begin; else those that have begun may finish")


@post("/api/upload-links", opt=UPLOADERS, responses=_ERRORS, tags=["upload links"])
async def make_upload_link(
    services: FromServices, principal: FromPrincipal, data: JSONBody[NewUploadLink]
) -> Response[MadeUploadLink]:
    """Make a link with which a guest may upload for you."""
    now, most = services.upload_links.now(), services.settings.max_upload_bytes
    expires_at = data.expires_at or now + timedelta(days=DEFAULT_DAYS)
    if not now < expires_at <= now + timedelta(days=MAX_DAYS):
        raise InvalidRequest(f"expires_at: must be in the future, and within {MAX_DAYS} days")
    link = UploadLink(
        owner=principal.person,
        title=data.title,
        description=clean_lines(data.description, MAX_DESCRIPTION_LENGTH),
        expires_at=expires_at,
        max_uploads=data.max_uploads,
        max_bytes=min(data.max_bytes or most, most),
        created_at=now,
    )
    token = await services.upload_links.make(link)
    item = await UploadLinkItem.of(services, link_id_of(token), link)
    url = f"{services.settings.root_path}/upload/{token}"
    return Response(MadeUploadLink(**dict(item), upload_link=token, url=url), status_code=HTTPStatus.CREATED)


@get("/api/upload-links", opt=UPLOADERS, responses=_ERRORS, tags=["upload links"])
async def get_upload_links(services: FromServices, principal: FromPrincipal) -> UploadLinkList:
    """List your upload links, or all of them as an administrator."""
    found = await services.upload_links.all()
    mine = [one for one in found.items() if principal.manages(one[1].owner)]
    items = await gather_or_cancel(UploadLinkItem.of(services, *one) for one in mine)
    items.sort(key=lambda item: item.created_at, reverse=True)
    return UploadLinkList(upload_links=tuple(items))


@delete(
    "/api/upload-links/{link_id:str}",
    opt=UPLOADERS,
    responses=_ERRORS | documented(HTTPStatus.NOT_FOUND),
    tags=["upload links"],
)
async def withdraw_upload_link(
    services: FromServices, principal: FromPrincipal, link_id: FromPath[str]
) -> None:
    """Withdraw a link. What guests are sending with it ends within seconds; their videos stay."""
    found = await services.upload_links.find(link_id) if is_link_id(link_id) else None
    if found is None or not principal.manages(found.owner):
        raise UploadLinkNotFound
    await services.upload_links.withdraw(link_id)
    services.principals.forget_all()


@get("/api/upload-link", opt=GUESTS, responses=_ERRORS, tags=["upload links"])
async def get_upload_link(services: FromServices, principal: FromPrincipal) -> UploadLinkForGuest:
    """Get what the link in the query allows."""
    link = await services.upload_links.find(principal.link) if principal.link else None
    if link is None:
        raise UploadLinkRejected
    item = await UploadLinkItem.of(services, principal.link or "", link)
    return UploadLinkForGuest.model_validate(item.model_dump())


HANDLERS = (make_upload_link, get_upload_links, withdraw_upload_link, get_upload_link)
