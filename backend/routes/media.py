"""Playback: /play/<grant>/<path> serves manifests and redirects to media.

The grant in the path is the only authorization, so relative URIs in a manifest carry it too. Media requests
are redirected to presigned URLs of the bucket that are valid for minutes. `playback_links` issues the grants.
"""

from http import HTTPStatus
from urllib.parse import quote

from litestar import HttpMethod, Response, route
from litestar.params import FromPath, FromQuery

from backend.core import keys
from backend.core.errors import BadRequest, GrantRejected, NotReady, ObjectNotFound, VideoNotFound
from backend.core.store.interface import ObjectInfo
from backend.playback.index import Playable
from backend.playback.serving import (
    SigningWindow,
    changes_with_captions,
    content_type_of,
    is_manifest,
    read_manifest,
)
from backend.routes.services import FromServices, Services
from backend.web.auth import PUBLIC
from backend.web.bodies import AnyRequest
from backend.web.error_responses import documented

PUBLISHED_MANIFEST_CACHE = "private, max-age=60"
"""Short, because encoding a video again changes what the same URL returns."""
REVALIDATED_CACHE = "private, no-cache"
"""For playlists that grow, and for manifests that change when captions do."""
# A grant is a capability: anyone who has the link may play the video, on any page.
_CORS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "Content-Length, Content-Range, ETag",
}


@route(
    "/play/{grant:str}/{path:path}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    opt=PUBLIC,
    responses=documented(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
    tags=["playback"],
)
async def play(
    request: AnyRequest,
    services: FromServices,
    grant: FromPath[str],
    path: FromPath[str],
    download: FromQuery[bool] = False,
) -> Response[bytes | None]:
    """Get a manifest, or a redirect to a media file."""
    granted = services.grants.read(grant)
    if granted is None:
        raise GrantRejected
    try:
        if not services.rights.stands(granted):
            await services.rights.check(granted)
        playable = await services.playback.resolve(granted.video_id)
        literal = _literal_path(request, grant)
        if is_manifest(literal):
            return await _manifest(request, services, playable, literal)
        key = playable.key_of(literal)
        if request.method == HttpMethod.HEAD:
            cache_control = PUBLISHED_MANIFEST_CACHE if playable.is_published else REVALIDATED_CACHE
            return _head_response(await services.buckets.video.head(key), cache_control)
    except (VideoNotFound, NotReady, BadRequest, ObjectNotFound):
        raise ObjectNotFound("Nothing to play was found at this address.") from None
    return _redirect(services, playable, key, attachment=download)


def _literal_path(request: AnyRequest, grant: str) -> str:
    """Return the path as the client sent it: routing decodes it and merges slashes."""
    raw: bytes = request.scope.get("raw_path") or b""
    prefix = f"/play/{grant}/"
    literal = raw.decode("ascii", "replace")
    if not literal.startswith(prefix):
        raise BadRequest
    return keys.parse_asset_path(literal.removeprefix(prefix))


async def _manifest(
    request: AnyRequest, services: Services, playable: Playable, path: str
) -> Response[bytes | None]:
    manifest = await read_manifest(services.buckets, playable, path)
    etag = f'"{manifest.etag}"'
    is_final = playable.is_published and not changes_with_captions(path)
    cache_control = PUBLISHED_MANIFEST_CACHE if is_final else REVALIDATED_CACHE
    headers = {**_CORS, "cache-control": cache_control, "etag": etag}
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(None, status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if request.method == HttpMethod.HEAD:
        headers |= {"content-length": str(len(manifest.body)), "content-type": content_type_of(path)}
        return Response(None, headers=headers)
    return Response(manifest.body, media_type=content_type_of(path), headers=headers)


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Compare entity tags weakly (RFC 9110 section 13.1.2)."""
    if not if_none_match or etag == '""':
        return False
    candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
    return etag in candidates or "*" in candidates


def _head_response(info: ObjectInfo, cache_control: str) -> Response[bytes | None]:
    """Answer HEAD here: the bucket rejects HEAD on a URL that is presigned for GET."""
    headers = {
        **_CORS,
        "accept-ranges": "bytes",
        "cache-control": cache_control,
        "content-length": str(info.size_bytes),
        "content-type": content_type_of(info.key),
        "etag": f'"{info.etag}"',
    }
    return Response(None, headers=headers)


def _redirect(
    services: Services, playable: Playable, key: str, *, attachment: bool
) -> Response[bytes | None]:
    ttl = services.settings.presign_ttl_seconds
    window = SigningWindow.at(services.clock(), ttl)
    disposition = _attachment(playable.title, key) if attachment else None
    location = services.buckets.video.presign_get(key, window.get(ttl, disposition))
    max_age = f"private, max-age={window.max_age_seconds}"
    headers = {
        **_CORS,
        "location": location,
        "cache-control": max_age if playable.is_published else REVALIDATED_CACHE,
    }
    return Response(b"", status_code=HTTPStatus.TEMPORARY_REDIRECT, media_type="text/plain", headers=headers)


def _attachment(title: str, key: str) -> str:
    """Return a Content-Disposition (RFC 6266) with an ASCII filename, and the full title in UTF-8."""
    suffix = key.rpartition(".")[2]
    stem = "".join("_" if char in _UNSAFE or not char.isprintable() else char for char in title).strip(" .")
    name = f"{stem or 'video'}.{suffix}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


_UNSAFE = frozenset('/\\:*?"<>|%;')

HANDLERS = (play,)
