"""A client of a resumable upload that falls silent is told what every client goes on after."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from backend.routes import tus

V = {"tus-resumable": "1.0.0"}
DATA = b"\x00\x00\x00\x18ftypisom" + bytes(88)


async def test_a_silent_client_is_answered_409_and_nothing_of_what_it_sent_is_lost(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tus, "IDLE_SECONDS", 0.05)
    created = await admin.post("/api/uploads", headers={**V, "upload-length": str(len(DATA))})
    url = created.headers["location"]

    async def sleep_in_the_middle() -> AsyncIterator[bytes]:
        yield DATA[:60]
        await asyncio.Event().wait()

    headers = {**V, "content-type": "application/offset+octet-stream", "upload-offset": "0"}
    answer = await admin.patch(url, headers=headers, content=sleep_in_the_middle())

    assert (answer.status_code, answer.json()["code"]) == (409, "offset_mismatch")
    assert (await admin.head(url, headers=V)).headers["upload-offset"] == "60"
