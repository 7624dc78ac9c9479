"""A client that falls silent during a resumable upload gets an answer after which every client resumes."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from backend.core.store.interface import Buckets
from backend.routes import resumable_uploads
from tests.backend.conftest import stored_keys

V = {"tus-resumable": "1.0.0"}
BYTES = {**V, "content-type": "application/offset+octet-stream"}
DATA = b"\x00\x00\x00\x18ftypisom" + bytes(88)


@pytest.fixture(autouse=True)
def _short_idle_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_uploads, "IDLE_SECONDS", 0.05)


async def _falls_silent_midway() -> AsyncIterator[bytes]:
    yield DATA[:60]
    await asyncio.Event().wait()


async def test_a_silent_client_gets_409_and_loses_no_bytes(
    admin: httpx.AsyncClient,
) -> None:
    created = await admin.post("/api/uploads", headers={**V, "upload-length": str(len(DATA))})
    url = created.headers["location"]
    answer = await admin.patch(url, headers={**BYTES, "upload-offset": "0"}, content=_falls_silent_midway())
    assert (answer.status_code, answer.json()["code"]) == (409, "offset_mismatch")
    assert "resume from there" in answer.json()["error"]
    assert (await admin.head(url, headers=V)).headers["upload-offset"] == "60"


async def test_a_client_that_falls_silent_during_creation_is_told_to_start_over(
    admin: httpx.AsyncClient, buckets: Buckets
) -> None:
    headers = {**BYTES, "upload-length": str(len(DATA))}
    answer = await admin.post("/api/uploads", headers=headers, content=_falls_silent_midway())
    assert (answer.status_code, answer.json()["code"]) == (409, "offset_mismatch")
    assert answer.json()["error"] == "No data arrived for 0.05 seconds. Start the upload again."
    assert await stored_keys(buckets) == []
