"""Several workers on one film, each pinned to a core of its own, against one worker pinned to one core.

Store and API use all cores. Times are from the answer to the upload to the publication.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

from bench.table import print_table
from bench.tree import cpu_seconds
from tests.lab.clips import big_buck_bunny
from tests.lab.product import Product, product_on
from tests.lab.rgw import rgw

SECONDS = 150
LIMIT_SECONDS_PER_SECOND = 20
"""The slowest encoding that is waited for."""
_AS_PHONES_RECORD = ("-c:v", "libx264", "-preset", "veryfast", "-g", "24", "-c:a", "aac", "-ac", "2")


def bench_workers(workers: int, seconds: int = SECONDS) -> None:
    """Print wall and CPU time of one worker and of `workers`. `seconds` is the length of the film."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        film, server, alone = _film(Path(directory), seconds), gateway.server, 0.0
        for number in (1, workers):
            logs = Path(directory, str(number))
            logs.mkdir()
            with product_on(server.endpoint_url, server.access_key, server.secret_key, logs) as product:
                wall, cpu = _run(product, film, number, seconds)
            alone = alone or wall
            rows.append([str(number), f"{wall:.1f}", f"{alone / wall:.2f}", f"{cpu:.1f}"])
            print(" | ".join(rows[-1]), flush=True)
    header = ["workers with a core each", "done after, s", "times as fast", "CPU time of all, s"]
    print_table(f"{seconds} s of 480p24", header, rows)


def _run(product: Product, film: Path, workers: int, seconds: int) -> tuple[float, float]:
    """Return when the film was done, and the CPU time that the workers took for it."""
    product.start_api()
    started = [product.start_worker() for _ in range(workers)]
    for worker, core in zip(started, sorted(os.sched_getaffinity(0)), strict=False):
        os.sched_setaffinity(worker.pid, {core})  # before it starts threads and programs, which keep to it
    while product.log_of("worker").count('"encoders_chosen"') < workers:
        time.sleep(0.1)
    before = sum(cpu_seconds(worker.pid, children=True) for worker in started)
    video = product.upload(film)
    began = time.perf_counter()
    # asking the API often would take CPU time from the workers
    while not _is_published(product, video):
        assert time.perf_counter() - began < LIMIT_SECONDS_PER_SECOND * seconds, product.log_of("worker")
        time.sleep(0.5)
    wall = time.perf_counter() - began
    return wall, sum(cpu_seconds(worker.pid, children=True) for worker in started) - before


def _is_published(product: Product, video: str) -> bool:
    lines = product.log_of("worker").splitlines()
    return any('"job_published"' in line and video in line for line in lines)


def _film(directory: Path, seconds: int) -> Path:
    """Write a film as phones record: a keyframe a second, stereo, index at the end."""
    clip, film = directory / "clip.mp4", directory / "film.mp4"
    for arguments in (
        ("-i", big_buck_bunny(), "-vf", "scale=-2:480,fps=24", *_AS_PHONES_RECORD, clip),
        ("-stream_loop", "-1", "-i", clip, "-t", str(seconds), "-c", "copy", film),
    ):
        argv = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *arguments]
        subprocess.run(argv, check=True, timeout=600)
    return film
