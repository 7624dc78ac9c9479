"""What uploads and the API's settings say about keeping the uploaded file ends up in video and job."""

import base64
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx
import pytest
from litestar import Litestar

from backend.core import keys
from backend.core.records import Job, Retention
from backend.core.settings import ApiSettings
from backend.core.store.interface import Buckets

DATA = b"\x00\x00\x00\x18ftypisom" + bytes(100)
Send = Callable[[httpx.AsyncClient, str | None], Coroutine[Any, Any, str]]


async def _raw(client: httpx.AsyncClient, wish: str | None) -> str:
    query = {} if wish is None else {"keep_original": wish}
    return str((await client.post("/api/videos", params=query, content=DATA)).json()["id"])


async def _form(client: httpx.AsyncClient, wish: str | None) -> str:
    fields = {} if wish is None else {"keep_original": wish}
    return str((await client.post("/api/upload", data=fields, files={"file": DATA})).json()["id"])


async def _tus(client: httpx.AsyncClient, wish: str | None) -> str:
    headers = {"tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream"}
    if wish is not None:
        headers["upload-metadata"] = f"keep_original {base64.b64encode(wish.encode()).decode()}"
    answer = await client.post(
        "/api/uploads", headers={**headers, "upload-length": str(len(DATA))}, content=DATA
    )
    return str(answer.headers["video-id"])


@pytest.mark.parametrize("send", [_raw, _form, _tus])
@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (None, None),
        ("true", Retention(keep=True)),
        ("on", Retention(keep=True)),
        ("ja", Retention(keep=True)),
        ("false", None),
        ("0", None),
    ],
)
async def test_upload_can_ask_to_keep_its_original(
    admin: httpx.AsyncClient, buckets: Buckets, send: Send, wish: str | None, expected: Retention | None
) -> None:
    video_id = await send(admin, wish)

    job = Job.from_json((await buckets.raw.get(keys.marker(video_id))).body)
    shown = (await admin.get(f"/api/videos/{video_id}")).json()["original"]
    assert job.original == expected
    assert shown == (expected and expected.model_dump())


@pytest.mark.parametrize("send", [_raw, _form, _tus])
@pytest.mark.parametrize(
    ("setting", "wish", "expected"),
    [
        ({"keep_originals": True}, None, Retention(keep=True)),
        ({"keep_originals": True}, "false", Retention(keep=True)),
        ({"keep_originals": False}, None, Retention()),
        ({"delete_source_after": 60}, None, Retention(delete_after_seconds=60)),
        ({"delete_source_after": 60}, "1", Retention(keep=True, delete_after_seconds=60)),
    ],
)
async def test_settings_of_the_api_are_recorded_in_the_job(
    app: Litestar,
    admin: httpx.AsyncClient,
    buckets: Buckets,
    settings: ApiSettings,
    send: Send,
    setting: dict[str, Any],
    wish: str | None,
    expected: Retention,
) -> None:
    app.state.services = replace(app.state.services, settings=settings.model_copy(update=setting))

    video_id = await send(admin, wish)

    assert Job.from_json((await buckets.raw.get(keys.marker(video_id))).body).original == expected
