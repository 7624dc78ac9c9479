"""Clients that send the admin token with every request get media from the API, in ranges too.

wget, ffmpeg and Python's urllib follow a redirect with all of their headers: the store would get the token.
"""

import httpx
import pytest

from backend.core import keys
from backend.core.store.interface import Buckets
from tests.backend.conftest import BEARER, links_of, publish, upload

BODY = bytes(range(100))
RANGES = {
    "bytes=0-": (0, 100),
    "bytes=10-19": (10, 20),
    "bytes=90-1000": (90, 100),
    "bytes=-7": (93, 100),
    "bytes=-1000": (0, 100),
    "BYTES=5-5": (5, 6),
}
IGNORED = ("bytes=-", "bytes=9-3", "bytes=0-1,5-6", "pages=1-2", "bytes=a-b", "bytes=" + "9" * 4000 + "-")


@pytest.fixture
async def film(admin: httpx.AsyncClient, buckets: Buckets) -> str:
    """The link to a WebM of 100 bytes."""
    video = await upload(admin, title="Harbour")
    await publish(buckets, video, also={keys.DOWNLOAD: BODY})
    webm: str = (await links_of(admin, video))["webm"]
    return webm


@pytest.mark.parametrize(("asked", "expected"), RANGES.items())
async def test_a_range_is_streamed(
    admin: httpx.AsyncClient, film: str, asked: str, expected: tuple[int, int]
) -> None:
    begin, end = expected
    answer = await admin.get(film, headers={"range": asked})
    assert (answer.status_code, answer.content) == (206, BODY[begin:end])
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/100"
    assert answer.headers["content-length"] == str(end - begin)


@pytest.mark.parametrize("asked", [None, *IGNORED])
async def test_the_whole_file_is_streamed(admin: httpx.AsyncClient, film: str, asked: str | None) -> None:
    answer = await admin.get(film, headers={} if asked is None else {"range": asked})
    assert (answer.status_code, answer.content) == (200, BODY)
    assert (answer.headers["content-type"], answer.headers["accept-ranges"]) == ("video/webm", "bytes")
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=-0", "bytes=500-600"])
async def test_a_range_beyond_the_end_is_416(admin: httpx.AsyncClient, film: str, asked: str) -> None:
    answer = await admin.get(film, headers={"range": asked})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */100"


async def test_a_download_resumes_only_while_the_file_is_the_same(
    admin: httpx.AsyncClient, film: str
) -> None:
    etag = (await admin.head(film)).headers["etag"]
    rest = {"range": "bytes=60-"}
    same = await admin.get(film, headers={**rest, "if-range": etag})
    other = await admin.get(film, headers={**rest, "if-range": '"other"'})
    assert (same.status_code, same.content) == (206, BODY[60:])
    assert (other.status_code, other.content) == (200, BODY)


async def test_a_download_is_named_after_the_title(admin: httpx.AsyncClient, film: str) -> None:
    answer = await admin.get(film, params={"download": "1"})
    assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["content-disposition"].startswith('attachment; filename="Harbour.webm"')


async def test_others_are_redirected_to_the_store(anyone: httpx.AsyncClient, film: str) -> None:
    for sent in ({}, {"authorization": "Bearer another"}, {"authorization": "Basic dTpw"}):
        assert (await anyone.get(film, headers=sent)).status_code == 307


async def test_the_token_opens_nothing_without_a_grant(anyone: httpx.AsyncClient, film: str) -> None:
    altered = film.replace("/play/", "/play/x")
    assert (await anyone.get(altered, headers=BEARER)).status_code == 403
