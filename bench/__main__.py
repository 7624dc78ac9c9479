"""`python -m bench [upload] [queue] [idle] [media]`: starts a store and what is measured, prints tables."""

import argparse
import logging
import tempfile
from pathlib import Path

import structlog

from bench.idle import bench_idle
from bench.media import bench_media
from bench.queue import bench_queue
from bench.upload import bench_upload
from tests.lab.product import product_on
from tests.lab.rgw import rgw

TABLES = ("upload", "queue", "idle", "media")
IDLE_JOBS = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="table", help=f"{', '.join(TABLES)}; by default all")
    parser.add_argument("--size-mib", type=int, default=2048, help="upload: size of the file")
    parser.add_argument("--rounds", type=int, default=3, help="upload, media: how often each way is measured")
    parser.add_argument("--jobs", type=int, default=10_000, help="queue: how many jobs wait")
    parser.add_argument("--seconds", type=float, default=60, help="queue, idle: how long at most")
    parser.add_argument("--quick", action="store_true", help="media: only once, on four seconds of the film")
    arguments = parser.parse_args()
    tables = arguments.tables or TABLES
    if unknown := set(tables) - set(TABLES):
        parser.error(f"there is no table {', '.join(sorted(unknown))}")
    # A line in the log for each of thousands of jobs would be measured as well.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if "queue" in tables:
        bench_queue(arguments.jobs, arguments.seconds)
    if "idle" in tables:
        bench_idle(arguments.seconds, IDLE_JOBS)
    if "media" in tables:
        bench_media(arguments.rounds, quick=arguments.quick)
    if "upload" in tables:
        with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
            server = gateway.server
            logs = Path(directory)
            with product_on(server.endpoint_url, server.access_key, server.secret_key, logs) as product:
                bench_upload(product, arguments.size_mib, arguments.rounds)


if __name__ == "__main__":
    main()
