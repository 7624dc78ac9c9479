"""A burst of short clips, uploaded together through the API, against a pool of bare ffmpeg on the same cores.

The pool runs the worker's own encoder command (read from /proc) once per clip, as many at a time as there are
cores: from a file into files, and nothing else. Half of it runs before the burst and half after. A clip is
done when it is published, which happens only after all its outputs were verified. Its first look is when it
can be played: by its look or, if it is too short for one, then too. Both times count from the end of its own
upload.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import httpx

from bench.table import print_table
from bench.tree import cpu_seconds
from tests.lab.clips import make_clip
from tests.lab.processes import descendants
from tests.lab.product import Product, product_on
from tests.lab.rgw import RadosGateway, rgw
from tests.lab.server import free_port
from worker.sandbox.limits import NICENESS

CLIP_SECONDS = 6
UPLOADS_AT_ONCE = 8
TELL_EVERY = 50
POLL_SECONDS = 1.0
CORES = os.cpu_count() or 1


def bench_burst(clips: int, at_once: int | None) -> None:
    """Print wall and CPU time against the pool's, and how long clips take. `at_once`: WORKER_CONCURRENCY."""
    bell = f"127.0.0.1:{free_port()}"
    settings = {"DOORBELLS": bell, "DOORBELL": bell, "WORKER_POLL_SECONDS": "5"}
    if at_once is not None:
        settings["WORKER_CONCURRENCY"] = str(at_once)
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        logs, store = Path(directory), gateway.server
        clip = make_clip(logs / "clip.mp4", seconds=CLIP_SECONDS, fps=30)
        with product_on(
            *(store.endpoint_url, store.access_key, store.secret_key, logs),
            **{"SWEEP_EVERY_SECONDS": "0", **settings},
        ) as product:
            api, worker = product.start_api(), product.start_worker()
            log = _Log(product)
            bare = from_file(_encoder(product, log, clip, worker.pid), clip)
            before = pool(bare, clips // 2)
            used = used_by(gateway, api.pid, worker.pid)
            began = time.time()
            with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads, product.client() as client:
                added = dict(threads.map(partial(_upload, client, clip.read_bytes()), range(clips)))
            uploaded = time.time()
            published = log.published(added)
            used = [now - then for now, then in zip(used_by(gateway, api.pid, worker.pid), used, strict=True)]
            looked = {**published, **log.times["look_playable"]}
            again = len(log.times["attempt_failed"])
            after = pool(bare, clips - clips // 2)
    own_cpu = sum(used[1:])
    wall, pool_wall, pool_cpu = max(published.values()) - began, before[0] + after[0], before[1] + after[1]
    what = f"{clips} clips of {CLIP_SECONDS} s at 320x180"
    print_table(
        f"{what}, uploaded in {uploaded - began:.0f} s, on {CORES} cores: "
        f"{len(published)} verified and published, {again} of them not at once",
        ["way", "wall time, s", "ratio", "CPU time, s", "ratio", "to first look, s", "to done, s"],
        [
            [
                *("vodbucket", f"{wall:.0f}", f"{wall / pool_wall:.2f}"),
                *(
                    f"programs {used[3]:.0f}, worker {used[2]:.0f}, API {used[1]:.0f}, store {used[0]:.0f}",
                    f"{sum(used) / pool_cpu:.2f}, without the store {own_cpu / pool_cpu:.2f}",
                ),
                *(waits(added, looked), waits(added, published)),
            ],
            ["bare ffmpeg, a pool", f"{pool_wall:.0f}", "1.00", f"{pool_cpu:.0f}", "1.00", "-", "-"],
        ],
    )


class _Log:
    """The worker's log, each line of which is read once: with a thousand clips they are many."""

    def __init__(self, product: Product) -> None:
        (path,) = product.logs.glob("worker-*.log")
        self._file = path.open()
        self._rest = ""
        self.times: dict[str, dict[str, float]] = defaultdict(dict)
        """For each event and video, when it was logged last, in Unix seconds."""

    def read(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            said = json.loads(line) if line.startswith("{") else {}
            if "video" in said:
                self.times[said["event"]][said["video"]] = datetime.fromisoformat(
                    said["timestamp"]
                ).timestamp()

    def published(self, videos: Iterable[str]) -> dict[str, float]:
        """Wait until all are published, and return when each was."""
        wanted, told = set(videos), 0
        while True:
            self.read()
            assert not self.times["job_failed"], self.times["job_failed"]
            found = self.times["job_published"]
            if wanted <= found.keys():
                return {video: found[video] for video in wanted}
            if len(found) >= told + TELL_EVERY:
                told = len(found)
                _tell(f"{told} published")
            time.sleep(POLL_SECONDS)


def used_by(gateway: RadosGateway, api: int, worker: int) -> list[float]:
    """Return the CPU time of the store, the API, the worker and its programs so far, in seconds."""
    store, own = sum(map(cpu_seconds, gateway.pids)), cpu_seconds(worker)
    return [store, cpu_seconds(api), own, cpu_seconds(worker, children=True) - own]


def waits(added: dict[str, float], reached: dict[str, float]) -> str:
    found = sorted(reached[video] - at for video, at in added.items())
    return f"median {statistics.median(found):.1f}, 95th percentile {found[int(0.95 * (len(found) - 1))]:.1f}"


def _upload(client: httpx.Client, body: bytes, number: int) -> tuple[str, float]:
    answer = client.post("/api/videos", params={"filename": f"{number}.mp4"}, content=body)
    assert answer.status_code == 201, answer.text
    if (number + 1) % TELL_EVERY == 0:
        _tell(f"{number + 1} uploaded")
    return answer.json()["id"], time.time()


def _tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def from_file(argv: list[str], source: Path) -> list[str]:
    """Return the same command, which may open `source` instead of the worker's loopback feeder."""
    source_at, allowed_at = argv.index("-i") + 1, argv.index("-protocol_whitelist") + 1
    return [{source_at: str(source), allowed_at: "file"}.get(at, word) for at, word in enumerate(argv)]


def _encoder(product: Product, log: _Log, clip: Path, worker: int) -> list[str]:
    """Let the worker do a first clip, and return the command line of its encoder."""
    video = product.upload(clip)
    argv = encoder_of(worker)
    log.published({video})
    return argv


def encoder_of(worker: int) -> list[str]:
    """Wait until the worker runs an encoder, and return its command line."""
    while True:
        for pid in descendants(worker):
            with suppress(FileNotFoundError, ProcessLookupError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
                # before exec, the launcher (worker/sandbox/tether.py) shows the same arguments
                if "-filter_complex" in argv and Path(argv[0]).name.startswith("ffmpeg"):
                    return argv
        time.sleep(0.01)


def pool(argv: list[str], times: int) -> tuple[float, float]:
    """Run a command so many times, one per core at a time. Return the wall and the CPU time in seconds."""
    _tell(f"the pool encodes {times} clips")
    nice, before, began = ["nice", "-n", str(NICENESS)], os.times(), time.perf_counter()

    def run(_: int) -> None:
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([*nice, *argv], cwd=directory, check=True, capture_output=True)

    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(run, range(times)))
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, used
