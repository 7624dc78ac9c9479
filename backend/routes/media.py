"""Playback: /play/<grant>/<path> leads to the run that plays now, /play/<grant>/<run>/<path> stays in a run.

The grant in the path is the only authorization, so relative URIs in a manifest carry it too, and the run:
a player that has loaded one manifest never gets segments of another run. Media requests are redirected to
presigned URLs of the bucket that are valid for minutes. `playback_links` issues the grants.

Only those that send a token get the bytes from here: wget, ffmpeg and others would send it on to the
store, which must not have it, and which rejects a request with two kinds of credentials.
"""

import asyncio
import posixpath
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from litestar import HttpMethod, route
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.openapi.spec import OpenAPIHeader, OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromPath, FromQuery
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from backend.core import keys
from backend.core.errors import (
    BadRequest,
    GrantRejected,
    NotMadeYet,
    NotReady,
    ObjectNotFound,
    StoreError,
    VideoNotFound,
)
from backend.core.store.interface import ObjectInfo, Store
from backend.core.store.ranged_read import read_span
from backend.playback.index import Playable
from backend.playback.manifest_reads import changes_with_captions
from backend.playback.serving import CONTENT_TYPES, SigningWindow, attachment, content_type_of, is_manifest
from backend.routes.services import Services
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.byte_ranges import ByteRange, requested_range
from backend.web.error_responses import documented

log = structlog.get_logger(__name__)

REVALIDATED_CACHE = "private, no-cache"
"""For what the same URL may answer differently: playlists that grow, captions, and the current run."""
# A grant is a capability: anyone who has the link may play the video, on any page.
_HEADERS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Content-Length, Content-Range, ETag"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A complete response. Litestar's own take longer, and players send thousands of requests."""

    status: int
    headers: dict[bytes, str]
    body: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*_HEADERS, *((name, value.encode()) for name, value in self.headers.items())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


@dataclass(frozen=True, slots=True)
class _Stream:
    """A media file or a range of it, read from the store while the client reads it."""

    store: Store
    info: ObjectInfo
    part: ByteRange
    headers: dict[bytes, str]
    is_whole: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = HTTPStatus.OK if self.is_whole else HTTPStatus.PARTIAL_CONTENT
        headers = [*_HEADERS, *((name, value.encode()) for name, value in self.headers.items())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        client_left = asyncio.create_task(_until_disconnect(receive))  # the server ignores what we send then
        left = self.part.size_bytes
        try:
            etag = self.info.etag or None
            span = read_span(self.store, self.info.key, self.part.begin, self.part.end, etag=etag)
            async with aclosing(span) as pieces:
                async for piece in pieces:
                    if client_left.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    left -= len(piece)
        except StoreError as error:
            # The connection is closed before its announced end, and the client asks for the rest.
            log.warning("stream_broken", key=self.info.key, left_bytes=left, error=error.message)
            return
        finally:
            client_left.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass
class PlayOperation(Operation):
    """Describes the responses: Litestar cannot know those of an ASGI application."""

    def __post_init__(self) -> None:
        text = OpenAPIMediaType(Schema(type=OpenAPIType.STRING))
        types = dict.fromkeys(CONTENT_TYPES.values(), text)
        found = OpenAPIResponse(
            "A manifest; for HEAD, what is known about a media file; with a token, the file",
            content=types,
        )
        to = OpenAPIHeader(schema=Schema(type=OpenAPIType.STRING))
        redirect = OpenAPIResponse(
            "To the manifest of the current run, or to the media file in the store", headers={"location": to}
        )
        self.responses = (self.responses or {}) | {
            "200": found,
            "206": OpenAPIResponse("With a token, a range of the file", content=types),
            "304": OpenAPIResponse("The manifest has not changed"),
            "307": redirect,
        }


@route(
    "/play/{grant:str}/{path:path}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=PUBLIC,
    responses=documented(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
    operation_class=PlayOperation,
    tags=["playback"],
)
async def play(
    request: AnyRequest, grant: FromPath[str], path: FromPath[str], download: FromQuery[bool] = False
) -> ASGIApp:
    """Get a manifest, or a redirect to a media file."""
    failed: Exception | None = request.scope["state"].get(_FAILED)
    if failed is not None:
        raise failed
    return await _answer(request.scope, download=download)


class PlayFirst:
    """ASGI wrapper that answers plain requests under /play before routing, which takes longer than they do.

    The route `play` takes those with a query, those from pages that CORS settings name, and all failures.
    """

    def __init__(self, app: ASGIApp, *, has_cors: bool) -> None:
        self._app = app
        self._has_cors = has_cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == ScopeType.HTTP
            and scope["path"].startswith(_PREFIX)
            and scope["method"] in (HttpMethod.GET, HttpMethod.HEAD)
            and not scope["query_string"]
            and not (self._has_cors and _header(scope, b"origin"))
        ):
            try:
                answer = await _answer(scope)
            except Exception as error:  # noqa: BLE001  # the route raises it, for the usual error response
                scope["state"][_FAILED] = error
            else:
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


_PREFIX = "/play/"
_FAILED = "playback_failed"


async def _answer(scope: HTTPScope, *, download: bool = False) -> _Answer | _Stream:
    """Raises: GrantRejected. ObjectNotFound. NotMadeYet. RangeNotSatisfiable. TooManyAttempts."""
    services: Services = scope["litestar_app"].state.services
    # The path as the client sent it: routing decodes it and merges slashes.
    raw: bytes = scope.get("raw_path") or b""
    grant, _, literal = raw.decode("ascii", "replace").removeprefix(_PREFIX).partition("/")
    granted = services.grants.read(grant)
    if granted is None:
        raise GrantRejected
    try:
        if not services.rights.stands(granted):
            await services.rights.check(granted)
        playable = await services.playback.resolve(granted.video_id)
        named, path = keys.split_run(keys.parse_asset_path(literal))
        run = named or playable.run
        if run == playable.reduced_run and not (keys.is_kept(path) or keys.is_uploaded_captions(path)):
            await services.rebuilds.begin(playable.video_id)
            if named is None:
                raise NotMadeYet
            raise ObjectNotFound
        if named is None and is_manifest(path) and not keys.is_uploaded_captions(path):
            return _to_run(run, path)
        if not playable.is_published and run == playable.run and keys.is_look(run):
            await services.looks.wait(playable, path)
            await services.rights.check(granted)  # again: it may have waited
        if is_manifest(path):
            return await _manifest(scope, services, playable, run, path)
        key = keys.playable_object(playable.video_id, keys.run_prefix(playable.video_id, run), path)
        if scope["method"] == HttpMethod.HEAD:
            return _Answer(HTTPStatus.OK, _facts(await services.buckets.video.head(key)))
        disposition = attachment(playable.title, posixpath.splitext(key)[1]) if download else None
        sends_token = _header(scope, b"authorization") is not None
        if sends_token and await services.authenticator.principal_of(ASGIConnection(scope)):
            return await _stream(scope, services.buckets.video, key, disposition)
    except (VideoNotFound, NotReady, BadRequest, ObjectNotFound):
        raise ObjectNotFound("Nothing to play was found at this address.") from None
    is_stable = named is not None or playable.is_published
    return _redirect(services, key, is_stable, disposition)


def _header(scope: HTTPScope, name: bytes) -> bytes | None:
    return next((value for header, value in scope["headers"] if header == name), None)


def _to_run(run: str, path: str) -> _Answer:
    """Redirect to a path in the run. The URL is relative, as a proxy may serve us below a path of its own."""
    location = f"{'../' * path.count('/')}{run}/{path}"
    headers = {b"location": location, b"cache-control": REVALIDATED_CACHE, b"content-length": "0"}
    return _Answer(HTTPStatus.TEMPORARY_REDIRECT, headers)


async def _manifest(scope: HTTPScope, services: Services, playable: Playable, run: str, path: str) -> _Answer:
    manifest = await services.manifests.read(playable, run, path)
    etag = f'"{manifest.etag}"'
    is_final = manifest.is_final and not changes_with_captions(path)
    headers = {b"cache-control": _final_cache(services) if is_final else REVALIDATED_CACHE, b"etag": etag}
    if _matches(_header(scope, b"if-none-match"), etag.encode()):
        return _Answer(HTTPStatus.NOT_MODIFIED, headers)
    headers |= {b"content-length": str(len(manifest.body)), b"content-type": content_type_of(path)}
    return _Answer(HTTPStatus.OK, headers, b"" if scope["method"] == HttpMethod.HEAD else manifest.body)


def _final_cache(services: Services) -> str:
    """For what a run has finished. Cached for no longer than a presigned URL would open it."""
    return f"private, max-age={services.settings.presign_ttl_seconds}, immutable"


def _matches(if_none_match: bytes | None, etag: bytes) -> bool:
    """Compare entity tags weakly (RFC 9110 section 13.1.2)."""
    if not if_none_match or etag == b'""':
        return False
    candidates = [candidate.strip().removeprefix(b"W/") for candidate in if_none_match.split(b",")]
    return etag in candidates or b"*" in candidates


def _facts(info: ObjectInfo) -> dict[bytes, str]:
    """Return the headers of a media file. HEAD needs them too: the bucket rejects it on a URL for GET."""
    return {
        b"accept-ranges": "bytes",
        b"cache-control": REVALIDATED_CACHE,
        b"content-length": str(info.size_bytes),
        b"content-type": content_type_of(info.key),
        b"etag": f'"{info.etag}"',
    }


async def _stream(scope: HTTPScope, store: Store, key: str, disposition: str | None) -> _Stream:
    """Raises: ObjectNotFound. RangeNotSatisfiable."""
    info = await store.head(key)
    headers = _facts(info)
    unchanged = _header(scope, b"if-range") in (None, headers[b"etag"].encode())
    part = requested_range(_header(scope, b"range"), info.size_bytes) if unchanged else None
    if part is not None:
        headers |= {
            b"content-length": str(part.size_bytes),
            b"content-range": part.content_range(info.size_bytes),
        }
    if disposition is not None:
        headers[b"content-disposition"] = disposition
    return _Stream(store, info, part or ByteRange(0, info.size_bytes), headers, is_whole=part is None)


def _redirect(services: Services, key: str, is_stable: bool, disposition: str | None) -> _Answer:
    ttl = services.settings.presign_ttl_seconds
    window = SigningWindow.at(services.clock(), ttl)
    headers = {
        b"location": services.buckets.video.presign_get(key, window.get(ttl, disposition)),
        b"cache-control": f"private, max-age={window.max_age_seconds}" if is_stable else REVALIDATED_CACHE,
        b"content-length": "0",
    }
    return _Answer(HTTPStatus.TEMPORARY_REDIRECT, headers)


HANDLERS = (play,)
