"""What holds for every request before routing: how it must be formed, where we live, HEAD and OPTIONS.

Litestar decodes leniently, knows HEAD and OPTIONS only where a route declares them, and takes a root path out
of the middle of a path.
"""

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from litestar import Litestar
from litestar.enums import HttpMethod, ScopeType
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from backend.core.access.upload_links import TOKEN_LENGTH
from backend.web.tus_headers import PATH as TUS_PATH

API_ROOTS = frozenset(
    {
        *("api", "play", "videos", "jobs", "upload", "download", "schema", "healthz", "readyz", "metrics"),
        *("health", "hls", "images", "oembed"),
    }
)
"""First path segments that never belong to the site: unknown paths below them return 404."""
_GUEST_PAGE = re.compile(rf"/?upload/[A-Za-z0-9_-]{{{TOKEN_LENGTH}}}/?")
"""The page of an upload link (`backend.core.access.upload_links`)."""
IS_HEAD = "is_head"
"""In the scope's state: the request is a HEAD, whatever its method says."""
SITE = "/{path}"
"""The route that takes all paths which no other route takes."""
_OWN_HEAD = (TUS_PATH + "/", "/play/")
"""Routes with a HEAD of their own begin with this. For all others HEAD is GET without the body."""
_SCHEMA_PATHS = frozenset({"/schema", "/schema/", "/schema/openapi.json"})
"""Litestar answers other paths below /schema with a page."""

_NOT_FOUND = (HTTPStatus.NOT_FOUND, "Nothing was found at this address.", "not_found")
_FOREIGN = (HTTPStatus.FORBIDDEN, "CORS_ORIGINS does not list the origin of this page.", "foreign_origin")

_SINGLE = frozenset(
    b"host authorization content-type origin sec-fetch-site if-none-match range tus-resumable upload-length"
    b" upload-defer-length upload-offset upload-metadata upload-concat upload-checksum"
    b" x-http-method-override access-control-request-method".split()
)
"""Headers that may be sent once: a proxy and we could read different ones of two."""
MAX_PARAMETERS = 100
"""Litestar keeps the last 1,024 queries as it parsed them: thirty times as large if they are short keys."""
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class HttpRules:
    """ASGI wrapper around everything that Litestar does with a request."""

    def __init__(self, app: ASGIApp, litestar: Litestar, root_path: str) -> None:
        """`root_path` is where a proxy offers us, without a trailing slash; it may or may not remove it."""
        self._app = app
        self._litestar = litestar
        self._root = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            self._remove_root(scope)
            if _fault_of(scope):
                await send({"type": "websocket.close", "code": 1008, "reason": "bad_request"})
            else:
                await self._app(scope, receive, send)
            return
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        if fault := _fault_of(scope):
            await _respond(send, HTTPStatus.BAD_REQUEST, fault, "bad_request")
            return
        self._remove_root(scope)
        path = scope["path"]
        if path.startswith("/schema/") and path not in _SCHEMA_PATHS:
            await _respond(send, *_NOT_FOUND)
        elif self._is_refused_preflight(scope):
            await _respond(send, *_FOREIGN)
        elif scope["method"] == HttpMethod.OPTIONS and self._is_for_us(scope):
            await self._answer_options(path, send)
        elif scope["method"] == HttpMethod.HEAD and not path.startswith(_OWN_HEAD):
            as_get = scope.copy()
            as_get["method"] = HttpMethod.GET
            as_get["state"] = {**scope.get("state", {}), IS_HEAD: True}
            await self._app(as_get, receive, _without_body(self._with_root(send)))
        else:
            await self._app(scope, receive, self._with_root(send))

    async def _answer_options(self, path: str, send: Send) -> None:
        try:
            allow = ", ".join(allowed_methods(self._litestar, path)).encode()
        except NotFoundException:
            await _respond(send, *_NOT_FOUND)
            return
        await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow)]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _is_refused_preflight(self, scope: HTTPScope) -> bool:
        cors, origin = self._litestar.cors_config, _preflight_origin(scope)
        return cors is not None and origin is not None and not cors.is_origin_allowed(origin)

    def _is_for_us(self, scope: HTTPScope) -> bool:
        """Return whether OPTIONS asks about a route: preflights are for Litestar, and tus answers itself."""
        is_preflight = self._litestar.cors_config is not None and _preflight_origin(scope) is not None
        return not is_preflight and not scope["path"].startswith(TUS_PATH)

    def _remove_root(self, scope: Scope) -> None:
        root = self._root
        if root and (scope["path"] + "/").startswith(root + "/"):
            scope["path"] = scope["path"][len(root) :] or "/"
            scope["raw_path"] = (scope.get("raw_path") or b"")[len(root) :] or b"/"

    def _with_root(self, send: Send) -> Send:
        if not self._root:
            return send

        async def send_with_root(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (
                        name,
                        self._root.encode() + value if name == b"location" and value[:1] == b"/" else value,
                    )
                    for name, value in message["headers"]
                ]
            await send(message)

        return send_with_root


def _preflight_origin(scope: HTTPScope) -> str | None:
    if scope["method"] != HttpMethod.OPTIONS:
        return None
    headers = dict(scope["headers"])
    if b"access-control-request-method" not in headers:
        return None
    origin = headers.get(b"origin")
    return None if origin is None else origin.decode("latin-1")


def belongs_to_site(path: str) -> bool:
    return path.strip("/").partition("/")[0] not in API_ROOTS or _GUEST_PAGE.fullmatch(path) is not None


def allowed_methods(app: Litestar, path: str) -> list[str]:
    """Return the methods that this path supports. Raises: NotFoundException: no route has this path."""
    methods = set()
    for method in HttpMethod:
        with suppress(NotFoundException, MethodNotAllowedException):
            *_, template = app.asgi_router.handle_routing(path.rstrip("/") or "/", method.value)
            if template != SITE or belongs_to_site(path):
                methods.add(method.value)
    if not methods:
        raise NotFoundException
    if HttpMethod.GET in methods:
        methods.add(HttpMethod.HEAD.value)
    return sorted(methods)


def _fault_of(scope: Scope) -> str | None:
    """Return what is wrong with the form of a request, as a sentence."""
    seen = [name for name, _ in scope["headers"]]
    for name in _SINGLE.intersection(seen):
        if seen.count(name) > 1:
            return f"The header {name.decode().title()} was sent twice."
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    if host is None and scope["http_version"] == "1.1":
        return "The header Host is missing."
    if host is not None and not _HOST.fullmatch(host):
        return "The header Host is not the name of a server."
    raw_path: bytes = scope.get("raw_path") or b""
    if not scope["path"].startswith("/"):
        return "The address does not begin with a slash."
    if scope["query_string"].count(b"&") >= MAX_PARAMETERS:
        return "The query has too many parameters."
    for part, encoded in (("address", raw_path), ("query", scope["query_string"])):
        if b"%" not in encoded and encoded.isascii():
            decoded = encoded
        elif _BAD_ESCAPE.search(encoded):
            return f"The {part} has a % that is not followed by two hexadecimal digits."
        else:
            decoded = unquote_to_bytes(encoded)
        try:
            decoded.decode()
        except UnicodeDecodeError:
            return f"The {part} is not UTF-8."
        if part == "address" and _CONTROL.search(decoded):
            return "The address contains control characters."
    return None


def _without_body(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {
                "type": "http.response.body",
                "body": b"",
                "more_body": message.get("more_body", False),
            }
        await send(message)

    return send_head


async def _respond(send: Send, status: int, sentence: str, code: str) -> None:
    body = json.dumps({"error": sentence, "code": code}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
