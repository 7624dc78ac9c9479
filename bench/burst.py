"""A burst of short clips, uploaded together through the API, against a pool of bare ffmpeg on the same cores.

The pool runs the worker's own encoder command (read from /proc) once per clip, as many at a time as there are
cores, and writes nothing; half of it runs before the burst and half after. A clip is done when it is
published, which happens only after all its outputs were verified. Its first look is when it can be played:
by its look or, if it is too short for one, then too. Both times count from the end of its own upload.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from bench.media_ways import one_pass, parse_command
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
            bare = one_pass(parse_command(_encoder(product, clip, worker.pid)), clip)
            before = pool(bare, clips // 2)
            used = used_by(gateway, api.pid, worker.pid)
            began = time.time()
            with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
                added = dict(threads.map(partial(_upload, product), [clip] * clips))
            uploaded = time.time()
            published = _published(product, added)
            used = [now - then for now, then in zip(used_by(gateway, api.pid, worker.pid), used, strict=True)]
            looked = {**published, **_logged(product, "look_playable")}
            after = pool(bare, clips - clips // 2)
    wall, pool_wall, pool_cpu = max(published.values()) - began, before[0] + after[0], before[1] + after[1]
    what = f"{clips} clips of {CLIP_SECONDS} s at 320x180"
    print_table(
        f"{what}, uploaded in {uploaded - began:.0f} s, on {CORES} cores",
        ["way", "wall time, s", "ratio", "CPU time, s", "ratio", "to first look, s", "to done, s"],
        [
            [
                *("vodbucket", f"{wall:.0f}", f"{wall / pool_wall:.2f}"),
                *(
                    f"programs {used[3]:.0f}, worker {used[2]:.0f}, API {used[1]:.0f}, store {used[0]:.0f}",
                    f"{sum(used) / pool_cpu:.2f}",
                ),
                *(waits(added, looked), waits(added, published)),
            ],
            ["bare ffmpeg, a pool", f"{pool_wall:.0f}", "1.00", f"{pool_cpu:.0f}", "1.00", "-", "-"],
        ],
    )


def used_by(gateway: RadosGateway, api: int, worker: int) -> list[float]:
    """Return the CPU time of the store, the API, the worker and its programs so far, in seconds."""
    store, own = sum(map(cpu_seconds, gateway.pids)), cpu_seconds(worker)
    return [store, cpu_seconds(api), own, cpu_seconds(worker, children=True) - own]


def waits(added: dict[str, float], reached: dict[str, float]) -> str:
    found = sorted(reached[video] - at for video, at in added.items())
    return f"median {statistics.median(found):.1f}, 95th percentile {found[int(0.95 * (len(found) - 1))]:.1f}"


def _upload(product: Product, clip: Path) -> tuple[str, float]:
    return product.upload(clip), time.time()


def _encoder(product: Product, clip: Path, worker: int) -> list[str]:
    """Let the worker do a first clip, and return the command line of its encoder."""
    video = product.upload(clip)
    argv = encoder_of(worker)
    _published(product, {video: 0.0})
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
    before, began = os.times(), time.perf_counter()
    run = partial(subprocess.run, ["nice", "-n", str(NICENESS), *argv], check=True, capture_output=True)
    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(lambda _: run(), range(times)))
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, used


def _logged(product: Product, event: str) -> dict[str, float]:
    """Return when the worker logged this event of each video, in Unix seconds."""
    lines = (json.loads(line) for line in product.log_of("worker").splitlines() if line.startswith("{"))
    return {
        line["video"]: datetime.fromisoformat(line["timestamp"]).timestamp()
        for line in lines
        if line["event"] == event
    }


def _published(product: Product, videos: dict[str, float]) -> dict[str, float]:
    """Wait until all are published, and return when each was, in Unix seconds."""
    while True:
        lines = [json.loads(line) for line in product.log_of("worker").splitlines() if line.startswith("{")]
        failed = [line for line in lines if line["event"] in {"job_failed", "attempt_failed"}]
        assert not failed, failed
        found = _logged(product, "job_published")
        if videos.keys() <= found.keys():
            return found
        time.sleep(0.5)
