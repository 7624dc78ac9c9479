"""Playback: /play/<grant>/<path> leads to the run that plays now, /play/<grant>/<run>/<path> stays in a run.

The grant in the path is the only authorization, so relative URIs in a manifest carry it too, and the run:
a player that has loaded one manifest never gets segments of another run. Media requests are redirected to
presigned URLs of the bucket that are valid for minutes. `playback_links` issues the grants.
"""

from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from litestar import HttpMethod, route
from litestar.openapi.spec import OpenAPIHeader, OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromPath, FromQuery
from litestar.types import ASGIApp, Receive, Scope, Send

from backend.core import keys
from backend.core.errors import BadRequest, GrantRejected, NotReady, ObjectNotFound, VideoNotFound
from backend.playback.index import Playable
from backend.playback.manifest_reads import changes_with_captions
from backend.playback.serving import CONTENT_TYPES, SigningWindow, content_type_of, is_manifest
from backend.routes.services import Services
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented

REVALIDATED_CACHE = "private, no-cache"
"""For what the same URL may answer differently: playlists that grow, captions, and the current run."""
# A grant is a capability: anyone who has the link may play the video, on any page.
_HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "Content-Length, Content-Range, ETag",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """A complete response. Litestar's own take longer, and players send thousands of requests."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in (_HEADERS | self.headers).items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


@dataclass
class PlayOperation(Operation):
    """Describes the responses: Litestar cannot know those of an ASGI application."""

    def __post_init__(self) -> None:
        text = OpenAPIMediaType(Schema(type=OpenAPIType.STRING))
        types = dict.fromkeys(CONTENT_TYPES.values(), text)
        found = OpenAPIResponse("A manifest, or for HEAD, what is known about a media file", content=types)
        to = OpenAPIHeader(schema=Schema(type=OpenAPIType.STRING))
        redirect = OpenAPIResponse(
            "To the manifest of the current run, or to the media file in the store", headers={"location": to}
        )
        self.responses = (self.responses or {}) | {
            "200": found,
            "304": OpenAPIResponse("The manifest has not changed"),
            "307": redirect,
        }


@route(
    "/play/{grant:str}/{path:path}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=PUBLIC,
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
    operation_class=PlayOperation,
    tags=["playback"],
)
async def play(
    request: AnyRequest, grant: FromPath[str], path: FromPath[str], download: FromQuery[bool] = False
) -> ASGIApp:
    """Get a manifest, or a redirect to a media file."""
    services: Services = request.app.state.services
    granted = services.grants.read(grant)
    if granted is None:
        raise GrantRejected
    try:
        playable = await services.playback.resolve(granted.video_id)
        run, asset = keys.split_run(_literal_path(request, grant))
        if is_manifest(asset):
            if run is None and not keys.is_uploaded_captions(asset):
                return _to_run(playable.run, asset)
            return await _manifest(request, services, playable, run or playable.run, asset)
        key = keys.playable_object(
            playable.video_id, keys.run_prefix(playable.video_id, run or playable.run), asset
        )
        if request.method == HttpMethod.HEAD:
            return await _head(services, key)
    except (VideoNotFound, NotReady, BadRequest, ObjectNotFound):
        raise ObjectNotFound("Nothing to play was found at this address.") from None
    is_stable = run is not None or playable.is_published
    return _redirect(services, key, is_stable, _attachment(playable.title, key) if download else None)


def _literal_path(request: AnyRequest, grant: str) -> str:
    """Return the path as the client sent it: routing decodes it and merges slashes."""
    raw: bytes = request.scope.get("raw_path") or b""
    prefix = f"/play/{grant}/"
    literal = raw.decode("ascii", "replace")
    if not literal.startswith(prefix):
        raise BadRequest
    return keys.parse_asset_path(literal.removeprefix(prefix))


def _to_run(run: str, path: str) -> _Answer:
    """Redirect to a path in the run. The URL is relative, as a proxy may serve us below a path of its own."""
    location = f"{'../' * path.count('/')}{run}/{path}"
    headers = {"location": location, "cache-control": REVALIDATED_CACHE, "content-length": "0"}
    return _Answer(HTTPStatus.TEMPORARY_REDIRECT, headers)


async def _manifest(
    request: AnyRequest, services: Services, playable: Playable, run: str, path: str
) -> _Answer:
    manifest = await services.manifests.read(playable, run, path)
    etag = f'"{manifest.etag}"'
    is_final = manifest.is_final and not changes_with_captions(path)
    headers = {"cache-control": _final_cache(services) if is_final else REVALIDATED_CACHE, "etag": etag}
    if _matches(request.headers.get("if-none-match"), etag):
        return _Answer(HTTPStatus.NOT_MODIFIED, headers)
    headers |= {"content-length": str(len(manifest.body)), "content-type": content_type_of(path)}
    return _Answer(HTTPStatus.OK, headers, b"" if request.method == HttpMethod.HEAD else manifest.body)


def _final_cache(services: Services) -> str:
    """For what a run has finished. Cached for no longer than a presigned URL would open it."""
    return f"private, max-age={services.settings.presign_ttl_seconds}, immutable"


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Compare entity tags weakly (RFC 9110 section 13.1.2)."""
    if not if_none_match or etag == '""':
        return False
    candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return etag in candidates or "*" in candidates


async def _head(services: Services, key: str) -> _Answer:
    """Answer HEAD here: the bucket rejects HEAD on a URL that is presigned for GET."""
    info = await services.buckets.video.head(key)
    headers = {
        "accept-ranges": "bytes",
        "cache-control": REVALIDATED_CACHE,
        "content-length": str(info.size_bytes),
        "content-type": content_type_of(info.key),
        "etag": f'"{info.etag}"',
    }
    return _Answer(HTTPStatus.OK, headers)


def _redirect(services: Services, key: str, is_stable: bool, disposition: str | None) -> _Answer:
    ttl = services.settings.presign_ttl_seconds
    window = SigningWindow.at(services.clock(), ttl)
    headers = {
        "location": services.buckets.video.presign_get(key, window.get(ttl, disposition)),
        "cache-control": f"private, max-age={window.max_age_seconds}" if is_stable else REVALIDATED_CACHE,
        "content-length": "0",
    }
    return _Answer(HTTPStatus.TEMPORARY_REDIRECT, headers)


def _attachment(title: str, key: str) -> str:
    """Return a Content-Disposition (RFC 6266) with an ASCII filename, and the full title in UTF-8."""
    suffix = key.rpartition(".")[2]
    stem = "".join("_" if char in _UNSAFE or not char.isprintable() else char for char in title).strip(" .")
    name = f"{stem or 'video'}.{suffix}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


_UNSAFE = frozenset('/\\:*?"<>|%;')

HANDLERS = (play,)
