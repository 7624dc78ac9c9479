"""Around the encoder, with real media and processes: killed, crashed, hung, out of memory or of disk."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backend.core.settings import WorkerSettings
from tests.faults.registry import row
from tests.lab.checker import assert_at_rest
from tests.lab.clips import make_clip
from tests.lab.missing import missing
from tests.lab.processes import descendants
from tests.lab.product import Product, stop
from tests.worker.encode.graphics_card import tools_with_card
from worker.sandbox.tools import find_tools
from worker.sandbox.workspace import PREFIX

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

TRIED_AGAIN = "next attempt"
HANDED_BACK = "handed back, no attempt counted; completes"
SECONDS = 180
PROOF_OF_WORK = {"ffmpeg": b"-progress", "packager": b"mpd_output"}
"""What the command line holds when it is not just being tried out."""
SOFTWARE = {"VIDEO_SERVER_ENCODER": "software"}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be caught in the middle."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=10, width=640, height=360)


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "short.mp4", seconds=2)


def _find(worker: "subprocess.Popen[bytes]", name: str, product: Product) -> int:
    """Return the pid of the process of this name that works on a job, as soon as there is one."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for pid, found in descendants(worker.pid).items():
            if found.startswith(name) and PROOF_OF_WORK[name] in _command_line(pid):
                return pid
        time.sleep(0.02)
    raise AssertionError(product.log_of("worker"))


def _strike(
    product: Product, clip: Path, tmp_path: Path, name: str, number: int, *, attempt: int = 2, **settings: str
) -> int:
    """Send a signal to a process of the first attempt, and see the job complete with this attempt."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    worker, video = product.start_with(clip, WORK_DIR=str(work_dir), **SOFTWARE, **settings)
    os.kill(_find(worker, name, product), number)
    status = product.wait_for(video, status="done", seconds=SECONDS)
    assert status["attempt"] == attempt
    assert product.log_of("worker").count('"job_started"') == 2
    assert descendants(worker.pid) == {}
    stop(worker)
    assert list(work_dir.glob(f"{PREFIX}*")) == []
    assert_at_rest(product.environment, done={video})
    return 1


@row(
    "encoder-killed",
    fault="SIGKILL of ffmpeg, as by the OOM killer",
    expected=HANDED_BACK,
)
def test_retries_after_encoder_is_killed(product: Product, clip: Path, tmp_path: Path) -> int:
    return _strike(product, clip, tmp_path, "ffmpeg", signal.SIGKILL, attempt=1)


@row("encoder-crashed", fault="SIGSEGV in ffmpeg", expected=TRIED_AGAIN)
def test_retries_after_encoder_crashes(product: Product, clip: Path, tmp_path: Path) -> int:
    return _strike(product, clip, tmp_path, "ffmpeg", signal.SIGSEGV)


@row("packager-killed", fault="SIGKILL of the packager", expected=HANDED_BACK)
def test_retries_after_packager_is_killed(product: Product, clip: Path, tmp_path: Path) -> int:
    return _strike(product, clip, tmp_path, "packager", signal.SIGKILL, attempt=1)


@row(
    "encoder-hung",
    fault="ffmpeg hangs (SIGSTOP)",
    expected="killed after STALL_SECONDS; " + TRIED_AGAIN,
)
def test_kills_and_retries_hung_encoder(product: Product, clip: Path, tmp_path: Path) -> int:
    return _strike(product, clip, tmp_path, "ffmpeg", signal.SIGSTOP, STALL_SECONDS="20")


@row(
    "encoder-no-memory",
    fault="ffmpeg gets ENOMEM beyond 100 MB of address space",
    expected=TRIED_AGAIN,
)
def test_retries_after_encoder_gets_no_memory(product: Product, short_clip: Path, tmp_path: Path) -> int:
    starved = tmp_path / "starved"
    ffmpeg = _script(
        tmp_path / "ffmpeg",
        f'case "$*" in *-progress*) if [ ! -e {starved} ]; then',
        f"    touch {starved}; limit='prlimit --as=100000000';",
        f'fi ;; esac; exec $limit {find_tools(WorkerSettings()).ffmpeg} "$@"',
    )
    product.start_api()
    video = product.upload(short_clip)
    product.drain(FFMPEG=str(ffmpeg), **SOFTWARE)
    status = product.wait_for(video, status="done", seconds=1)
    assert starved.exists()
    assert status["attempt"] == 2
    assert_at_rest(product.environment, done={video})
    return 1


@row(
    "card-broken",
    fault="a simulated graphics card fails during a job",
    expected="same attempt restarts in software, in its own run",
)
def test_continues_in_software_when_graphics_card_fails(product: Product, clip: Path, tmp_path: Path) -> int:
    broken = tmp_path / "broken"
    tools = tools_with_card(tmp_path, "h264_nvenc", breaks_when=broken)
    worker, video = product.start_with(clip, FFMPEG=str(tools.ffmpeg), VIDEO_SERVER_ENCODER="auto")
    _find(worker, "ffmpeg", product)
    broken.touch()
    status = product.wait_for(video, status="done", seconds=SECONDS)
    assert (status["attempt"], status["encoder"]) == (1, "software")
    assert status["encoder_fallback"] == "av1 software, h264 nvenc: ffmpeg exited with 1."
    stop(worker)
    assert_at_rest(product.environment, done={video})
    return 1


@row(
    "poison",
    fault="a job kills its worker on every attempt",
    expected="`worker_crashed` after MAX_ATTEMPTS, source kept; the next job is done",
)
def test_gives_up_job_that_kills_every_worker(product: Product, short_clip: Path, tmp_path: Path) -> int:
    ffmpeg = _script(
        tmp_path / "ffmpeg",
        'case "$*" in *-progress*) kill -9 $PPID ;; esac',
        f'exec {find_tools(WorkerSettings()).ffmpeg} "$@"',
    )
    settings = {"LEASE_SECONDS": "3", "MAX_ATTEMPTS": "2", **SOFTWARE}
    product.start_api()
    poison = product.upload(short_clip)
    for _ in range(2):
        assert product.start_worker(FFMPEG=str(ffmpeg), **settings).wait(SECONDS) == -signal.SIGKILL
    product.drain(FFMPEG=str(ffmpeg), **settings)
    status = product.wait_for(poison, status="error", seconds=1)
    assert isinstance(status["error"], dict)
    assert status["error"]["code"] == "worker_crashed"
    good = product.upload(short_clip)
    product.drain(**settings)
    assert_at_rest(product.environment, done={good}, failed={poison})
    return 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 100 MiB."""
    if os.geteuid() != 0:
        missing("only root can mount a small tmpfs")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def _fill(disk: Path) -> None:
    with suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@row(
    "disk-full",
    fault="WORK_DIR fills up (ENOSPC) during a job",
    expected="handed back, no attempt counted; completes once there is space",
)
def test_full_disk_counts_no_attempt(product: Product, clip: Path, disk: Path) -> int:
    worker, first = product.start_with(clip, WORK_DIR=str(disk), **SOFTWARE)
    _find(worker, "ffmpeg", product)
    _fill(disk)
    product.wait_for_log('"job_handed_back"')
    second = product.upload(clip)
    product.wait_for_log('"machine_not_ready"', "WORK_DIR")
    (disk / "fill").unlink()
    for video in (first, second):
        assert product.wait_for(video, status="done", seconds=SECONDS)["attempt"] == 1
    stop(worker)
    assert list(disk.glob(f"{PREFIX}*")) == []
    assert_at_rest(product.environment, done={first, second})
    return 1


def _read_only(disk: Path) -> Callable[[], None]:
    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)

    remount("ro")
    return lambda: remount("rw")


def _gone(disk: Path) -> Callable[[], None]:
    work_dir = disk / "work"
    work_dir.rmdir()
    return work_dir.mkdir


@row(
    "disk-broken",
    fault="WORK_DIR becomes read-only, then disappears",
    expected="its worker takes no job and names it; once mended, first attempts complete",
)
def test_worker_with_broken_disk_takes_no_job(product: Product, short_clip: Path, disk: Path) -> int:
    work_dir = disk / "work"
    work_dir.mkdir()
    worker, first = product.start_with(
        short_clip, WORK_DIR=str(work_dir), WORKER_POLL_SECONDS="0.2", **SOFTWARE
    )
    product.wait_for(first, status="done", seconds=SECONDS)
    videos = {first}
    for breaks, words in ((_read_only, "Read-only file system"), (_gone, "No such file or directory")):
        mend = breaks(disk)
        video = product.upload(short_clip)
        product.wait_for_log('"machine_not_ready"', f"cannot write to {work_dir}: {words}")
        assert product.log_of("worker").count('"job_started"') == len(videos)
        mend()
        assert product.wait_for(video, status="done", seconds=SECONDS)["attempt"] == 1
        videos.add(video)
    stop(worker)
    assert_at_rest(product.environment, done=videos)
    return 2


@row(
    "tools-broken",
    fault="ffmpeg, ffprobe or packager is missing, or is /bin/true",
    expected="its worker names the tool and counts no attempt; once it is back, the first attempts complete",
)
def test_broken_tools_count_no_attempt(product: Product, short_clip: Path, tmp_path: Path) -> int:
    tools = find_tools(WorkerSettings())
    links = {name: tmp_path / f"{name}-link" for name in ("ffmpeg", "ffprobe", "packager")}
    for name, link in links.items():
        link.symlink_to(getattr(tools, name))
    paths = {name.upper(): str(link) for name, link in links.items()}
    worker, first = product.start_with(short_clip, WORKER_POLL_SECONDS="0.2", **paths, **SOFTWARE)
    product.wait_for(first, status="done", seconds=SECONDS)
    videos = {first}
    for name, link in links.items():
        for impostor, words in (("/no/such/file", "there is no file"), ("/bin/true", f"is not {name}")):
            link.unlink()
            link.symlink_to(impostor)
            video = product.upload(short_clip)
            product.wait_for_log('"machine_not_ready"', f"{name.upper()}: ", words)
            link.unlink()
            link.symlink_to(getattr(tools, name))
            assert product.wait_for(video, status="done", seconds=SECONDS)["attempt"] == 1
            videos.add(video)
    stop(worker)
    assert_at_rest(product.environment, done=videos)
    return 6


@row(
    "clock-off",
    fault="two workers' clocks are 10 minutes fast and slow",
    expected="no early take-over; each job done once, by its first attempt",
)
def test_wrong_clocks_cause_no_early_takeover(product: Product, clip: Path) -> int:
    library = _libfaketime()
    product.start_api()
    # Shorter than the clocks are off, longer than a worker is ever silent on a busy machine.
    settings = {"LEASE_SECONDS": "60", **SOFTWARE}
    for offset in ("+10m", "-10m"):
        product.start_worker(
            LD_PRELOAD=str(library), FAKETIME=offset, FAKETIME_DONT_FAKE_MONOTONIC="1", **settings
        )
    videos = {product.upload(clip) for _ in range(2)}
    for video in videos:
        ended = product.wait_for(video, status="done", seconds=SECONDS)
        assert ended["attempt"] == 1, product.log_of("worker")
    for worker in product.processes[1:]:
        stop(worker)
    assert product.log_of("worker").count('"job_started"') == 2
    assert_at_rest(product.environment, done=videos)
    return 2


@row(
    "clock-far-off",
    fault="clocks of API and worker are an hour off: 403 RequestTimeTooSkewed",
    expected="they sign by the store's clock and say so; uploaded, encoded, played",
)
def test_requests_of_machines_with_wrong_clocks_are_signed_by_the_stores(
    product: Product, short_clip: Path
) -> int:
    wrong = {"LD_PRELOAD": str(_libfaketime()), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    product.start_api(FAKETIME="+1h", **wrong)
    slow = product.start_worker(FAKETIME="-1h", **wrong, **SOFTWARE)
    video = product.upload(short_clip)
    assert product.wait_for(video, status="done", seconds=SECONDS)["attempt"] == 1
    for each in ("backend", "worker"):
        assert "clock_differs_from_the_stores" in product.log_of(each)
    with product.client() as client:
        webm = client.get(f"/videos/{video}", follow_redirects=True, headers={"range": "bytes=0-9"})
        assert webm.status_code == 206, webm.text
        assert "s ahead of the store's" in client.get("/readyz").text
    stop(slow)
    assert_at_rest(product.environment, done={video})
    return 1


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def _libfaketime() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        missing("no libfaketime: install the package faketime")
    return found[0]
