"""`python -m bench [table …]`: measures on a fresh store and prints tables, all of `TABLES` by default."""

import argparse
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from bench.burst import bench_burst
from bench.convert import bench_convert
from bench.idle import bench_idle
from bench.media import bench_media
from bench.play import bench_play
from bench.queue import bench_queue
from bench.seams import bench_seams
from bench.upload import bench_upload
from bench.watch import FILMS, LENGTHS_SECONDS, bench_watch
from bench.workers import bench_workers
from tests.lab.embedded import embedded
from tests.lab.product import product_on
from tests.lab.rgw import rgw
from tests.lab.server import StoreServer

TABLES = ("upload", "queue", "idle", "media", "seams", "burst", "convert", "play", "watch", "workers")
IDLE_JOBS = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="table", help=f"{', '.join(TABLES)}; by default all")
    parser.add_argument("--store", action="append", choices=STORES, help="upload: by default each of these")
    parser.add_argument("--size-mib", type=int, default=2048, help="upload: size of the file")
    parser.add_argument("--rounds", type=int, default=3, help="upload, media, play: measurements per method")
    parser.add_argument("--jobs", type=int, default=10_000, help="queue: how many jobs to queue")
    parser.add_argument("--seconds", type=float, default=60, help="queue, idle: time limit")
    parser.add_argument(
        "--length", action="append", type=int, help="watch: seconds; by default each of three"
    )
    parser.add_argument("--film", action="append", choices=FILMS, help="watch: by default each of these")
    parser.add_argument("--workers", type=int, default=2, help="workers: how many, each with a core")
    parser.add_argument("--clips", type=int, default=1000, help="burst, convert: how many clips to send")
    parser.add_argument("--at-once", type=int, help="burst: WORKER_CONCURRENCY, by default the default")
    parser.add_argument("--quick", action="store_true", help="media: run once, on four seconds of the film")
    arguments = parser.parse_args()
    tables = arguments.tables or TABLES
    if unknown := set(tables) - set(TABLES):
        parser.error(f"there is no table {', '.join(sorted(unknown))}")
    # Logging a line for each of thousands of jobs would distort the figures.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if "queue" in tables:
        bench_queue(arguments.jobs, arguments.seconds)
    if "idle" in tables:
        bench_idle(arguments.seconds, IDLE_JOBS)
    if "play" in tables:
        bench_play(arguments.rounds)
    if "watch" in tables:
        bench_watch(arguments.film or tuple(FILMS), arguments.length or LENGTHS_SECONDS)
    if "workers" in tables:
        bench_workers(arguments.workers)
    if "media" in tables:
        bench_media(arguments.rounds, quick=arguments.quick)
    if "seams" in tables:
        bench_seams()
    if "burst" in tables:
        bench_burst(arguments.clips, arguments.at_once)
    if "convert" in tables:
        bench_convert(arguments.clips)
    if "upload" in tables:
        for store in arguments.store or STORES:
            with tempfile.TemporaryDirectory() as directory, STORES[store](Path(directory)) as server:
                logs = Path(directory)
                with product_on(server.endpoint_url, server.access_key, server.secret_key, logs) as product:
                    bench_upload(product, store, arguments.size_mib, arguments.rounds)


@contextmanager
def _ceph(directory: Path) -> Iterator[StoreServer]:
    with rgw(directory) as gateway:
        yield gateway.server


STORES = {"Ceph RGW": _ceph, "embedded": embedded}


if __name__ == "__main__":
    main()
