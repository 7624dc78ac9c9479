"""Notes that let another browser resume an upload."""

import httpx
import pytest

from backend.core import keys
from backend.core.store.interface import Buckets

FINGERPRINT = "0a" * 32
URL = f"/api/resumptions/{FINGERPRINT}"
NOTE = {"upload_url": "/api/uploads/x", "parallel_upload_urls": None, "size_bytes": 5}


async def test_a_note_is_kept_until_it_is_deleted(admin: httpx.AsyncClient) -> None:
    assert (await admin.get(URL)).json()["code"] == "resumption_not_found"
    assert (await admin.put(URL, json=NOTE)).status_code == 204
    assert (await admin.get(URL)).json() == NOTE
    pieces = {"upload_url": None, "parallel_upload_urls": ["/a", "/b"], "size_bytes": 9}
    assert (await admin.put(URL, json=pieces)).status_code == 204
    assert (await admin.get(URL)).json() == pieces
    assert (await admin.delete(URL)).status_code == 204
    assert (await admin.get(URL)).status_code == 404


async def test_unknown_fields_of_a_newer_version_are_ignored(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    await buckets.raw.put(keys.resumption(FINGERPRINT), b'{"upload_url": "/a", "mood": "good"}')
    expected = {"upload_url": "/a", "parallel_upload_urls": None, "size_bytes": None}
    assert (await admin.get(URL)).json() == expected


async def test_a_page_of_a_listed_origin_may_write_and_delete_notes(anyone: httpx.AsyncClient) -> None:
    for method in ("PUT", "DELETE"):
        preflight = {"origin": "https://friend.example", "access-control-request-method": method}
        answer = await anyone.options(URL, headers=preflight)
        assert answer.status_code == 204
        assert method in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize("fingerprint", ["0a", "0A" * 32, "z" * 64, "..%2F" + "0" * 60])
async def test_a_malformed_fingerprint_is_refused(admin: httpx.AsyncClient, fingerprint: str) -> None:
    assert (await admin.put(f"/api/resumptions/{fingerprint}", json=NOTE)).status_code in (400, 404)


@pytest.mark.parametrize(
    "note", [{"upload_url": "x" * 501}, {"other": 1}, [], {"parallel_upload_urls": ["x"] * 101}]
)
async def test_a_malformed_note_is_refused(admin: httpx.AsyncClient, note: object) -> None:
    assert (await admin.put(URL, json=note)).status_code == 400


async def test_a_note_over_the_limit_is_refused(admin: httpx.AsyncClient) -> None:
    answer = await admin.put(URL, json={"parallel_upload_urls": ["x" * 300] * 100})
    assert answer.json()["code"] == "note_too_large"


async def test_notes_need_a_sign_in(anyone: httpx.AsyncClient) -> None:
    assert {(await anyone.get(URL)).status_code, (await anyone.put(URL, json=NOTE)).status_code} == {401}
