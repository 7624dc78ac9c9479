"""The site: its built files, and its index for every address that it routes itself."""

import asyncio

from litestar import HttpMethod, Request, Response, route
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from backend.routes.services import FromServices
from backend.web.auth import PUBLIC

API_ROOTS = frozenset(
    {"api", "play", "videos", "jobs", "upload", "download", "schema", "healthz", "readyz", "metrics"}
)
"""First path segments that never belong to the site: what is not routed below them is a plain 404."""


@route(
    ["/", "/{path:path}"],
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=PUBLIC,
    include_in_schema=False,
)
async def site(
    request: Request[object, object, State], services: FromServices, path: FromPath[str] = ""
) -> Response[bytes | None]:
    """Serve the site."""
    relative = path.strip("/")
    if relative.partition("/")[0] in API_ROOTS:
        raise NotFoundException
    page = await asyncio.to_thread(services.site.find, relative)
    if page is None:
        raise NotFoundException
    headers = {
        "cache-control": page.cache_control,
        "content-type": page.content_type,
        "content-security-policy": services.site.content_security_policy,
        "etag": page.etag,
        "vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == page.etag:
        return Response(None, status_code=304, headers=headers)
    body = page.body
    if page.gzipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body = page.gzipped
        headers["content-encoding"] = "gzip"
    if request.method == HttpMethod.HEAD:
        headers["content-length"] = str(len(body))
        return Response(None, headers=headers)
    return Response(body, headers=headers)


HANDLERS = (site,)
