"""Kills at random: uploads continue while the API, workers and encoders are killed again and again.

`python -m tests.faults.kills --kills 300 --seed 7` runs on its own store (`make soak` does so); the
suite's row kills thirty times. Each kind of victim is killed once at first, then they are chosen at
random. A seed gives the same victims and pauses, but the product is not at the same point in its work.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import httpx

from tests.faults.victims import Worker
from tests.lab.checker import assert_at_rest
from tests.lab.clips import make_clip
from tests.lab.processes import descendants
from tests.lab.product import REPOSITORY, Product, product_on, stop
from tests.lab.rgw import rgw
from tests.lab.server import StoreServer

LEASE_SECONDS = 3
QUIET_SECONDS = 300
"""The time for everything acknowledged to finish after the last kill."""
SETTINGS = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "WORKER_POLL_SECONDS": "0.3",
    "MAX_ATTEMPTS": "100",
    "VIDEO_SERVER_ENCODER": "software",
    "SWEEP_EVERY_SECONDS": "0",
}
VICTIMS: Mapping[str, int] = {"api": 2, "worker": 3, "ffmpeg": 3, "packager": 2, "frozen worker": 1}
"""What is killed, with relative frequencies. A frozen worker is resumed after its lease has expired."""


@dataclass
class Mayhem:
    """One run of kills on one installation."""

    victims: ClassVar[Mapping[str, int]] = VICTIMS
    workers: ClassVar[int] = 2
    unfinished: ClassVar[int] = 4
    """The most videos that may be unfinished at a time."""
    pause_seconds: ClassVar[float] = 0.2
    """Between two looks at how many are."""
    product: Product
    clip: Path
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)
    _api: "subprocess.Popen[bytes] | None" = None
    _workers: "list[subprocess.Popen[bytes] | Worker]" = field(default_factory=list)

    def run(self, kills: int) -> None:
        """Kill this often, then wait until all work is finished, and check both buckets."""
        self._api = self.product.start_api()
        self._workers = [self.start_worker() for _ in range(self.workers)]
        uploading = threading.Thread(target=self._keep_uploading)
        uploading.start()
        spared = self.rng.sample(list(self.victims), len(self.victims))
        try:
            while spared or sum(self.kills.values()) - self.kills["frozen worker"] < kills:
                time.sleep(self.rng.uniform(0.05, 0.8))
                (victim,) = spared[:1] or self.rng.choices([*self.victims], [*self.victims.values()])
                struck = self.strike(victim)
                if spared and struck:
                    del spared[0]
        finally:
            self._over.set()
            uploading.join()
        self._come_to_rest()

    def strike(self, victim: str) -> bool:
        """Kill one process of this kind; say whether there was one."""
        if victim == "api" and self._api is not None:
            _kill(self._api)
            self._api = self.product.start_api()
        elif victim == "worker":
            self.replace(self.rng.choice(self._workers))
        elif victim == "frozen worker":
            worker = self.rng.choice(self._workers)
            worker.send_signal(signal.SIGSTOP)
            time.sleep(LEASE_SECONDS + self.rng.uniform(0.5, 2))
            worker.send_signal(signal.SIGCONT)
        else:
            running = [
                pid
                for worker in self._workers
                for pid, name in descendants(worker.pid).items()
                if name.startswith(victim)
            ]
            if not running:
                return False
            try:
                os.kill(self.rng.choice(running), signal.SIGKILL)
            except ProcessLookupError:
                return False
        self.kills[victim] += 1
        return True

    def start_worker(self) -> "subprocess.Popen[bytes] | Worker":
        return self.product.start_worker()

    def replace(self, worker: "subprocess.Popen[bytes] | Worker") -> None:
        """Kill a worker and start another one."""
        _kill(worker)
        time.sleep(self.rng.uniform(0, 0.5))
        self._workers[self._workers.index(worker)] = self.start_worker()

    def _keep_uploading(self) -> None:
        """Upload again and again, as a person who retries does. Only a 201 counts as acknowledged."""
        while not self._over.is_set():
            try:
                if self._unfinished() < self.unfinished:
                    self.acknowledged.add(self.product.upload(self.clip))
                    continue
            except (httpx.HTTPError, AssertionError, KeyError, ValueError):
                pass  # the API was killed
            self._over.wait(self.pause_seconds)

    def _unfinished(self) -> int:
        return sum(status not in {"done", "error"} for status in self._statuses().values())

    def _statuses(self) -> dict[str, str]:
        found: dict[str, str] = {}
        with self.product.client() as client:
            cursor: str | None = ""
            while cursor is not None:
                query = {"limit": 200} | ({"cursor": cursor} if cursor else {})
                page = client.get("/api/videos", params=query).json()
                found |= {video["id"]: video["status"]["status"] for video in page["videos"]}
                cursor = page["next_cursor"]
        return found

    def _come_to_rest(self) -> None:
        """Assert that every acknowledged video is done, and that a sweep leaves nothing but the library."""
        deadline = time.monotonic() + QUIET_SECONDS
        while self.acknowledged & {one for one, word in self._statuses().items() if word != "done"}:
            assert time.monotonic() < deadline, self._statuses()
            time.sleep(0.5)
        self._sweep()
        self.product.drain()
        for worker in self._workers:
            stop(worker)
            assert worker.returncode == 0
        self._sweep()
        statuses = self._statuses()
        assert self.acknowledged <= set(statuses), "an acknowledged upload is gone"
        assert set(statuses.values()) <= {"done"}, statuses
        self.check(set(statuses))

    def check(self, done: set[str]) -> None:
        """Assert that these videos are all that there is."""
        assert_at_rest(self.product.environment, done=done)

    def _sweep(self) -> None:
        """Sweep as an operator does who knows that nothing is running."""
        time.sleep(2)  # the store's clock counts whole seconds; the sweep keeps what is as young as the grace
        subprocess.run(
            [sys.executable, "-m", "vodbucket", "sweep", "--grace", "0", "--uploads-older-than", "0"],
            env=self.product.environment,
            cwd=REPOSITORY,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )


def _kill(process: "subprocess.Popen[bytes] | Worker") -> None:
    process.kill()
    process.wait()


def kill_anything(server: StoreServer, directory: Path, kills: int, seed: int) -> Mayhem:
    """Kill all kinds of victims while small clips are encoded."""
    clip = make_clip(directory / "clip.mp4", seconds=2, width=160, height=90)
    store = (server.endpoint_url, server.access_key, server.secret_key)
    with product_on(*store, directory, **SETTINGS) as product:
        mayhem = Mayhem(product, clip, random.Random(seed))
        mayhem.run(kills)
    return mayhem


def main(kill: Callable[[StoreServer, Path, int, int], Mayhem]) -> None:
    parser = argparse.ArgumentParser(description=kill.__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        mayhem = kill(gateway.server, Path(directory), arguments.kills, arguments.seed)
    kills = ", ".join(f"{victim} {times}" for victim, times in mayhem.kills.most_common())
    sys.stdout.write(
        f"{kills}: {len(mayhem.acknowledged)} acknowledged uploads, all done, nothing else is left\n"
    )


if __name__ == "__main__":
    main(kill_anything)
