"""An idle worker with default settings: its requests, what they cost, and how soon it starts a job.

The sweeper is off: once a day it needs one LIST per 1,000 objects, whether the worker is idle or not.
"""

import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.table import print_table
from tests.lab.clips import make_clip
from tests.lab.product import Product, product_on
from tests.lab.proxy import FaultProxy
from tests.lab.rgw import rgw

SETTLING_SECONDS = 15.0
"""By then the polling interval has grown to its maximum."""
SHIFT_SECONDS = 1.1
"""Each job arrives this much later in the polling interval than the one before."""
DOLLARS_PER_LIST = 0.005 / 1000
"""The price of PUT and LIST requests: AWS S3 Standard, us-east-1."""
HOURS_PER_MONTH = 730


def bench_idle(seconds: float, jobs: int) -> None:
    """Print requests per hour, their price, and how long jobs wait for an idle worker."""
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        logs = Path(directory)
        clip = make_clip(logs / "clip.mp4", seconds=1, width=160, height=90)
        with FaultProxy(gateway.server) as proxy:
            store = proxy.server
            with product_on(
                store.endpoint_url, store.access_key, store.secret_key, logs, SWEEP_EVERY_SECONDS="0"
            ) as product:
                del product.environment["WORKER_POLL_SECONDS"]
                product.start_api()
                product.start_worker()
                time.sleep(SETTLING_SECONDS)
                asked = _calls_during(proxy, seconds)
                waits = [_wait(product, clip, number * SHIFT_SECONDS) for number in range(jobs)]
    per_hour = {operation: count * 3600 / seconds for operation, count in asked.items()}
    month = sum(per_hour.values()) * HOURS_PER_MONTH * DOLLARS_PER_LIST
    print_table(
        f"One idle worker for {seconds:g} s, then {jobs} jobs one after the other",
        ["requests per hour", "at S3 prices per month", "wait for the worker: median", "longest"],
        [
            [
                ", ".join(f"{operation} {count:.0f}" for operation, count in sorted(per_hour.items())),
                f"${month:.2f}",
                f"{statistics.median(waits):.1f} s",
                f"{max(waits):.1f} s",
            ]
        ],
    )


def _calls_during(proxy: FaultProxy, seconds: float) -> Counter[str]:
    before = len(proxy.calls)
    time.sleep(seconds)
    return Counter(call.operation for call in proxy.calls[before:])


def _wait(product: Product, clip: Path, later_seconds: float) -> float:
    """Upload a video and return the seconds from the response to the start of its job."""
    time.sleep(SETTLING_SECONDS + later_seconds)
    started = product.log_of("worker").count('"job_started"')
    product.upload(clip)
    queued = time.monotonic()
    while product.log_of("worker").count('"job_started"') == started:
        time.sleep(0.01)
    waited = time.monotonic() - queued
    while product.log_of("worker").count('"job_published"') <= started:
        time.sleep(0.1)
    return waited
