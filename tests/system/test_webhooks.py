"""Webhooks of real processes on a real store, while receiver, API and workers are killed at random."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.core import keys
from tests.lab.clips import make_clip
from tests.lab.product import REPOSITORY, Product, stop
from tests.lab.server import free_port
from tests.simulation.events import rank_of

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
VIDEOS = 6
KILLS = 12
SECONDS = 240


@contextmanager
def _receiving(port: int, file: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.lab.receiver", str(port), SECRET, str(file)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        stop(process, signal.SIGKILL)


def _events(product: Product) -> list[str]:
    """Return the ids of all events that the API lists."""
    found: list[str] = []
    with product.client() as client:
        page = {"events": [None], "after": 0}
        while page["events"]:
            page = client.get("/api/events", params={"after": page["after"]}).raise_for_status().json()
            found += [event["id"] for event in page["events"]]
    return found


def test_a_receiver_gets_every_event_in_order_whoever_is_killed(product: Product, tmp_path: Path) -> None:
    port, file, rng = free_port(), tmp_path / "received", random.Random(0)
    settings = {"WEBHOOK_URLS": f"http://127.0.0.1:{port}/hook", "WEBHOOK_SECRETS": SECRET}
    clip = make_clip(tmp_path / "clip.mp4", seconds=1)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:2000])
    api = product.start_api()
    workers = [product.start_worker(WORKER_CONCURRENCY="1", **settings) for _ in range(2)]
    product.wait_for_log("webhooks_begin")  # a new endpoint gets what happens from then on
    videos: list[str] = []
    for kill in range(KILLS):
        with _receiving(port, file):
            if len(videos) < VIDEOS:
                videos.append(product.upload(clip))
            if kill == KILLS // 2:
                videos.append(product.upload(broken))
                with product.client() as client:
                    client.delete(f"/api/videos/{videos[0]}").raise_for_status()
            time.sleep(rng.uniform(0, 3))  # until the receiver is killed, wherever it is
        victim = rng.randrange(4)
        if victim < 2:
            stop(workers[victim], signal.SIGKILL)
            workers[victim] = product.start_worker(WORKER_CONCURRENCY="1", **settings)
        elif victim == 2:
            stop(api, signal.SIGKILL)
            api = product.start_api()
    *whole, bad = videos[1:]

    with _receiving(port, file):
        for video in whole:
            product.wait_for(video, status="done", seconds=SECONDS)
        product.wait_for(bad, status="error", seconds=SECONDS)
        deadline = time.monotonic() + SECONDS
        while True:
            logged, received = _events(product), file.read_text().split()
            if set(received) >= set(logged) and f"{bad}-0-failed" in logged:
                break
            assert time.monotonic() < deadline, sorted(set(logged) - set(received))
            time.sleep(0.5)
        with product.client() as client:
            (webhook,) = client.get("/api/webhooks").json()["webhooks"]
            tests = client.post("/api/webhooks/test").json()["tests"]

    must = {f"{video}-0-{kind}" for video in whole for kind in ("created", "playable", "done")}
    must |= {f"{bad}-0-created", f"{bad}-0-failed", f"{videos[0]}-0-created", f"{videos[0]}-0-deleted"}
    assert must <= set(received)
    latest: dict[str, tuple[float, int]] = {}
    for event in dict.fromkeys(received):
        one = keys.parse_announcement(keys.announcement(event))
        rank = rank_of(one.number, one.kind)
        assert rank > latest.get(one.subject, (-2, 0)), received
        latest[one.subject] = rank
    assert (webhook["given_up"], webhook["held"]) == (0, 0)
    assert tests == [{"address": f"http://127.0.0.1:{port}", "delivered": True, "error": None}]
