"""The commands for videos (`vodbucket upload`, `ingest` and others) as processes that talk to an API."""

import asyncio
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from backend.core import keys
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.records import Stage, Status, StatusError
from backend.core.store.s3 import open_buckets
from backend.routes.resumable_uploads import IDLE_SECONDS
from tests.backend.conftest import publish
from tests.lab.checker import store_settings
from tests.lab.product import ADMIN_TOKEN, REPOSITORY, Product, stop
from tests.lab.relay import Relay
from tests.vodbucket.conftest import COMMAND_SECONDS, POLL_SECONDS, Installation, during
from vodbucket.__main__ import app
from vodbucket.client.local_file import inspect_file

MIB = 1024 * 1024
HEAD = b"\x00\x00\x00\x18ftypisom"


@pytest.fixture
def here(product: Product, tmp_path: Path) -> Installation:
    """A machine with the server's address and token, whose browser records the pages it opens."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {shlex.quote(str(tmp_path / "shown"))}\n')
    browser.chmod(0o755)
    return Installation(
        {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "BROWSER": f"{browser} %s",
            "VODBUCKET_URL": product.url,
            "ADMIN_TOKEN": ADMIN_TOKEN,
        }
    )


def _film(path: Path, size_bytes: int = 3000) -> Path:
    path.write_bytes(HEAD + random.randbytes(size_bytes))
    return path


def _id_of(link: str) -> str:
    return link.strip().rpartition("/watch/")[2]


async def test_upload_prints_only_links_and_continues_after_a_bad_file(
    here: Installation, product: Product, tmp_path: Path
) -> None:
    empty, missing, paper = tmp_path / "empty.mp4", tmp_path / "missing.mp4", tmp_path / "paper.mp4"
    empty.touch()
    paper.write_bytes(b"%PDF-1.7\n" + bytes(9000))
    films = [_film(tmp_path / f"{name}.mp4") for name in ("first", "second")]

    names = [str(path) for path in (missing, empty, films[0], tmp_path, paper, films[1])]
    done = await here.vodbucket("upload", *names)

    assert done.status == 1
    assert [line.startswith(f"{product.url}/watch/") for line in done.out.splitlines()] == [True, True]
    assert done.err.splitlines() == [
        f"vodbucket: {missing}: No such file.",
        f"vodbucket: {empty}: The file is empty.",
        f"vodbucket: {tmp_path}: Not a regular file.",
        f"vodbucket: {paper}: This isn't a video or audio file; it looks like a PDF document.",
    ]
    async with open_buckets(store_settings(product.environment)) as buckets:
        for film, link in zip(films, done.out.splitlines(), strict=True):
            assert (await buckets.raw.get(keys.upload(_id_of(link)))).body == film.read_bytes()


def test_list_status_and_delete(here: Installation, tmp_path: Path) -> None:
    film = _film(tmp_path / "film.mp4")
    video = _id_of(_command(here, "upload", str(film), "--title", "Harbour [6]").stdout)

    listed = _command(here, "list", "--limit", "1")
    as_json = _command(here, "list", "--limit", "1", "--json")
    shown_status = _command(here, "status", video)
    kept = _command(here, "delete", video, answer="n")
    deleted = _command(here, "delete", video, "--yes")
    gone = _command(here, "status", video)

    titled, sized = listed.stdout.splitlines()[-3:-1]
    assert titled.split()[2:] == ["queued", "Harbour", "[6]"]
    assert sized.split() == ["3.0", "kB", video]
    assert [one["id"] for one in json.loads(as_json.stdout)] == [video]
    assert shown_status.stdout.splitlines() == ["title      Harbour [6]", "state      queued"]
    assert kept.exit_code == 1
    assert "Delete “Harbour [6]” permanently?" in kept.stderr
    assert (deleted.exit_code, deleted.stdout) == (0, f"deleted: {video}\n")
    assert "There is no such video." in str(gone.exception)


async def test_download_saves_the_webm_or_the_mp4(
    here: Installation, product: Product, tmp_path: Path
) -> None:
    film, folder = _film(tmp_path / "film.mp4"), tmp_path / "missing" / "a.webm"
    video = _id_of((await here.vodbucket("upload", str(film))).out)
    early = await here.vodbucket("download", video)
    async with open_buckets(store_settings(product.environment)) as buckets:
        await publish(buckets, video, also={keys.DOWNLOAD_MP4: b"an mp4"})

    mp4 = await here.vodbucket("download", video, "--format", "mp4", "--output", str(tmp_path / "a.mp4"))
    unwritable = await here.vodbucket("download", video, "--output", str(folder))

    assert (mp4.status, mp4.out) == (0, f"{tmp_path / 'a.mp4'}\n")
    assert (tmp_path / "a.mp4").read_bytes() == b"an mp4"
    assert early.status != 0
    assert (unwritable.status, unwritable.out) == (1, "")
    assert f"{folder}.part" in unwritable.err
    assert not [*tmp_path.glob("*.part")]


def test_invalid_utf8_in_names_is_replaced(here: Installation, tmp_path: Path) -> None:
    film = _film(tmp_path / os.fsdecode(b"caf\xe9.mp4"))

    untitled = _command(here, "upload", str(film))
    titled = _command(here, "upload", str(film), "--title", os.fsdecode(b"\xe9t\xe9"))
    missing = _command(here, "upload", os.fsdecode(b"\xff.mp4"))

    assert (untitled.exit_code, titled.exit_code) == (0, 0)
    assert missing.stderr == "vodbucket: \\udcff.mp4: No such file.\n"
    listed = json.loads(_command(here, "list", "--json", "--limit", "2").stdout)
    assert [(one["title"], one["filename"]) for one in listed] == [("?t?", "caf?.mp4"), ("caf?", "caf?.mp4")]


def _command(here: Installation, *arguments: str, answer: str | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, arguments, input=answer, env=here.environment)


@pytest.mark.heavy
async def test_watch_opens_the_page_and_follows_the_encoding(
    here: Installation, product: Product, tmp_path: Path
) -> None:
    film, shown = _film(tmp_path / "film.mp4"), tmp_path / "shown"
    why = StatusError(code="unsupported_media", message="This is not a video.")
    async with open_buckets(store_settings(product.environment)) as buckets:
        queue = JobQueue(buckets, owner="host-7", lease_seconds=60)
        while (earlier := await queue.claim(await queue.poll())) is not None:
            await queue.bury(earlier, why)
        watching = asyncio.create_task(here.vodbucket("upload", str(film), "--watch"))
        claim = await during(watching, _claim_of(queue))
        job = claim.lease.job
        status = Status.queued(job.id, datetime.now(UTC), job.request)
        playable = status.at_stage(Stage.TRANSCODING, datetime.now(UTC), playable=True)
        await buckets.video.put(keys.status(job.id), playable.to_json())
        await during(watching, _existence_of(shown))
        await queue.bury(claim, why)

    done = await watching

    assert done.status == 1
    assert shown.read_text() == done.out == f"{product.url}/watch/{job.id}\n"
    assert done.err == "film: This is not a video.\n"
    ended = await asyncio.to_thread(_command, here, "status", job.id, "--follow", "--json")
    assert (ended.exit_code, json.loads(ended.stdout)["error"]["code"]) == (1, "unsupported_media")
    opened = await here.vodbucket("open", job.id)
    assert shown.read_text() == opened.out * 2


async def _claim_of(queue: JobQueue) -> Claim:
    """Wait for a job and claim it."""
    while True:
        if (claim := await queue.claim(await queue.poll())) is not None:
            return claim
        await asyncio.sleep(POLL_SECONDS)


async def _existence_of(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(POLL_SECONDS)


async def test_errors_that_stop_all_uploads_have_their_own_exit_codes(
    here: Installation, tmp_path: Path
) -> None:
    film = _film(tmp_path / "film.mp4")
    command = ("upload", str(film), "--patience", "0")

    unset, wrong, nowhere = await asyncio.gather(
        here.vodbucket(*command, ADMIN_TOKEN=""),
        here.vodbucket(*command, ADMIN_TOKEN="another-token-0123456789"),
        here.vodbucket(*command, VODBUCKET_URL="http://127.0.0.1:9"),
    )

    assert (unset.status, unset.err) == (2, "vodbucket: ADMIN_TOKEN: is not set\n")
    assert (wrong.status, wrong.err) == (2, "vodbucket: The server does not accept this ADMIN_TOKEN.\n")
    assert (nowhere.status, nowhere.out) == (3, "")
    assert nowhere.err == (
        f"vodbucket: {film}: Connection to http://127.0.0.1:9 failed: Connection refused. "
        "Is it running there? VODBUCKET_URL selects another server. "
        "Run the same command again to resume.\n"
    )


def test_ingest_prints_the_link_of_a_video_that_is_to_be_fetched(here: Installation) -> None:
    added = _command(here, "ingest", "https://films.example/a.mp4?key=1", "--title", "Harbour")
    video = _id_of(added.stdout)
    shown = _command(here, "status", video)
    refused = _command(here, "ingest", "http://127.0.0.1/a.mp4")

    assert added.stdout == f"{here.environment['VODBUCKET_URL']}/watch/{video}\n"
    assert shown.stdout.splitlines() == ["title      Harbour", "state      queued"]
    assert "Only addresses on the public internet" in str(refused.exception)


async def test_interrupted_ingest_says_that_the_server_works_on(here: Installation) -> None:
    following = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vodbucket", "ingest", "https://films.example/a.mp4", "--follow"),
        env=here.environment,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert following.stdout is not None
    async with asyncio.timeout(COMMAND_SECONDS):
        video = _id_of((await following.stdout.readline()).decode())
        following.send_signal(signal.SIGINT)
        _, said = await following.communicate()

    assert following.returncode == 130
    assert said.decode() == (
        f"vodbucket: The server is still working on it. `vodbucket cancel {video}` stops that.\n"
    )
    shown = await here.vodbucket("status", video)
    assert shown.out.endswith("state      queued\n")


async def test_interrupted_upload_says_how_to_resume(here: Installation, tmp_path: Path) -> None:
    film = _film(tmp_path / "film.mp4")
    uploading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vodbucket", "upload", str(film)),
        env={**here.environment, "VODBUCKET_URL": "http://127.0.0.1:9"},
        cwd=REPOSITORY,
        stderr=asyncio.subprocess.PIPE,
        # Tests that run in the background ignore SIGINT, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert uploading.stderr is not None
    async with asyncio.timeout(COMMAND_SECONDS):
        message = (await uploading.stderr.readline()).decode()
        uploading.send_signal(signal.SIGINT)
        rest = (await uploading.stderr.read()).decode()

    assert message.startswith("Connection to http://127.0.0.1:9 failed: Connection refused. ")
    assert "VODBUCKET_URL selects another server. Retrying in " in message
    assert (await uploading.wait(), rest) == (
        130,
        "vodbucket: Interrupted. Run the same command again to resume.\n",
    )


@pytest.mark.heavy
def test_upload_resumes_after_the_machine_slept(here: Installation, product: Product, tmp_path: Path) -> None:
    film = inspect_file(_film(tmp_path / "film.mp4", 24 * MIB))
    with Relay(product.port, bytes_per_second=8 * MIB) as relay:
        uploading = subprocess.Popen(
            [sys.executable, "-m", "vodbucket", "upload", str(film.path)],
            env={**here.environment, "VODBUCKET_URL": f"http://127.0.0.1:{relay.port}"},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + COMMAND_SECONDS
            while relay.passed_bytes < 10 * MIB:
                assert uploading.poll() is None
                assert time.monotonic() < deadline
                time.sleep(POLL_SECONDS)
            uploading.send_signal(signal.SIGSTOP)
            with product.client() as client:
                saved_url = client.get(f"/api/resumptions/{film.fingerprint}").json()["upload_url"]
            time.sleep(IDLE_SECONDS + 2)
            uploading.send_signal(signal.SIGCONT)
            out, _ = uploading.communicate(timeout=60)
        finally:
            stop(uploading, signal.SIGKILL)

    assert uploading.returncode == 0
    assert _id_of(out) == saved_url.rpartition("/")[2]
