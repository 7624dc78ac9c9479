"""`vodbucket events` against an API in this process."""

import asyncio
import json
import signal
import subprocess
import sys

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
async def test_follow_prints_new_events_until_interrupted(product: Product) -> None:
    following = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vodbucket", "events", "--follow", "--after", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert following.stdout is not None
    for title in ("Lighthouse", "Breakwater"):  # the second one while it waits
        video = await asyncio.to_thread(_upload, product, title)
        while title not in (line := (await following.stdout.readline()).decode()):
            assert line
        assert line.split()[3:] == ["video.created", video, title]
    following.send_signal(signal.SIGINT)
    _, said = await following.communicate()

    assert (following.returncode, said) == (130, b"")


def test_an_early_interrupt_ends_without_a_traceback() -> None:
    code = """
import sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from vodbucket.start import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


@pytest.mark.usefixtures("_here")
async def test_a_test_needs_a_worker_that_delivers() -> None:
    done = await _run("--test")

    assert done.exit_code == 1
    assert "No worker delivers events." in str(done.exception)
