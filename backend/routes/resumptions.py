"""Resumption records (`backend.core.uploads.resumptions`): where a client can find the upload of a file."""

from http import HTTPStatus

from litestar import Response, delete, get, put
from litestar.params import FromPath, JSONBody
from pydantic import BaseModel, ConfigDict, Field, field_validator

from backend.routes.services import FromServices
from backend.web.auth import GUESTS, FromPrincipal
from backend.web.error_responses import documented
from backend.web.strict_requests import only_whole

_ERRORS = documented(
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE
)
_PATH = "/api/resumptions/{fingerprint:str}"


class Resumption(BaseModel):
    """Where the upload of a file is: one URL, or the URLs of its parallel parts in order."""

    model_config = ConfigDict(extra="forbid")

    upload_url: str | None = Field(None, max_length=500)
    parallel_upload_urls: list[str] | None = Field(None, max_length=100)
    size_bytes: int | None = Field(None, ge=0, le=2**53)

    _whole = field_validator("size_bytes", mode="before")(only_whole)


@get(_PATH, opt=GUESTS, responses={**_ERRORS, **documented(HTTPStatus.NOT_FOUND)}, tags=["uploads"])
async def find_resumption(
    services: FromServices, principal: FromPrincipal, fingerprint: FromPath[str]
) -> Resumption:
    """Find the unfinished upload of a file."""
    record = await services.resumptions.read(principal.link or principal.person, fingerprint)
    return Resumption.model_validate_json(record, extra="ignore")  # a newer version may have written it


@put(_PATH, opt=GUESTS, status_code=HTTPStatus.NO_CONTENT, responses=_ERRORS, tags=["uploads"])
async def save_resumption(
    services: FromServices, principal: FromPrincipal, fingerprint: FromPath[str], data: JSONBody[Resumption]
) -> Response[None]:
    """Save where the upload of a file is, so that it can be resumed elsewhere."""
    await services.resumptions.write(
        principal.link or principal.person, fingerprint, data.model_dump_json().encode()
    )
    return Response(None, status_code=HTTPStatus.NO_CONTENT)


@delete(_PATH, opt=GUESTS, responses=_ERRORS, tags=["uploads"])
async def delete_resumption(
    services: FromServices, principal: FromPrincipal, fingerprint: FromPath[str]
) -> None:
    """Delete the record: the upload is complete."""
    await services.resumptions.forget(principal.link or principal.person, fingerprint)


HANDLERS = (find_resumption, save_resumption, delete_resumption)
