"""Notes on how to go on with a file."""

import httpx
import pytest

from backend.core import keys
from backend.core.store.interface import Buckets

FINGERPRINT = "0a" * 32
URL = f"/api/resumptions/{FINGERPRINT}"
NOTE = {"upload_url": "/api/uploads/x", "parallel_upload_urls": None, "size_bytes": 5}


async def test_a_note_is_found_until_it_is_forgotten(admin: httpx.AsyncClient) -> None:
    assert (await admin.get(URL)).json()["code"] == "resumption_not_found"
    assert (await admin.put(URL, json=NOTE)).status_code == 204
    assert (await admin.get(URL)).json() == NOTE
    pieces = {"upload_url": None, "parallel_upload_urls": ["/a", "/b"], "size_bytes": 9}
    assert (await admin.put(URL, json=pieces)).status_code == 204
    assert (await admin.get(URL)).json() == pieces
    assert (await admin.delete(URL)).status_code == 204
    assert (await admin.get(URL)).status_code == 404


async def test_of_a_note_by_a_newer_version_is_read_what_is_known(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    await buckets.raw.put(keys.resumption(FINGERPRINT), b'{"upload_url": "/a", "mood": "good"}')
    expected = {"upload_url": "/a", "parallel_upload_urls": None, "size_bytes": None}
    assert (await admin.get(URL)).json() == expected


async def test_a_page_of_a_listed_origin_may_note_and_forget(anyone: httpx.AsyncClient) -> None:
    for method in ("PUT", "DELETE"):
        preflight = {"origin": "https://friend.example", "access-control-request-method": method}
        answer = await anyone.options(URL, headers=preflight)
        assert answer.status_code == 204
        assert method in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize("fingerprint", ["0a", "0A" * 32, "z" * 64, "..%2F" + "0" * 60])
async def test_another_fingerprint_is_refused(admin: httpx.AsyncClient, fingerprint: str) -> None:
    assert (await admin.put(f"/api/resumptions/{fingerprint}", json=NOTE)).status_code in (400, 404)


@pytest.mark.parametrize(
    "note", [{"upload_url": "x" * 501}, {"other": 1}, [], {"parallel_upload_urls": ["x"] * 101}]
)
async def test_another_note_is_refused(admin: httpx.AsyncClient, note: object) -> None:
    assert (await admin.put(URL, json=note)).status_code == 400


async def test_too_large_a_note_is_refused(admin: httpx.AsyncClient) -> None:
    answer = await admin.put(URL, json={"parallel_upload_urls": ["x" * 300] * 100})
    assert answer.json()["code"] == "note_too_large"


async def test_strangers_learn_nothing(anyone: httpx.AsyncClient) -> None:
    assert {(await anyone.get(URL)).status_code, (await anyone.put(URL, json=NOTE)).status_code} == {401}
