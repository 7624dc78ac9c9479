"""`vodbucket encode` as a process, without a server or a store."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.clips import make_clip
from tests.vodbucket.conftest import REPOSITORY, Done, Installation

HEAVY = pytest.mark.heavy
FAST = ("--rungs", "180", "--codecs", "h264", "--cpu-used", "8")


@pytest.fixture
def bare(tmp_path: Path) -> Installation:
    return Installation({"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)})


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", seconds=12)


def _running(bare: Installation, *arguments: str | Path, most_bytes: int = -1) -> subprocess.Popen[str]:
    """Start the command in a process of its own, whose files cannot become larger than `most_bytes`."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in a shell's background

    return subprocess.Popen(
        [sys.executable, "-m", "vodbucket", "encode", *map(str, arguments)],
        cwd=REPOSITORY,
        env=bare.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=prepare,
    )


def _end_of(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


def _left(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"clip.mp4"}


async def test_a_missing_file_is_named(bare: Installation, tmp_path: Path) -> None:
    done = await bare.vodbucket("encode", "missing.mp4", str(tmp_path / "out"))

    assert (done.status, done.out, done.err) == (1, "", "vodbucket: missing.mp4: No such file.\n")
    assert not (tmp_path / "out").exists()


async def test_a_folder_with_something_in_it_is_left_alone(bare: Installation, tmp_path: Path) -> None:
    film, folder = tmp_path / "film.mp4", tmp_path / "taken"
    film.write_bytes(b"film")
    folder.mkdir()
    (folder / "mine").touch()

    done = await bare.vodbucket("encode", str(film), str(folder))

    assert (done.status, done.out) == (1, "")
    assert done.err == f"vodbucket: {film}: {folder} exists and is not an empty folder.\n"
    assert [path.name for path in folder.iterdir()] == ["mine"]


async def test_a_wrong_option_is_named(bare: Installation, tmp_path: Path) -> None:
    done = await bare.vodbucket("encode", "film.mp4", str(tmp_path / "out"), "--rungs", "361")

    assert (done.status, done.err) == (
        2,
        "vodbucket: RUNGS: must be even numbers from 16 to 4320, each once\n",
    )


@HEAVY
async def test_what_is_not_a_video_is_rejected(bare: Installation, tmp_path: Path) -> None:
    notes = tmp_path / "notes.mp4"
    notes.write_text("These are only notes." * 1000)

    done = await bare.vodbucket("encode", str(notes), str(tmp_path / "out"))

    assert (done.status, done.out) == (1, "")
    assert done.err == f"vodbucket: {notes}: This file is not a video: it has no video or audio stream.\n"
    assert _left(tmp_path) == {"notes.mp4"}


@HEAVY
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(
    bare: Installation, tmp_path: Path, clip: Path, number: signal.Signals
) -> None:
    process = _running(bare, clip, tmp_path / "out")
    _until_it_encodes(process, tmp_path)

    process.send_signal(number)

    assert _end_of(process) == Done(130, "", "vodbucket: Interrupted. Nothing was written.\n")
    assert _left(tmp_path) == set()


@HEAVY
def test_killed_it_shows_no_half_folder_and_the_next_run_cleans_up(
    bare: Installation, tmp_path: Path, clip: Path
) -> None:
    process = _running(bare, clip, tmp_path / "out")
    _until_it_encodes(process, tmp_path)
    process.kill()
    _end_of(process)
    assert _left(tmp_path) == {".out.encoding"}

    done = _end_of(_running(bare, clip, tmp_path / "out", *FAST))

    assert (done.status, done.out, done.err) == (0, f"{tmp_path / 'out'}\n", "")
    assert _left(tmp_path) == {"out"}
    assert (tmp_path / "out" / "hls" / "master.m3u8").exists()


@HEAVY
def test_a_full_disk_ends_it_with_that_reason(bare: Installation, tmp_path: Path, clip: Path) -> None:
    done = _end_of(_running(bare, clip, tmp_path / "out", *FAST, most_bytes=100_000))

    assert (done.status, done.out) == (1, "")
    assert done.err.endswith("cannot be used: File too large.\n")
    assert _left(tmp_path) == set()


@HEAVY
async def test_a_file_that_changes_meanwhile_is_not_encoded(
    bare: Installation, tmp_path: Path, clip: Path
) -> None:
    process = _running(bare, clip, tmp_path / "out")
    _until_it_encodes(process, tmp_path)

    with clip.open("ab") as file:
        file.write(b"more")

    done = await asyncio.to_thread(_end_of, process)
    assert (done.status, done.out) == (1, "")
    assert done.err == f"vodbucket: {clip}: The file was changed while it was being encoded.\n"
    assert _left(tmp_path) == set()


def _until_it_encodes(process: subprocess.Popen[str], directory: Path) -> None:
    while not list(directory.glob(".out.encoding/video/videos/*/r*/media/*/*.m4s")):
        assert process.poll() is None, process.communicate()
