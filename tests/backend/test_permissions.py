"""Every route for every kind of person: whether they get through, and that nothing changes if they do not.

A new route needs a row in `ROUTES`. What must get through may fail only for reasons other than access.
"""

from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from json import dumps
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from backend.core import keys
from backend.core.access.codes import CodeItem, MediaType, made_up
from backend.core.access.people import Role, token_id_of
from backend.core.access.rights import Right, RightKind
from backend.core.access.upload_links import UploadLink, link_id_of
from backend.core.ids import new_id
from backend.core.image_records import Image, ImageFormat
from backend.core.jobs.retry import first_job
from backend.core.library.images import add_image, edit_image
from backend.core.library.videos import VideoEdit, add_video, edit_video
from backend.core.records import Conversion, TranscodeOptions, Visibility
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from backend.core.uploads.ingest import Description
from backend.routes.services import Services
from backend.web.auth import COOKIE
from tests.backend.conftest import BEARER, TOKEN, Clock, api_process, publish
from tests.lab.asgi import client_of


class May(Enum):
    """What a request needs."""

    OPEN = auto()
    """Nothing."""
    SIGNED_IN = auto()
    EMBED = auto()
    """A public video, whoever asks: other sites do."""
    WATCH = auto()
    """A video that the person sees, or a public one."""
    SEE = auto()
    MANAGE = auto()
    UPLOAD = auto()
    OWN = auto()
    """Something of one's own that nobody else knows of."""
    ADMINISTER = auto()
    USE_A_LINK = auto()
    """An upload link."""


@dataclass(frozen=True)
class Row:
    may: May
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    link: str | None = None
    """The query's `url`."""
    guests: bool = False
    """Whether an upload link in the query suffices."""


TUS = {"tus-resumable": "1.0.0"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
IN_FORM = b'--b\r\ncontent-disposition: form-data; name="file"; filename="v"\r\n\r\nsome bytes\r\n--b--\r\n'
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
NOT_A_VIDEO = b"%PDF-1.7\n"
"""For conversions, which would wait for a worker."""

PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
CAPTIONS = b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n"

ROUTES: dict[tuple[str, str], Row] = {
    ("GET", "/"): Row(May.OPEN),
    ("HEAD", "/"): Row(May.OPEN),
    ("GET", "/{path}"): Row(May.OPEN),
    ("HEAD", "/{path}"): Row(May.OPEN),
    ("GET", "/watch"): Row(May.OPEN),
    ("GET", "/watch/{name}"): Row(May.OPEN),
    ("GET", "/embed"): Row(May.OPEN),
    ("GET", "/embed/{name}"): Row(May.OPEN),
    ("GET", "/oembed"): Row(May.EMBED, link="http://vod.example/watch/{video_id}"),
    ("GET", "/health"): Row(May.OPEN),
    ("GET", "/healthz"): Row(May.OPEN),
    ("GET", "/readyz"): Row(May.OPEN),
    ("GET", "/schema"): Row(May.OPEN),
    ("GET", "/schema/openapi.json"): Row(May.OPEN),
    ("GET", "/schema/{path}"): Row(May.OPEN),
    ("GET", "/play/{grant}/{path}"): Row(May.OPEN),
    ("HEAD", "/play/{grant}/{path}"): Row(May.OPEN),
    ("POST", "/api/session"): Row(May.OPEN, json={"token": TOKEN}),
    ("DELETE", "/api/session"): Row(May.OPEN),
    ("GET", "/api/oidc"): Row(May.OPEN),
    ("GET", "/api/oidc/sign-in"): Row(May.OPEN),
    ("GET", "/api/oidc/callback"): Row(May.OPEN),
    ("GET", "/api/oidc/sign-out"): Row(May.OPEN),
    ("GET", "/api/session"): Row(May.SIGNED_IN),
    ("DELETE", "/api/sessions"): Row(May.SIGNED_IN),
    ("GET", "/api/videos"): Row(May.SIGNED_IN),
    ("POST", "/api/videos"): Row(May.UPLOAD, content=b"some bytes", guests=True),
    ("POST", "/api/upload"): Row(May.UPLOAD, content=IN_FORM, headers=FORM, guests=True),
    ("POST", "/upload/multipart"): Row(May.UPLOAD, content=IN_FORM, headers=FORM, guests=True),
    ("POST", "/upload/remote"): Row(May.UPLOAD, json={"url": "https://cdn.example/v.mp4"}),
    ("POST", "/download/yt-dlp"): Row(May.UPLOAD, json={"url": "https://site.example/v"}),
    ("POST", "/api/uploads"): Row(May.UPLOAD, headers=TUS | {"upload-length": "10"}, guests=True),
    ("HEAD", "/api/uploads/{upload_id}"): Row(May.OWN, headers=TUS, guests=True),
    ("PATCH", "/api/uploads/{upload_id}"): Row(
        May.OWN,
        content=b"some",
        headers=TUS | {"upload-offset": "0", "content-type": "application/offset+octet-stream"},
        guests=True,
    ),
    ("DELETE", "/api/uploads/{upload_id}"): Row(May.OWN, headers=TUS, guests=True),
    ("GET", "/api/resumptions/{fingerprint}"): Row(May.UPLOAD, guests=True),
    ("PUT", "/api/resumptions/{fingerprint}"): Row(
        May.UPLOAD, json={"upload_url": "/api/uploads/x"}, guests=True
    ),
    ("DELETE", "/api/resumptions/{fingerprint}"): Row(May.UPLOAD, guests=True),
    ("POST", "/api/convert"): Row(May.UPLOAD, content=NOT_A_VIDEO),
    ("POST", "/convert/{name}"): Row(May.UPLOAD, content=NOT_A_VIDEO),
    ("GET", "/api/convert/{video_id}"): Row(May.MANAGE),
    ("GET", "/api/videos/{video_id}"): Row(May.SEE),
    ("PATCH", "/api/videos/{video_id}"): Row(May.MANAGE, json={"title": "Another"}),
    ("DELETE", "/api/videos/{video_id}"): Row(May.MANAGE),
    ("GET", "/api/videos/{video_id}/original"): Row(May.MANAGE),
    ("GET", "/api/videos/{video_id}/status"): Row(May.SEE),
    ("GET", "/api/videos/{video_id}/captions"): Row(May.SEE),
    ("POST", "/api/videos/{video_id}/captions/{language}"): Row(May.MANAGE, content=CAPTIONS),
    ("DELETE", "/api/videos/{video_id}/captions/{language}"): Row(May.MANAGE),
    ("POST", "/api/videos/{video_id}/transcodes"): Row(May.MANAGE),
    ("GET", "/api/jobs"): Row(May.UPLOAD),
    ("GET", "/jobs"): Row(May.UPLOAD),
    ("GET", "/jobs/{video_id}"): Row(May.SEE),
    ("DELETE", "/jobs/{video_id}"): Row(May.MANAGE),
    ("GET", "/api/videos/{video_id}/playback"): Row(May.WATCH),
    ("GET", "/api/videos/{video_id}/events"): Row(May.WATCH),
    ("GET", "/videos/{video_id}"): Row(May.WATCH),
    ("GET", "/videos/{video_id}/download"): Row(May.WATCH),
    ("GET", "/videos/{video_id}/hls/{asset}"): Row(May.WATCH),
    ("GET", "/videos/{video_id}/dash/{asset}"): Row(May.WATCH),
    ("GET", "/videos/{video_id}/media/{asset}"): Row(May.WATCH),
    ("GET", "/videos/{video_id}/poster.jpg"): Row(May.WATCH),
    ("GET", "/hls/{video_id}/{asset}"): Row(May.WATCH),
    ("POST", "/api/images"): Row(May.UPLOAD, content=PNG),
    ("GET", "/api/images"): Row(May.SIGNED_IN),
    ("GET", "/api/images/{image_id}"): Row(May.SEE),
    ("PATCH", "/api/images/{image_id}"): Row(May.MANAGE, json={"title": "Another"}),
    ("DELETE", "/api/images/{image_id}"): Row(May.MANAGE),
    ("GET", "/images/{image_id}"): Row(May.WATCH),
    ("POST", "/api/access-codes"): Row(May.MANAGE, json={"media_items": [{"media_slug": "{video_id}"}]}),
    ("GET", "/api/access-codes"): Row(May.UPLOAD),
    ("DELETE", "/api/access-codes/{code_id}"): Row(May.OWN),
    ("GET", "/api/sessions"): Row(May.SIGNED_IN),
    ("DELETE", "/api/sessions/{session_id}"): Row(May.SIGNED_IN),
    ("GET", "/api/people"): Row(May.ADMINISTER),
    ("POST", "/api/people"): Row(May.ADMINISTER, json={"name": "Anna", "role": "viewer"}),
    ("GET", "/api/people/{person_id}"): Row(May.ADMINISTER),
    ("PATCH", "/api/people/{person_id}"): Row(May.ADMINISTER, json={"name": "Ben"}),
    ("DELETE", "/api/people/{person_id}"): Row(May.ADMINISTER),
    ("POST", "/api/people/{person_id}/token"): Row(May.ADMINISTER),
    ("POST", "/api/upload-links"): Row(May.UPLOAD, json={"title": "For you"}),
    ("GET", "/api/upload-links"): Row(May.UPLOAD),
    ("DELETE", "/api/upload-links/{link_id}"): Row(May.OWN),
    ("GET", "/api/upload-link"): Row(May.USE_A_LINK, guests=True),
    ("GET", "/api/events"): Row(May.ADMINISTER),
    ("GET", "/api/webhooks"): Row(May.ADMINISTER),
    ("POST", "/api/webhooks/test"): Row(May.ADMINISTER),
    ("POST", "/api/inbox/events"): Row(May.ADMINISTER),
}

DENIALS = {
    401: {"unauthorized"},
    403: {"forbidden", "access_code_rejected", "upload_link_rejected"},
    429: {"too_many_attempts"},
}
HIDDEN = {
    "video_not_found",
    "image_not_found",
    "upload_not_found",
    "access_code_not_found",
    "upload_link_not_found",
}


@dataclass
class World:
    """The API with one person of each role. Videos and uploads belong to the one called owner."""

    app: Litestar
    buckets: Buckets
    headers: dict[str, dict[str, str]]
    ids: dict[str, str]

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def video(self, visibility: Visibility, *, convert: bool = False) -> str:
        """Add a video that is published and has its source, or a conversion that nobody has begun."""
        video_id, body = new_id(), b"some bytes"
        video = Description(filename="v.mp4", owner=self.ids["owner"]).video(
            video_id, len(body), datetime.now(UTC)
        )
        await self.buckets.raw.put(keys.upload(video_id), body)
        conversion = Conversion(format="webm", max_seconds=60, keep=True) if convert else None
        await add_video(self.buckets, video, first_job(video, TranscodeOptions(convert=conversion)))
        if not convert:
            await publish(self.buckets, video_id)
        if visibility is not Visibility.PRIVATE:
            await edit_video(self.buckets, video_id, VideoEdit(visibility=visibility))
        return video_id

    async def image(self, visibility: Visibility) -> str:
        image_id, now = new_id(), datetime.now(UTC)
        facts = {"format": ImageFormat.PNG, "width": 1, "height": 1, "size_bytes": len(PNG)}
        image = Image(id=image_id, title="i", owner=self.ids["owner"], created_at=now, **facts)
        await add_image(self.buckets.video, image, PNG, b"thumbnail")
        if visibility is not Visibility.PRIVATE:
            await edit_image(self.buckets.video, image_id, VideoEdit(visibility=visibility))
        return image_id

    async def upload(self) -> str:
        description = Description(owner=self.ids["owner"])
        return (await self.services.resumable.create(10, description)).id

    async def code(
        self, media_id: str, expires_at: datetime | None = None, kind: MediaType = MediaType.VIDEO
    ) -> tuple[str, str]:
        """Return a new access code and its id."""
        item = CodeItem(media_type=kind, media_slug=media_id, id=media_id)
        code = made_up()
        codes = self.services.codes
        made = await codes.make(code, owner=self.ids["owner"], media_items=(item,), expires_at=expires_at)
        return code, made.id

    async def link(self) -> str:
        """Return a new upload link."""
        now = datetime.fromtimestamp(self.services.clock(), UTC)
        link = UploadLink(
            owner=self.ids["owner"],
            title="For you",
            expires_at=now + timedelta(days=1),
            max_uploads=1,
            max_bytes=100,
            created_at=now,
        )
        return await self.services.upload_links.make(link)

    def client(self, who: str) -> httpx.AsyncClient:
        return client_of(self.app, "http://vod.example", self.headers[who])


@pytest.fixture
async def world(settings: ApiSettings, buckets: Buckets, clock: Clock) -> AsyncIterator[World]:
    async with api_process(settings, buckets, clock) as app:
        app.state.services.followed.end()  # or streams would go on
        people = app.state.services.people
        roles = {"admin": Role.ADMIN, "owner": Role.UPLOADER, "uploader": Role.UPLOADER}
        roles |= {"viewer": Role.VIEWER, "revoked": Role.ADMIN}
        ids = {name: (await people.add(name, role)).id for name, role in roles.items()}
        tokens = {name: await people.issue_token(person) for name, person in ids.items()}
        headers = {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}
        # A session: wrong tokens would be too many attempts.
        cookie = await app.state.services.sessions.begin(token_id_of(tokens["revoked"]), ids["revoked"])
        await people.revoke(ids["revoked"])
        headers |= {
            "root": BEARER,
            "revoked": {"cookie": f"{COOKIE}={cookie}"},
            "nobody": {},
            "code": {},
            "expired": {},
            "guest": {},
            "late guest": {},
        }
        yield World(app, buckets, headers, ids)


GUESTS = ("revoked", "nobody", "code", "expired", "guest", "late guest")
WHO = ("root", "admin", "owner", "uploader", "viewer", *GUESTS)


def _denied(row: Row, who: str, visibility: Visibility) -> int | None:
    """Return the status with which this must fail, or None if it must get through."""
    may = row.may
    if row.guests and who in {"guest", "late guest"}:
        if who == "late guest":
            return 403
        return 404 if may is May.OWN else None
    if may is May.OPEN or (may in {May.EMBED, May.WATCH} and visibility is Visibility.PUBLIC):
        return None
    if may is May.EMBED:
        return 404
    if may is May.WATCH and who in {"code", "expired"}:
        return None if who == "code" else 403
    if who in GUESTS:
        return 401
    if may is May.USE_A_LINK:
        return 403
    if who in {"root", "admin"} or may is May.SIGNED_IN:
        return None
    if may is May.ADMINISTER or (who == "viewer" and may in {May.UPLOAD, May.OWN, May.MANAGE}):
        return 403
    if may is May.OWN:
        return None if who == "owner" else 404
    if may in {May.SEE, May.WATCH, May.MANAGE} and who != "owner":
        if visibility is Visibility.PRIVATE:
            return 404
        return 403 if may is May.MANAGE else None
    return None


def _routes(app: Litestar) -> set[tuple[str, str]]:
    return {
        (method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS"}
    }


def test_the_table_has_every_route(app: Litestar) -> None:
    assert set(ROUTES) == _routes(app)


@pytest.mark.parametrize("visibility", Visibility)
@pytest.mark.parametrize("who", WHO)
async def test_everyone_gets_as_far_as_they_may_and_no_farther(
    world: World, who: str, visibility: Visibility
) -> None:
    async with world.client(who) as client:
        for (method, path), row in ROUTES.items():
            about_a_video = "{video_id}" in f"{path} {row.json} {row.link}" or "{grant}" in path
            about_an_image = "{image_id}" in path
            if visibility is not Visibility.PRIVATE and not (about_a_video or about_an_image):
                continue
            video = await world.video(visibility, convert="convert" in path) if about_a_video else ""
            right = Right(RightKind.ADMIN, world.services.admin.fingerprint())
            grant = world.services.grants.issue(video, right)[0] if "{grant}" in path else ""
            image = await world.image(visibility) if about_an_image else ""
            kind = MediaType.IMAGE if image else MediaType.VIDEO
            code, code_id = await world.code(image or video, LONG_AGO if who == "expired" else None, kind)
            query = {"access_code": code} if who in {"code", "expired"} else {}
            query |= {"url": row.link.format(video_id=video)} if row.link else {}
            link = await world.link()
            if who in {"guest", "late guest"}:
                query["upload_link"] = link
            if who == "late guest":
                await world.services.upload_links.withdraw(link_id_of(link))
            body = None if row.json is None else dumps(row.json).replace("{video_id}", video).encode()
            url = path.format(
                video_id=video,
                image_id=image,
                code_id=code_id,
                person_id=(await world.services.people.add("Anna", Role.VIEWER)).id,
                session_id="0" * 32,
                link_id=link_id_of(link),
                upload_id=await world.upload() if "{upload_id}" in path else "",
                fingerprint="0" * 64,
                language="en",
                name="v",
                asset="master.m3u8",
                grant=grant,
                path=keys.MASTER_PLAYLIST,
            )
            before = await _stored(world.buckets)
            answer = await client.request(
                method, url, params=query, content=body or row.content, headers=row.headers
            )
            case = (method, url, who, visibility, answer.status_code, answer.text)
            is_page = answer.headers.get("content-type", "").startswith("text/html")
            is_error = answer.status_code >= 400 and method != "HEAD" and not is_page
            code = answer.json()["code"] if is_error else None
            expected = _denied(row, who, visibility)
            if who == "late guest" and answer.status_code == 429:
                expected = 429  # so many wrong links are too many attempts
            if expected is None:
                assert answer.status_code not in {400, 401, 403, 405, 422, 429, 500}, case
                assert code not in HIDDEN, case
            else:
                assert answer.status_code == expected, case
                assert code in {None, *DENIALS.get(expected, HIDDEN)}, case
                assert await _stored(world.buckets) == before, case


async def _stored(buckets: Buckets) -> dict[str, str]:
    found = [info for store in (buckets.raw, buckets.video) async for info in store.list_all("")]
    return {info.key: info.etag for info in found}
