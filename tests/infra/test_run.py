"""`python -m infra.local run` as a user sees it: its messages, its link and its shutdown."""

import errno
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from infra.local.__main__ import main
from infra.local.data import DataDirectory
from infra.local.store import remove_sockets
from tests.infra.checkout import CHECKOUT, require_embedded_store
from tests.lab.clips import make_clip
from tests.lab.missing import missing
from tests.lab.processes import is_alive
from tests.lab.server import free_port

READY_SECONDS = 90
STOP_SECONDS = 15
JOB_SECONDS = 180
PADDED_BYTES = 36 * 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


def _environment(**settings: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings}


@pytest.fixture
def refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Start a run with these settings, which must be refused, and return its error message."""

    def start(**settings: str) -> str:
        monkeypatch.setattr(os, "environ", _environment(**settings))
        monkeypatch.setattr(sys, "argv", ["infra.local", "run", "--data", str(tmp_path)])
        assert main() == 1
        out, sentence = capsys.readouterr()
        assert (out, len(sentence.splitlines())) == ("", 1)
        return sentence.strip()

    return start


def test_a_port_in_use_is_reported_in_one_sentence(refusal: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        sentence = refusal(PORT=str(port))

    assert sentence.startswith(f"vodbucket: Port {port} is taken by another program")
    assert f"make run PORT={port + 1}" in sentence


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "123456"),
        ("ADMIN_TOKEN", "short"),
        ("RENDITION_CODECS", "vp9"),
        ("S3_ENDPOINT_URL", "nowhere"),
        ("HOST", "no.such.host.invalid"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_sentence(
    refusal: Callable[..., str], variable: str, value: str
) -> None:
    sentence = refusal(**{"PORT": str(free_port()), variable: value})

    assert variable in sentence
    assert ";" not in sentence


def test_a_full_disk_is_said_in_one_sentence(
    refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("infra.local.__main__.make_plan", full)

    assert refusal() == f"vodbucket: {tmp_path}: No space left on device."


def _exit(data: Path, **settings: str) -> tuple[int, str]:
    """Start a run as a process, and return its exit status and what it said on stderr."""
    run = subprocess.run(
        [sys.executable, "-m", "infra.local", "run", "--data", str(data)],
        cwd=CHECKOUT,
        env=_environment(PORT=str(free_port()), **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert len(run.stderr.splitlines()) == 1
    return run.returncode, run.stderr


def test_a_second_run_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with DataDirectory(tmp_path).lock():
        status, sentence = _exit(tmp_path)

    assert status == 1
    assert "already runs" in sentence


@pytest.mark.heavy  # the SDK retries for some 10 s
def test_an_unreachable_store_is_reported_with_its_address(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    settings = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "S3_ENDPOINT_URL": nobody}

    status, sentence = _exit(tmp_path, **settings)

    assert status == 1
    assert nobody in sentence


@dataclass
class Run:
    """One `make run`, in a session of its own."""

    data: Path
    port: int
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _incoming: "queue.Queue[str]" = field(default_factory=queue.Queue)
    _reader: threading.Thread | None = None

    @classmethod
    def start(cls, data: Path, port: int, **settings: str) -> "Run":
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local", "run", "--data", str(data)],
            cwd=CHECKOUT,
            env=_environment(PORT=str(port), **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        run = cls(data, port, process)
        run._reader = threading.Thread(target=run._read, daemon=True)
        run._reader.start()
        return run

    def wait_until_ready(self) -> str:
        """Return the sign-in link."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                line = self._incoming.get(timeout=1)
            except queue.Empty:
                assert self.process.poll() is None, self.lines
                continue
            if found := re.search(r"ready: (\S+)", line):
                return found[1]
        raise AssertionError(self.lines)

    def pids(self) -> list[int]:
        """Return the pids of the run and all its descendants."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found.extend(int(child) for child in children.read_text().split())
        return found

    def end(self) -> None:
        """Kill the run if it is still alive. The kernel then kills its descendants."""
        assert self._reader is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._incoming.put(line)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[list[Run]]:
    require_embedded_store()
    if not Path("/proc/self/task").exists():
        missing("no /proc to count processes with")
    started: list[Run] = []
    yield started
    for run in started:
        run.end()
        with suppress(FileNotFoundError):
            remove_sockets(json.loads((run.data / "store" / "ports").read_text()))


def _left_after(pids: list[int], seconds: float) -> list[int]:
    """Wait up to `seconds` for these processes to end, and return those still alive."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _api(run: Run, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
    token = (run.data / "admin-token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{run.port}{path}",
        data=body,
        method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "video/mp4"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answered: dict[str, object] = json.load(answer)
        return answered


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_ends_every_process(tmp_path: Path, runs: list[Run], number: signal.Signals) -> None:
    data = tmp_path / "data"
    run = Run.start(data, free_port(), S3_RAW_BUCKET="my-own-uploads")
    runs.append(run)
    link = run.wait_until_ready()
    pids = run.pids()
    assert len(pids) >= 4
    assert link == f"http://127.0.0.1:{run.port}/#token={(data / 'admin-token').read_text().strip()}"
    listed = _vodbucket(tmp_path, "jobs", "--json")
    assert (listed.returncode, json.loads(listed.stdout)["jobs"]) == (0, [])
    assert listed.stderr == f"Using the store of `make run` in {data}.\n"

    run.process.send_signal(number)

    assert run.process.wait(STOP_SECONDS) == 0
    assert _left_after(pids, 0) == []
    assert "Traceback" not in "".join(run.lines)
    refused = _vodbucket(tmp_path, "jobs")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"vodbucket: the store of `make run` in {data} is not running.")


def _vodbucket(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a person does who has set nothing."""
    return subprocess.run(
        [sys.executable, "-m", "vodbucket", *arguments],
        cwd=directory,
        env=_environment(PYTHONPATH=str(CHECKOUT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.heavy
def test_a_killed_run_leaves_no_process_and_the_next_run_resumes_its_jobs_and_uploads(
    tmp_path: Path, runs: list[Run]
) -> None:
    data, soon = tmp_path / "data", {"LEASE_SECONDS": "6", "WORKER_POLL_SECONDS": "0.5"}
    first = Run.start(data, free_port(), **soon)
    runs.append(first)
    link = first.wait_until_ready()
    done = _upload(first, make_clip(tmp_path / "short.mp4", seconds=2))
    _wait_for(first, done, "done")
    master = f"http://127.0.0.1:{first.port}{_api(first, 'GET', f'/api/videos/{done}/playback')['hls']}"
    unfinished = _upload(first, make_clip(tmp_path / "long.mp4", seconds=20, width=640, height=360))
    _wait_for(first, unfinished, "processing")
    interrupted = _padded(make_clip(tmp_path / "third.mp4", seconds=1).read_bytes(), PADDED_BYTES)
    upload, connection = _begin_upload(first, interrupted)
    pids = first.pids()

    first.process.kill()
    first.process.wait()
    connection.close()

    assert _left_after(pids, 5) == []
    second = Run.start(data, first.port, **soon)
    runs.append(second)
    assert second.wait_until_ready() == link
    listed = _api(second, "GET", "/api/videos")["videos"]
    assert isinstance(listed, list)
    assert {entry["id"] for entry in listed} == {done, unfinished}
    assert _api(second, "GET", f"/api/videos/{done}/status")["status"] == "done"
    _assert_plays(master)
    _wait_for(second, unfinished, "done")
    offset = int(_tus(second, "HEAD", upload)["Upload-Offset"])
    assert PADDED_BYTES // 3 <= offset < PADDED_BYTES
    resumed = _tus(second, "PATCH", upload, interrupted[offset:], offset)
    assert resumed["Upload-Offset"] == str(len(interrupted))
    _wait_for(second, resumed["Video-Id"], "done")


def _padded(clip: bytes, size_bytes: int) -> bytes:
    """Pad an MP4 with a `free` box (ISO/IEC 14496-12)."""
    free = size_bytes - len(clip)
    return clip + free.to_bytes(4) + b"free" + bytes(free - 8)


def _begin_upload(run: Run, body: bytes) -> tuple[str, http.client.HTTPConnection]:
    """Upload a third and start a request for the rest. Return the upload's path and that open connection."""
    created = _tus(run, "POST", "/api/uploads", upload_length=len(body))
    path, third = urlsplit(created["Location"]).path, len(body) // 3
    assert _tus(run, "PATCH", path, body[:third])["Upload-Offset"] == str(third)
    connection = http.client.HTTPConnection("127.0.0.1", run.port, timeout=30)
    connection.putrequest("PATCH", path)
    length = str(len(body) - third)
    for name, value in {**_tus_headers(run, third), "Content-Length": length}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body[third : 2 * third])
    return path, connection


def _tus_headers(run: Run, offset: int) -> dict[str, str]:
    token = (run.data / "admin-token").read_text().strip()
    return {"Authorization": f"Bearer {token}", **TUS, "Upload-Offset": str(offset)}


def _tus(
    run: Run, method: str, path: str, body: bytes = b"", offset: int = 0, upload_length: int | None = None
) -> Message:
    headers = _tus_headers(run, offset)
    if upload_length is not None:
        headers["Upload-Length"] = str(upload_length)
    request = urllib.request.Request(
        f"http://127.0.0.1:{run.port}{path}", data=body or None, method=method, headers=headers
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers


def _upload(run: Run, clip: Path) -> str:
    return str(_api(run, "POST", f"/api/videos?filename={clip.name}", clip.read_bytes())["id"])


def _wait_for(run: Run, video: str, status: str) -> dict[str, object]:
    deadline = time.monotonic() + JOB_SECONDS
    while (found := _api(run, "GET", f"/api/videos/{video}/status"))["status"] != status:
        assert found["status"] not in {"done", "error"}, found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def _assert_plays(master: str) -> None:
    """Follow a grant's master playlist to its first segment, as a player without a token would."""
    playlist = urljoin(master, _entries(master)[0])
    segment = urljoin(playlist, _entries(playlist)[0])

    with urllib.request.urlopen(segment, timeout=30) as answer:  # follows the redirect to the bucket
        assert answer.status == 200
        assert answer.url != segment
        assert b"moof" in answer.read()


def _entries(playlist: str) -> list[str]:
    """Return the URI lines of an HLS playlist (RFC 8216 section 4.1)."""
    with urllib.request.urlopen(playlist, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    assert lines[0] == "#EXTM3U"
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.heavy
def test_a_worker_that_dies_is_restarted(tmp_path: Path, runs: list[Run]) -> None:
    run = Run.start(tmp_path, free_port())
    runs.append(run)
    run.wait_until_ready()
    pid_file = tmp_path / "run" / "worker.pid"
    before = pid_file.read_text()

    os.kill(int(before.split()[0]), signal.SIGKILL)

    deadline = time.monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text() not in ("", before)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert run.process.poll() is None


@pytest.mark.heavy
def test_the_run_stops_with_a_message_when_the_store_dies(tmp_path: Path, runs: list[Run]) -> None:
    run = Run.start(tmp_path, free_port())
    runs.append(run)
    run.wait_until_ready()
    pids = run.pids()

    os.kill(int((tmp_path / "run" / "store.pid").read_text().split()[0]), signal.SIGKILL)

    assert run.process.wait(60) == 1
    assert _left_after(pids, 1) == []
    assert any(line.startswith("vodbucket: The store ended by signal 9") for line in run.lines)
