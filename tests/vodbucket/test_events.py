"""`vodbucket events` against an API in this process."""

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from tests.lab.product import ADMIN_TOKEN, Product
from vodbucket.__main__ import app

HEAD = b"\x00\x00\x00\x18ftypisom"


@pytest.fixture
def _here(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VODBUCKET_URL", product.url)
    monkeypatch.setenv("ADMIN_TOKEN", ADMIN_TOKEN)


async def _run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["events", *arguments])


def _upload(product: Product, title: str) -> str:
    with product.client() as client:
        answer = client.post("/api/videos", params={"title": title}, content=HEAD + bytes(99))
    return str(answer.raise_for_status().json()["id"])


@pytest.mark.usefixtures("_here")
async def test_prints_events_one_a_line(product: Product) -> None:
    videos = [_upload(product, title) for title in ("Harbour", "Quay \x1b[31m")]

    latest = await _run()
    first, last = latest.output.splitlines()[-2:]
    number = int(first.split()[0])
    after = await _run("--after", str(number), "--json")

    assert (latest.exit_code, after.exit_code) == (0, 0)
    assert first.split()[3:] == ["video.created", videos[0], "Harbour"]
    assert last.split()[3:5] == ["video.created", videos[1]]
    assert "\x1b" not in latest.output
    (event,) = map(json.loads, after.output.splitlines())
    assert (event["number"], event["data"]["id"]) == (number + 1, videos[1])


@pytest.mark.usefixtures("_here")
async def test_a_test_needs_a_worker_that_delivers() -> None:
    done = await _run("--test")

    assert done.exit_code == 1
    assert "No worker delivers events." in str(done.exception)
