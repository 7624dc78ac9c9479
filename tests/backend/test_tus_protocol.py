"""The tus protocol 1.0.0, sentence by sentence: each docstring quotes what the protocol requires of a server.

https://tus.io/protocols/resumable-upload (2016-03-25): the core protocol and the extensions we announce.
"""

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import httpx
import pytest

from backend.core import keys
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets
from tests.backend.conftest import MAX_UPLOAD_BYTES, Clock, stored_keys

UPLOADS = "/api/uploads"
V = {"tus-resumable": "1.0.0"}
BYTES = {**V, "content-type": "application/offset+octet-stream"}
DATA = b"\x00\x00\x00\x18ftypisom" + bytes(range(200)) * 5


async def create(client: httpx.AsyncClient, length: int | None = len(DATA), **headers: str) -> str:
    """Create an upload and return its URL."""
    said = {"upload-length": str(length)} if length is not None else {"upload-defer-length": "1"}
    answer = await client.post(UPLOADS, headers={**V, **said, **_dashed(headers)})
    assert answer.status_code == 201, answer.text
    return urljoin(str(answer.url), answer.headers["location"])


async def patch(
    client: httpx.AsyncClient, url: str, offset: int, data: bytes = b"", **headers: str
) -> httpx.Response:
    return await client.patch(
        url, headers={**BYTES, "upload-offset": str(offset), **_dashed(headers)}, content=data
    )


async def offset_of(client: httpx.AsyncClient, url: str) -> int:
    answer = await client.head(url, headers=V)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def digest(algorithm: str, data: bytes) -> str:
    raw = (
        zlib.crc32(data).to_bytes(4, "big") if algorithm == "crc32" else hashlib.new(algorithm, data).digest()
    )
    return f"{algorithm} {base64.b64encode(raw).decode()}"


class TestHeaders:
    @pytest.mark.parametrize("offset", ["-1", "1.5", "one", "", "0x10", "1 2", "٣"])
    async def test_an_offset_is_a_non_negative_integer(self, admin: httpx.AsyncClient, offset: str) -> None:
        """The `Upload-Offset` [...] value MUST be a non-negative integer."""
        url = await create(admin)
        sent = [*BYTES.items(), (b"upload-offset", offset.encode())]
        answer = await admin.patch(url, headers=sent, content=DATA)
        assert answer.status_code == 400
        assert await offset_of(admin, url) == 0

    @pytest.mark.parametrize("length", ["-1", "1.5", "one", "", "1e3"])
    async def test_a_length_is_a_non_negative_integer(self, admin: httpx.AsyncClient, length: str) -> None:
        """The `Upload-Length` [...] value MUST be a non-negative integer."""
        answer = await admin.post(UPLOADS, headers={**V, "upload-length": length})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")

    async def test_every_response_names_the_version(self, admin: httpx.AsyncClient) -> None:
        """The `Tus-Resumable` header MUST be included in every request and response except for `OPTIONS`."""
        url = await create(admin)
        answers = [
            await admin.post(UPLOADS, headers={**V, "upload-length": "5"}),
            await admin.post(UPLOADS, headers=V),
            await admin.head(url, headers=V),
            await admin.head(url),
            await patch(admin, url, 7, DATA),
            await patch(admin, url, 0, DATA),
            await admin.delete(url, headers=V),
            await admin.head(url, headers=V),
            await admin.get(url, headers=V),
        ]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [201, 400, 200, 412, 409, 204, 204, 404, 405]
        assert {answer.headers.get("tus-resumable") for answer in answers} == {"1.0.0"}

    @pytest.mark.parametrize("version", [None, "0.2.2", "1.0.1", "2.0.0"])
    async def test_another_version_is_refused_without_effect(
        self, admin: httpx.AsyncClient, buckets: Buckets, version: str | None
    ) -> None:
        """If the version [...] is not supported by the Server, it MUST respond with the
        `412 Precondition Failed` status and MUST include the `Tus-Version` header into the response.
        In addition, the Server MUST NOT process the request."""
        url = await create(admin)
        other = {"tus-resumable": version} if version else {}
        before = await stored_keys(buckets)
        answers = [
            await admin.post(UPLOADS, headers={**other, "upload-length": "5"}),
            await admin.head(url, headers=other),
            await admin.patch(
                url,
                headers={**other, "upload-offset": "0", "content-type": BYTES["content-type"]},
                content=DATA,
            ),
            await admin.delete(url, headers=other),
        ]
        assert {answer.status_code for answer in answers} == {412}
        assert {answer.headers["tus-version"] for answer in answers} == {"1.0.0"}
        assert await stored_keys(buckets) == before
        assert await offset_of(admin, url) == 0

    @pytest.mark.parametrize("method", ["PATCH", "patch"])
    @pytest.mark.parametrize("actual", ["POST", "GET", "PUT", "DELETE", "HEAD"])
    async def test_the_method_can_be_overridden(
        self, admin: httpx.AsyncClient, actual: str, method: str
    ) -> None:
        """`X-HTTP-Method-Override` [...] MUST be interpreted as the request's method by the Server, if the
        header is presented. The actual method of the request MUST be ignored."""
        url = await create(admin)
        override = {**BYTES, "x-http-method-override": method, "upload-offset": "0"}
        answer = await admin.request(actual, url, headers=override, content=DATA[:9])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, "9")
        assert await offset_of(admin, url) == 9

    @pytest.mark.parametrize("actual", ["POST", "PATCH"])
    async def test_any_method_can_be_overridden_to_head_or_delete(
        self, admin: httpx.AsyncClient, actual: str
    ) -> None:
        """The actual method of the request MUST be ignored."""
        url = await create(admin)
        headed = await admin.request(actual, url, headers={**BYTES, "x-http-method-override": "HEAD"})
        assert (headed.status_code, headed.headers["upload-offset"], headed.content) == (200, "0", b"")
        gone = await admin.request(
            actual, url, headers={**BYTES, "upload-offset": "0", "x-http-method-override": "DELETE"}
        )
        assert gone.status_code == 204
        assert (await admin.head(url, headers=V)).status_code == 404

    @pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "MAKE", "ü"])
    async def test_an_overridden_post_creates_nothing(
        self, admin: httpx.AsyncClient, buckets: Buckets, method: str
    ) -> None:
        """The actual method of the request MUST be ignored."""
        override = {b"x-http-method-override": method.encode("latin-1")}
        sent = [*V.items(), ("upload-length", "5"), *override.items()]
        answer = await admin.post(UPLOADS, headers=sent)
        assert (answer.status_code, answer.headers["tus-resumable"]) == (405, "1.0.0")
        assert await stored_keys(buckets) == []

    async def test_a_get_can_be_overridden_to_a_creation(self, admin: httpx.AsyncClient) -> None:
        """The actual method of the request MUST be ignored."""
        said = {**V, "upload-length": "5", "x-http-method-override": "POST"}
        assert (await admin.get(UPLOADS, headers=said)).status_code == 201

    @pytest.mark.parametrize("method", [None, "POST", "GET", "MAKE"])
    async def test_an_upload_url_accepts_no_other_method(
        self, admin: httpx.AsyncClient, method: str | None
    ) -> None:
        url = await create(admin)
        override = {"x-http-method-override": method} if method else {}
        answer = await admin.post(url, headers={**BYTES, **override}, content=DATA)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


class TestHead:
    async def test_the_offset_is_always_reported(self, admin: httpx.AsyncClient) -> None:
        """The Server MUST always include the `Upload-Offset` header in the response for a `HEAD` request,
        even if the offset is `0`, or the upload is already considered completed."""
        url = await create(admin)
        assert await offset_of(admin, url) == 0
        await patch(admin, url, 0, DATA[:5])
        assert await offset_of(admin, url) == 5
        await patch(admin, url, 5, DATA[5:])
        assert await offset_of(admin, url) == len(DATA)

    async def test_a_known_length_is_reported(self, admin: httpx.AsyncClient) -> None:
        """If the size of the upload is known, the Server MUST include the `Upload-Length` header."""
        url = await create(admin)
        assert (await admin.head(url, headers=V)).headers["upload-length"] == str(len(DATA))

    async def test_an_unknown_upload_has_no_offset(self, admin: httpx.AsyncClient) -> None:
        """If the resource is not found, the Server SHOULD return either the `404 Not Found`, `410 Gone` or
        `403 Forbidden` status without the `Upload-Offset` header."""
        answer = await admin.head(f"{UPLOADS}/01890000-0000-7000-8000-000000000000", headers=V)
        assert answer.status_code == 404
        assert "upload-offset" not in answer.headers

    async def test_responses_are_not_cached(self, admin: httpx.AsyncClient) -> None:
        """The Server MUST prevent the client and/or proxies from caching the response by adding the
        `Cache-Control: no-store` header to the response."""
        url = await create(admin)
        assert (await admin.head(url, headers=V)).headers["cache-control"] == "no-store"


class TestPatch:
    async def test_bytes_are_applied_at_the_offset(self, admin: httpx.AsyncClient, buckets: Buckets) -> None:
        """The Server SHOULD accept `PATCH` requests against any upload URL and apply the bytes contained in
        the message at the given offset."""
        url = await create(admin)
        for start in range(0, len(DATA), 100):
            assert (await patch(admin, url, start, DATA[start : start + 100])).status_code == 204
        video_id = url.rpartition("/")[2]
        assert (await buckets.raw.get(keys.upload(video_id))).body == DATA

    @pytest.mark.parametrize("kind", ["application/octet-stream", "video/mp4", ""])
    async def test_another_content_type_is_refused(self, admin: httpx.AsyncClient, kind: str) -> None:
        """All `PATCH` requests MUST use `Content-Type: application/offset+octet-stream`, otherwise the server
        SHOULD return a `415 Unsupported Media Type` status."""
        url = await create(admin)
        answer = await admin.patch(
            url, headers={**V, "content-type": kind, "upload-offset": "0"}, content=DATA
        )
        assert answer.status_code == 415
        assert await offset_of(admin, url) == 0

    @pytest.mark.parametrize("offset", [0, 4, 6, 10_000])
    async def test_a_wrong_offset_is_a_conflict(self, admin: httpx.AsyncClient, offset: int) -> None:
        """If the offsets do not match, the Server MUST respond with the `409 Conflict` status without
        modifying the upload resource."""
        url = await create(admin)
        await patch(admin, url, 0, DATA[:5])
        answer = await patch(admin, url, offset, b"x")
        assert (answer.status_code, answer.json()["code"]) == (409, "offset_mismatch")
        assert await offset_of(admin, url) == 5

    async def test_an_offset_is_required(self, admin: httpx.AsyncClient) -> None:
        """The `Upload-Offset` header's value MUST be equal to the current offset of the resource."""
        url = await create(admin)
        assert (await admin.patch(url, headers=BYTES, content=DATA)).status_code == 400

    async def test_the_new_offset_is_the_sum(self, admin: httpx.AsyncClient) -> None:
        """The Server MUST acknowledge successful `PATCH` requests with the `204 No Content` status. It MUST
        include the `Upload-Offset` header containing the new offset. The new offset MUST be the sum of the
        offset before the `PATCH` request and the number of bytes received."""
        url = await create(admin)
        for start, end in ((0, 1), (1, 1), (1, 500), (500, len(DATA))):
            answer = await patch(admin, url, start, DATA[start:end])
            assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))

    async def test_an_unknown_upload_is_not_found(self, admin: httpx.AsyncClient) -> None:
        """If the server receives a `PATCH` request against a non-existent resource it SHOULD return a
        `404 Not Found` status."""
        answer = await patch(admin, f"{UPLOADS}/01890000-0000-7000-8000-000000000000", 0, DATA)
        assert (answer.status_code, answer.json()["code"]) == (404, "upload_not_found")

    async def test_a_body_longer_than_announced_is_refused_unread(self, admin: httpx.AsyncClient) -> None:
        url = await create(admin, 5)
        answer = await patch(admin, url, 0, DATA)
        assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
        assert await offset_of(admin, url) == 0

    async def test_repeating_the_last_request_conflicts_and_an_empty_one_names_the_video(
        self, admin: httpx.AsyncClient
    ) -> None:
        url = await create(admin)
        await patch(admin, url, 0, DATA)
        assert (await patch(admin, url, 0, DATA)).status_code == 409
        again = await patch(admin, url, len(DATA))
        assert (again.status_code, again.headers["video-id"]) == (204, url.rpartition("/")[2])


class TestOptions:
    @pytest.mark.parametrize("version", [{}, {"tus-resumable": "0.0.1"}])
    async def test_versions_and_limits_are_announced(
        self, anyone: httpx.AsyncClient, version: dict[str, str]
    ) -> None:
        """A successful response [...] MUST contain the `Tus-Version` header. [...] the Server MUST ignore the
        [Tus-Resumable] header."""
        answer = await anyone.options(UPLOADS, headers=version)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-max-size"] == str(MAX_UPLOAD_BYTES)

    async def test_extensions_are_announced(self, anyone: httpx.AsyncClient) -> None:
        """The `Tus-Extension` response header MUST be a comma-separated list of the extensions supported."""
        answer = await anyone.options(UPLOADS)
        assert set(answer.headers["tus-extension"].split(",")) == {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "expiration",
            "checksum",
            "termination",
            "concatenation",
        }

    async def test_checksum_algorithms_are_announced(self, anyone: httpx.AsyncClient) -> None:
        """The `Tus-Checksum-Algorithm` header MUST be included in the response to an `OPTIONS` request."""
        answer = await anyone.options(UPLOADS)
        assert answer.headers["tus-checksum-algorithm"].split(",") == ["sha1", "sha256", "crc32"]


@pytest.mark.parametrize("cors_origins", [(), ("https://friend.example",), ("*",)])
class TestOptionsOfAPage:
    """Browsers send `Origin` with OPTIONS, even to their own server."""

    ORIGINS = ("http://vod.example", "https://friend.example", "https://other.example")

    @pytest.fixture
    def settings(self, settings: ApiSettings, cors_origins: tuple[str, ...]) -> ApiSettings:
        return settings.model_copy(update={"cors_origins": cors_origins})

    async def test_versions_and_limits_are_announced(self, anyone: httpx.AsyncClient) -> None:
        """A successful response [...] MUST contain the `Tus-Version` header."""
        for origin in self.ORIGINS:
            for url in (UPLOADS, f"{UPLOADS}/01890000-0000-7000-8000-000000000000"):
                answer = await anyone.options(url, headers={"origin": origin})
                assert answer.status_code == 204
                assert answer.headers["tus-version"] == "1.0.0"
                assert answer.headers["tus-max-size"] == str(MAX_UPLOAD_BYTES)
                assert answer.headers["access-control-allow-origin"] == "*"
                assert "Tus-Max-Size" in answer.headers["access-control-expose-headers"]

    async def test_a_preflight_follows_the_list_of_origins(
        self, anyone: httpx.AsyncClient, cors_origins: tuple[str, ...]
    ) -> None:
        asked = {
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "upload-offset,tus-resumable",
        }
        for origin in self.ORIGINS:
            headers = (await anyone.options(f"{UPLOADS}/x", headers={"origin": origin, **asked})).headers
            allowed = (
                headers.get("access-control-allow-origin") in (origin, "*"),
                "PATCH" in headers.get("access-control-allow-methods", ""),
                "upload-offset" in headers.get("access-control-allow-headers", ""),
            )
            assert all(allowed) == ("*" in cors_origins or origin in cors_origins)


class TestCreation:
    async def test_a_creation_is_acknowledged_with_its_url(self, admin: httpx.AsyncClient) -> None:
        """The Server MUST acknowledge a successful upload creation with the `201 Created` status. The Server
        MUST set the `Location` header to the URL of the created resource."""
        answer = await admin.post(UPLOADS, headers={**V, "upload-length": "100"})
        assert (answer.status_code, answer.content) == (201, b"")
        assert await offset_of(admin, urljoin(str(answer.url), answer.headers["location"])) == 0

    @pytest.mark.parametrize(
        "said",
        [
            {},
            {"upload-length": "5", "upload-defer-length": "1"},
            {"upload-defer-length": "0"},
            {"upload-defer-length": "2"},
            {"upload-defer-length": "yes"},
        ],
    )
    async def test_a_length_or_its_deferral_is_required(
        self, admin: httpx.AsyncClient, said: dict[str, str]
    ) -> None:
        """The request MUST include one of the following headers: a) `Upload-Length` [...] b) `Upload-Defer-
        Length: 1` [...]. If the `Upload-Defer-Length` header contains any other value than `1` the server
        should return a `400 Bad Request` status."""
        assert (await admin.post(UPLOADS, headers={**V, **said})).status_code == 400

    async def test_a_deferred_length_is_reported_until_it_is_known(self, admin: httpx.AsyncClient) -> None:
        """As long as the length of the upload is not known, the Server MUST set `Upload-Defer-Length: 1` in
        all responses to `HEAD` requests. [...] If the length of an upload is not deferred, this header
        MUST be omitted."""
        url = await create(admin, None)
        await patch(admin, url, 0, DATA[:9])
        unknown = (await admin.head(url, headers=V)).headers
        assert (unknown["upload-defer-length"], unknown.get("upload-length")) == ("1", None)
        await patch(admin, url, 9, DATA[9:20], upload_length=str(len(DATA)))
        known = (await admin.head(url, headers=V)).headers
        assert (known.get("upload-defer-length"), known["upload-length"]) == (None, str(len(DATA)))

    async def test_a_length_cannot_be_changed(self, admin: httpx.AsyncClient) -> None:
        """Once set the length MUST NOT be changed."""
        url = await create(admin, None)
        await patch(admin, url, 0, DATA[:9], upload_length=str(len(DATA)))
        changed = await patch(admin, url, 9, DATA[9:10], upload_length=str(len(DATA) + 1))
        assert (changed.status_code, changed.json()["code"]) == (400, "length_fixed")
        fixed = await create(admin, 20)
        assert (await patch(admin, fixed, 0, DATA[:9], upload_length="21")).status_code == 400
        assert await offset_of(admin, fixed) == 0

    async def test_a_deferred_upload_finishes_when_its_length_is_reached(
        self, admin: httpx.AsyncClient, buckets: Buckets
    ) -> None:
        """If the length was deferred [...], the Client MUST set the `Upload-Length` header in the next
        `PATCH` request, once the length is known."""
        url = await create(admin, None)
        await patch(admin, url, 0, DATA)
        ended = await patch(admin, url, len(DATA), upload_length=str(len(DATA)))
        video_id = url.rpartition("/")[2]
        assert (ended.status_code, ended.headers["video-id"]) == (204, video_id)
        assert (await buckets.raw.get(keys.upload(video_id))).body == DATA

    async def test_a_length_below_the_offset_is_refused(self, admin: httpx.AsyncClient) -> None:
        url = await create(admin, None)
        await patch(admin, url, 0, DATA[:9])
        assert (await patch(admin, url, 9, upload_length="8")).status_code == 400

    async def test_an_empty_file_is_refused(self, admin: httpx.AsyncClient) -> None:
        """The `Upload-Length` header MAY be set to 0 [...]. Such an upload is immediately complete after its
        creation.

        One deliberate deviation: an empty file cannot be encoded, so the client is told at once.
        """
        answer = await admin.post(UPLOADS, headers={**V, "upload-length": "0"})
        assert (answer.status_code, answer.json()["code"]) == (400, "empty_upload")

    @pytest.mark.parametrize(
        "metadata",
        [
            "filename " + base64.b64encode(b"a film.mp4").decode() + ",is_confidential",
            "empty,title " + base64.b64encode("Ünï — 映画".encode()).decode(),
        ],
    )
    async def test_metadata_is_returned_unchanged(self, admin: httpx.AsyncClient, metadata: str) -> None:
        """If an upload contains additional metadata, responses to `HEAD` requests MUST include the
        `Upload-Metadata` header and its value as specified by the Client during the creation."""
        url = await create(admin, upload_metadata=metadata)
        assert (await admin.head(url, headers=V)).headers["upload-metadata"] == metadata

    @pytest.mark.parametrize("metadata", ["filename !!!", "a YQ==,a Yg==", "filename YQ", "x " + "A" * 9000])
    async def test_malformed_metadata_is_refused(self, admin: httpx.AsyncClient, metadata: str) -> None:
        """The key and value MUST be separated by a space. [...] the value MUST be Base64 encoded. All keys
        MUST be unique."""
        answer = await admin.post(UPLOADS, headers={**V, "upload-length": "5", "upload-metadata": metadata})
        assert answer.status_code == 400

    async def test_metadata_names_the_video(self, admin: httpx.AsyncClient) -> None:
        pairs = {"filename": "ferien.mov", "filetype": "video/quicktime", "title": "Ferien, Teil 1"}
        metadata = ",".join(
            f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items()
        )
        url = await create(admin, upload_metadata=metadata)
        await patch(admin, url, 0, DATA)
        video = (await admin.get(f"/api/videos/{url.rpartition('/')[2]}")).json()
        assert (video["filename"], video["title"]) == ("ferien.mov", "Ferien, Teil 1")
        assert (video["content_type"], video["size_bytes"]) == ("video/quicktime", len(DATA))

    @pytest.mark.parametrize("length", [MAX_UPLOAD_BYTES + 1, 10**18])
    async def test_a_length_over_the_maximum_is_refused(self, admin: httpx.AsyncClient, length: int) -> None:
        """If the length of the upload exceeds the maximum, [...] the Server MUST respond with the
        `413 Request Entity Too Large` status."""
        answer = await admin.post(UPLOADS, headers={**V, "upload-length": str(length)})
        assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")

    async def test_a_deferred_length_cannot_exceed_the_maximum(self, admin: httpx.AsyncClient) -> None:
        url = await create(admin, None)
        answer = await patch(admin, url, 0, b"x", upload_length=str(MAX_UPLOAD_BYTES + 1))
        assert answer.status_code == 413
        assert (await patch(admin, url, 0, bytes(MAX_UPLOAD_BYTES + 1))).status_code == 413


class TestCreationWithUpload:
    @pytest.mark.parametrize("size", [1, 500, len(DATA)])
    async def test_a_creation_can_include_the_first_bytes(self, admin: httpx.AsyncClient, size: int) -> None:
        """The Server [...] MUST include the `Upload-Offset` header in the response and MUST set its value to
        the offset of the upload after applying the accepted bytes."""
        answer = await admin.post(
            UPLOADS, headers={**BYTES, "upload-length": str(len(DATA))}, content=DATA[:size]
        )
        assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(size))
        url = urljoin(str(answer.url), answer.headers["location"])
        assert await offset_of(admin, url) == size
        assert ("video-id" in answer.headers) == (size == len(DATA))

    async def test_the_first_bytes_need_their_content_type(self, admin: httpx.AsyncClient) -> None:
        """The Client MUST include the `Content-Type: application/offset+octet-stream` header."""
        answer = await admin.post(
            UPLOADS, headers={**V, "upload-length": "5", "content-type": "text/plain"}, content=b"hello"
        )
        assert answer.status_code == 415


class TestExpiration:
    async def test_the_expiry_is_announced(self, admin: httpx.AsyncClient, clock: Clock) -> None:
        """This header MUST be included in every `PATCH` response if the upload is going to expire. If the
        expiration is known at the creation, the `Upload-Expires` header MUST be included in the response
        to the initial `POST` request. The value of the `Upload-Expires` header MUST be in RFC 9110
        datetime format."""
        created = await admin.post(UPLOADS, headers={**V, "upload-length": "100"})
        url = urljoin(str(created.url), created.headers["location"])
        patched = await patch(admin, url, 0, DATA[:5])
        headed = await admin.head(url, headers=V)
        told = {answer.headers["upload-expires"] for answer in (created, patched, headed)}
        assert len(told) == 1
        left = parsedate_to_datetime(told.pop()).timestamp() - clock.unix
        assert left == timedelta(days=7).total_seconds()

    async def test_refusals_announce_the_expiry_too(self, admin: httpx.AsyncClient) -> None:
        """This header MUST be included in every `PATCH` response if the upload is going to expire."""
        url = await create(admin)
        told = (await admin.head(url, headers=V)).headers["upload-expires"]
        answers = [
            await patch(admin, url, 5, DATA),
            await patch(admin, url, 0, DATA, upload_checksum=digest("sha1", b"other")),
            await patch(admin, url, 0, DATA, content_type="video/mp4"),
            await patch(admin, url, 0, b"%PDF-1.7" + bytes(900)),
            await self._refused_while_another_sends(admin, url),
        ]
        assert [answer.status_code for answer in answers] == [409, 460, 415, 415, 423]
        assert {answer.headers.get("upload-expires") for answer in answers} == {told}

    async def _refused_while_another_sends(self, admin: httpx.AsyncClient, url: str) -> httpx.Response:
        sending, answered = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield DATA[:100]
            sending.set()
            for at in range(100, len(DATA) - 1):
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await answered.wait()
                        return
                yield DATA[at : at + 1]

        headers = {**BYTES, "upload-offset": "0"}
        other = asyncio.create_task(admin.patch(url, headers=headers, content=slowly()))
        await sending.wait()
        refused = await patch(admin, url, 0, DATA)
        answered.set()
        assert (await other).status_code == 204
        return refused

    async def test_refusals_by_a_finished_upload_announce_no_expiry(self, admin: httpx.AsyncClient) -> None:
        url = await create(admin)
        await patch(admin, url, 0, DATA)
        answer = await patch(admin, url, 5, DATA)
        assert (answer.status_code, answer.headers.get("upload-expires")) == (409, None)

    async def test_an_expired_upload_is_gone(self, admin: httpx.AsyncClient, clock: Clock) -> None:
        """If a Client does attempt to resume an upload which has since been removed by the Server, the Server
        SHOULD respond with the `404 Not Found` or `410 Gone` status."""
        url = await create(admin)
        clock.unix += timedelta(days=7).total_seconds()
        assert (await admin.head(url, headers=V)).status_code == 410
        assert (await patch(admin, url, 0, DATA)).json()["code"] == "upload_expired"
        assert (await admin.delete(url, headers=V)).status_code == 204

    async def test_a_finished_upload_does_not_expire(self, admin: httpx.AsyncClient, clock: Clock) -> None:
        url = await create(admin)
        await patch(admin, url, 0, DATA)
        clock.unix += timedelta(days=8).total_seconds()
        answer = await admin.head(url, headers=V)
        assert (answer.status_code, answer.headers.get("upload-expires")) == (200, None)


class TestChecksum:
    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "crc32"])
    async def test_a_matching_checksum_is_accepted(self, admin: httpx.AsyncClient, algorithm: str) -> None:
        """The Server MUST support at least the SHA1 checksum algorithm identified by `sha1`. [...]
        `204 No Content` if the checksums match and the processing of the data succeeded."""
        url = await create(admin)
        for start, end in ((0, 10), (10, len(DATA))):
            data = DATA[start:end]
            answer = await patch(admin, url, start, data, upload_checksum=digest(algorithm, data))
            assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "crc32"])
    async def test_a_mismatch_discards_the_chunk(self, admin: httpx.AsyncClient, algorithm: str) -> None:
        """`460 Checksum Mismatch` if the checksums mismatch [...] the uploaded chunk MUST be discarded, and
        the upload and its offset MUST NOT be updated."""
        url = await create(admin)
        await patch(admin, url, 0, DATA[:10])
        wrong = await patch(admin, url, 10, DATA[10:], upload_checksum=digest(algorithm, b"other"))
        assert (wrong.status_code, wrong.json()["code"]) == (460, "checksum_mismatch")
        assert await offset_of(admin, url) == 10
        assert (await patch(admin, url, 10, DATA[10:])).status_code == 204

    @pytest.mark.parametrize("checksum", [digest("md5", DATA), digest("sha1", DATA).replace("sha", "SHA")])
    async def test_an_unknown_algorithm_discards_the_chunk(
        self, admin: httpx.AsyncClient, checksum: str
    ) -> None:
        """`400 Bad Request` if the checksum algorithm is not supported by the server [...] the uploaded chunk
        MUST be discarded, and the upload and its offset MUST NOT be updated."""
        url = await create(admin)
        answer = await patch(admin, url, 0, DATA, upload_checksum=checksum)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert await offset_of(admin, url) == 0

    @pytest.mark.parametrize(("checksum", "status"), [("sha1 !", 400), ("sha1", 460), ("sha1 AAAA", 460)])
    async def test_a_malformed_digest_never_matches(
        self, admin: httpx.AsyncClient, checksum: str, status: int
    ) -> None:
        """The header MUST consist of the name of the used checksum algorithm and the Base64 encoded checksum
        separated by a space."""
        url = await create(admin)
        answer = await patch(admin, url, 0, DATA, upload_checksum=checksum)
        assert answer.status_code == status
        assert await offset_of(admin, url) == 0

    async def test_algorithm_names_are_lower_case(self, anyone: httpx.AsyncClient) -> None:
        """The names of the checksum algorithms MUST only consist of ASCII characters with the modification
        that uppercase characters are excluded."""
        names = (await anyone.options(UPLOADS)).headers["tus-checksum-algorithm"]
        assert names.isascii()
        assert names == names.lower()


class TestTermination:
    @pytest.mark.parametrize("sent", [0, 10])
    async def test_a_terminated_upload_leaves_nothing_behind(
        self, admin: httpx.AsyncClient, buckets: Buckets, sent: int
    ) -> None:
        """When receiving a `DELETE` request for an existing upload the Server SHOULD free associated
        resources and MUST respond with the `204 No Content` status confirming that the upload was
        terminated. For all future requests to this URL, the Server SHOULD respond with the `404 Not Found`
        or `410 Gone` status."""
        url = await create(admin)
        if sent:
            await patch(admin, url, 0, DATA[:sent])
        assert (await admin.delete(url, headers=V)).status_code == 204
        assert (await admin.head(url, headers=V)).status_code == 404
        assert (await patch(admin, url, sent, DATA[sent:])).status_code == 404
        assert (await admin.delete(url, headers=V)).status_code == 404
        assert await stored_keys(buckets) == []

    async def test_a_finished_uploads_video_survives_termination(self, admin: httpx.AsyncClient) -> None:
        url = await create(admin)
        await patch(admin, url, 0, DATA)
        assert (await admin.delete(url, headers=V)).status_code == 204
        assert (await admin.get(f"/api/videos/{url.rpartition('/')[2]}")).status_code == 200


class TestConcatenation:
    async def _partials(self, admin: httpx.AsyncClient, *pieces: bytes) -> list[str]:
        urls = []
        for piece in pieces:
            url = await create(admin, len(piece), upload_concat="partial", upload_metadata="secret YQ==")
            if piece:
                assert (await patch(admin, url, 0, piece)).status_code == 204
            urls.append(url)
        return urls

    async def _final(self, admin: httpx.AsyncClient, urls: list[str], **headers: str) -> httpx.Response:
        concat = {"upload-concat": f"final;{' '.join(urls)}"}
        return await admin.post(UPLOADS, headers={**V, **concat, **_dashed(headers)})

    @pytest.mark.parametrize("relative", [False, True])
    async def test_partial_uploads_are_concatenated_in_order(
        self, admin: httpx.AsyncClient, buckets: Buckets, relative: bool
    ) -> None:
        """The partial uploads MUST be concatenated as per the order specified in the list. [...] The length
        of the final upload MUST be the sum of the length of all partial uploads. [...] URLs MAY be
        absolute or relative."""
        third, first, second = await self._partials(admin, DATA[700:], DATA[:300], DATA[300:700])
        urls = [first, second, third]
        answer = await self._final(admin, [httpx.URL(url).path for url in urls] if relative else urls)
        assert answer.status_code == 201, answer.text
        video_id = answer.headers["video-id"]
        assert (await buckets.raw.get(keys.upload(video_id))).body == DATA
        headed = await admin.head(urljoin(str(answer.url), answer.headers["location"]), headers=V)
        assert headed.headers["upload-length"] == headed.headers["upload-offset"] == str(len(DATA))

    async def test_the_concat_header_is_returned(self, admin: httpx.AsyncClient) -> None:
        """Response to `HEAD` request against partial or final upload MUST include the `Upload-Concat` header
        and its value as received in the upload creation request. [...] a partial upload MUST contain the
        `Upload-Offset` header."""
        urls = await self._partials(admin, DATA[:300], DATA[300:])
        partial = (await admin.head(urls[0], headers=V)).headers
        assert (partial["upload-concat"], partial["upload-offset"]) == ("partial", "300")
        answer = await self._final(admin, urls)
        final = (await admin.head(answer.headers["location"], headers=V)).headers
        assert final["upload-concat"] == f"final;{' '.join(urls)}"

    async def test_partial_uploads_are_not_videos(self, admin: httpx.AsyncClient) -> None:
        """The Server SHOULD NOT process these partial uploads until they are concatenated."""
        await self._partials(admin, DATA)
        assert (await admin.get("/api/videos")).json()["videos"] == []

    async def test_a_final_upload_has_no_length_of_its_own(self, admin: httpx.AsyncClient) -> None:
        """The Client MUST NOT include the `Upload-Length` header in the final upload creation."""
        urls = await self._partials(admin, DATA)
        assert (await self._final(admin, urls, upload_length=str(len(DATA)))).status_code == 400

    async def test_a_final_upload_cannot_be_appended_to(
        self, admin: httpx.AsyncClient, buckets: Buckets
    ) -> None:
        """The Server MUST respond with the `403 Forbidden` status to `PATCH` requests against a final upload
        URL and MUST NOT modify the final or its partial uploads."""
        urls = await self._partials(admin, DATA[:300], DATA[300:])
        final = (await self._final(admin, urls)).headers["location"]
        before = await stored_keys(buckets)
        answer = await patch(admin, final, len(DATA), b"more")
        assert (answer.status_code, answer.json()["code"]) == (403, "final_upload")
        assert await stored_keys(buckets) == before

    async def test_metadata_of_partial_uploads_is_not_transferred(self, admin: httpx.AsyncClient) -> None:
        """When creating a new final upload the partial uploads' metadata SHALL NOT be transferred to the new
        final upload."""
        urls = await self._partials(admin, DATA)
        final = await self._final(
            admin, urls, upload_metadata="filename " + base64.b64encode(b"f.mp4").decode()
        )
        headers = (await admin.head(final.headers["location"], headers=V)).headers
        assert headers["upload-metadata"] == "filename Zi5tcDQ="

    async def test_a_repeated_concatenation_returns_the_same_upload(self, admin: httpx.AsyncClient) -> None:
        urls = await self._partials(admin, DATA[:300], DATA[300:])
        first, second = await self._final(admin, urls), await self._final(admin, urls)
        assert (second.status_code, second.headers["location"]) == (201, first.headers["location"])
        assert len((await admin.get("/api/videos")).json()["videos"]) == 1
        assert await offset_of(admin, urls[0]) == 300

    @pytest.mark.parametrize(
        ("concat", "sentence"),
        [
            ("final;", "Upload-Concat must be"),
            ("final", "Upload-Concat must be"),
            ("partial;", "Upload-Concat must be"),
            ("whole", "Upload-Concat must be"),
            ("final;http://x/y", "http://x/y is not the URL of an upload on this server."),
            ("final;http://[", "http://[ is not the URL of an upload on this server."),
            (f"final;{UPLOADS}/abcd", f"{UPLOADS}/abcd is not the URL of an upload on this server."),
        ],
    )
    async def test_a_malformed_concat_header_is_refused(
        self, admin: httpx.AsyncClient, concat: str, sentence: str
    ) -> None:
        """The value MUST be `final` followed by a semicolon and a space-separated list of the partial upload
        URLs."""
        answer = await admin.post(UPLOADS, headers={**V, "upload-concat": concat})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert answer.json()["error"].startswith(sentence)

    async def test_unfinished_and_whole_uploads_cannot_be_concatenated(
        self, admin: httpx.AsyncClient
    ) -> None:
        """`concatenation-unfinished` is not announced."""
        (done,) = await self._partials(admin, DATA[:300])
        unfinished = await create(admin, 9, upload_concat="partial")
        whole = await create(admin, 9)
        for other in (unfinished, whole):
            answer = await self._final(admin, [done, other])
            assert (answer.status_code, answer.json()["code"]) == (400, "partial_unfinished")
        missing = await self._final(admin, [done, f"{UPLOADS}/01890000-0000-7000-8000-000000000000"])
        assert missing.status_code == 404


async def test_every_method_needs_a_sign_in(anyone: httpx.AsyncClient) -> None:
    url = f"{UPLOADS}/01890000-0000-7000-8000-000000000000"
    answers = [
        await anyone.post(UPLOADS, headers={**V, "upload-length": "5"}),
        await anyone.head(url, headers=V),
        await patch(anyone, url, 0, DATA),
        await anyone.delete(url, headers=V),
    ]
    assert {answer.status_code for answer in answers} == {401}


@pytest.mark.parametrize("upload_id", ["abcd", "..%2fqueue", "01890000-0000-4000-8000-000000000000"])
async def test_a_malformed_upload_id_is_not_found(admin: httpx.AsyncClient, upload_id: str) -> None:
    url = f"{UPLOADS}/{upload_id}"
    answers = [
        await admin.head(url, headers=V),
        await patch(admin, url, 0, DATA),
        await admin.delete(url, headers=V),
    ]
    assert {answer.status_code for answer in answers} == {404}


@pytest.mark.parametrize("head", [b"%PDF-1.7\n", b"PK\x03\x04" + bytes(60), b"#EXTM3U\n#EXT-X-VERSION:3\n"])
async def test_obvious_non_media_is_refused_by_its_first_bytes(admin: httpx.AsyncClient, head: bytes) -> None:
    url = await create(admin, 100_000)
    answer = await patch(admin, url, 0, head + bytes(50_000))
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_type")
    assert await offset_of(admin, url) == 0
