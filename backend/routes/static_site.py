"""Serves the built site: its files, and its index page for every address that the site routes itself."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from litestar import HttpMethod, Response, route
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from backend.routes.services import FromServices
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.http_rules import belongs_to_site
from backend.web.static_files import NOWHERE, Site, StaticFile


@route(
    ["/", "/{path:path}"],
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=PUBLIC,
    include_in_schema=False,
)
async def site(
    request: AnyRequest, services: FromServices, path: FromPath[str] = ""
) -> Response[bytes | None]:
    """Serve the site."""
    relative = path.strip("/")
    if not belongs_to_site(relative):
        raise NotFoundException
    file = await asyncio.to_thread(services.site.find, relative)
    if file is None:
        raise NotFoundException
    return serve(request, services.site, file)


def serve(
    request: AnyRequest,
    site: Site,
    file: StaticFile,
    ancestors: Sequence[str] = NOWHERE,
    status_code: int = HTTPStatus.OK,
) -> Response[bytes | None]:
    """Return a file or page. `ancestors` are origins of pages that may embed it."""
    headers = {
        "cache-control": file.cache_control,
        "content-type": file.content_type,
        "content-security-policy": site.content_security_policy(ancestors),
        "etag": file.etag,
        "vary": "Accept-Encoding",
    }
    if status_code == HTTPStatus.OK and request.headers.get("if-none-match") == file.etag:
        return Response(None, status_code=304, headers=headers)
    body = file.body
    if file.gzipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body = file.gzipped
        headers["content-encoding"] = "gzip"
    if request.method == HttpMethod.HEAD:
        headers["content-length"] = str(len(body))
        return Response(None, headers=headers, status_code=status_code)
    return Response(body, headers=headers, status_code=status_code)


HANDLERS = (site,)
