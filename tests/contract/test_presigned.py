"""What browsers get from real stores: presigned GETs, ranges, stored headers and CORS."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from backend.core.store.interface import ObjectHeaders, PresignedGet
from backend.core.store.s3 import S3Buckets, configure_cors
from tests.contract.conftest import on_servers_that_check_origins, on_servers_that_check_signatures

BODY = b"0123456789"
ORIGIN = "https://videos.example"


async def _signed(buckets: S3Buckets, key: str, how: PresignedGet) -> str:
    await buckets.video.put(key, BODY)
    return buckets.video.presign_get(key, how)


@pytest.mark.parametrize("key", ["k", "a/b c+d/ü~(1).m4s", "per%20cent", "a&b=c"])
async def test_a_presigned_url_reads_the_object_without_credentials(served: S3Buckets, key: str) -> None:
    url = await _signed(served, key, PresignedGet(60))

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url)

    assert (answer.status_code, answer.content) == (200, BODY)


async def test_a_presigned_url_answers_ranges(served: S3Buckets) -> None:
    url = await _signed(served, "k", PresignedGet(60))

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url, headers={"Range": "bytes=2-4"})

    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["Content-Range"] == "bytes 2-4/10"


async def test_a_presigned_url_returns_the_stored_headers(served: S3Buckets) -> None:
    await served.video.put(
        "k", BODY, ObjectHeaders("video/mp4", "max-age=60", 'attachment; filename="a.mp4"')
    )

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(served.video.presign_get("k", PresignedGet(60)))

    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Cache-Control"] == "max-age=60"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a.mp4"'


async def test_a_presigned_url_returns_the_headers_of_a_multipart_upload(served: S3Buckets) -> None:
    upload_id = await served.video.open_upload("k", ObjectHeaders("video/webm", "max-age=60"))
    part = await served.video.put_part("k", upload_id, 1, BODY)
    await served.video.complete_upload("k", upload_id, [part])

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(served.video.presign_get("k", PresignedGet(60)))

    assert answer.headers["Content-Type"] == "video/webm"
    assert answer.headers["Cache-Control"] == "max-age=60"


async def test_a_presigned_url_can_name_the_downloaded_file(served: S3Buckets) -> None:
    disposition = "attachment; filename=\"a b.webm\"; filename*=UTF-8''%C3%BC.webm"
    url = await _signed(served, "k", PresignedGet(60, content_disposition=disposition))

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url)

    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == disposition


@on_servers_that_check_signatures
async def test_an_expired_url_is_refused(served: S3Buckets) -> None:
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    url = await _signed(served, "k", PresignedGet(60, signed_at=an_hour_ago))

    async with httpx.AsyncClient() as browser:
        assert (await browser.get(url)).status_code == 403


async def test_a_urls_lifetime_starts_when_it_was_signed(served: S3Buckets) -> None:
    half_an_hour_ago = datetime.now(UTC) - timedelta(minutes=30)
    url = await _signed(served, "k", PresignedGet(3600, signed_at=half_an_hour_ago))

    async with httpx.AsyncClient() as browser:
        assert (await browser.get(url)).status_code == 200


@on_servers_that_check_signatures
@pytest.mark.parametrize(
    ("old", "new"), [("/k?", "/other?"), ("Expires=120", "Expires=1200"), ("Signature=", "Signature=0")]
)
async def test_a_tampered_url_is_refused(served: S3Buckets, old: str, new: str) -> None:
    await served.video.put("other", b"secret")
    url = await _signed(served, "k", PresignedGet(60))

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url.replace(old, new))

    assert answer.status_code == 403


@on_servers_that_check_signatures
async def test_a_presigned_url_does_not_allow_writing(served: S3Buckets) -> None:
    url = await _signed(served, "k", PresignedGet(60))

    async with httpx.AsyncClient() as browser:
        assert (await browser.put(url, content=b"overwritten")).status_code == 403
    assert (await served.video.get("k")).body == BODY


async def test_pages_from_allowed_origins_may_read_ranges(served: S3Buckets) -> None:
    url = await _signed(served, "k", PresignedGet(60))

    assert await configure_cors(served, [ORIGIN])

    preflight_headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range",
    }
    async with httpx.AsyncClient() as browser:
        preflight = await browser.options(url, headers=preflight_headers)
        answer = await browser.get(url, headers={"Origin": ORIGIN, "Range": "bytes=0-1"})
    assert preflight.status_code in {200, 204}
    assert preflight.headers["Access-Control-Allow-Origin"] in {ORIGIN, "*"}
    assert answer.headers["Access-Control-Allow-Origin"] in {ORIGIN, "*"}
    exposed = answer.headers["Access-Control-Expose-Headers"].lower()
    assert exposed == "*" or "content-range" in exposed


@on_servers_that_check_origins
async def test_pages_from_other_origins_may_not_read(served: S3Buckets) -> None:
    url = await _signed(served, "k", PresignedGet(60))
    await configure_cors(served, [ORIGIN])

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url, headers={"Origin": "https://other.example"})

    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_pages_from_any_origin_may_play_if_no_origins_are_configured(served: S3Buckets) -> None:
    url = await _signed(served, "k", PresignedGet(60))
    await configure_cors(served)

    async with httpx.AsyncClient() as browser:
        answer = await browser.get(url, headers={"Origin": "https://any.example"})

    assert answer.headers["Access-Control-Allow-Origin"] in {"*", "https://any.example"}
