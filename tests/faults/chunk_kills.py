"""Kills of workers that divide films and share the units, each at a step of the work or shortly after it.

`python -m tests.faults.chunk_kills --kills 300 --seed 7`, as `tests.faults.kills`.
"""

import asyncio
import json
import random
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

from backend.core import keys
from backend.core.records import Outputs
from backend.core.store.s3 import open_buckets
from tests.faults.kills import SETTINGS, Mayhem, main
from tests.faults.victims import Worker
from tests.lab.checker import store_settings
from tests.lab.product import product_on
from tests.lab.server import StoreServer
from tests.worker.media_lab import H264, ffmpeg
from tests.worker.units.numbered import beeps, pictures, shown_by, write_pictures
from worker.output.playlists import parse_playlist

FPS, SECONDS = 24, 10
LEASE_SECONDS = 6
"""Enough for a busy machine to park and to publish: each may take a third of it."""
DIVIDED = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "CHUNK_SECONDS": "2",
    "SEGMENT_SECONDS": "1",
    "RUNGS": "90",
    "RENDITION_CODECS": "h264",
}
LEASE = timedelta(seconds=LEASE_SECONDS)
MOMENTS = {
    "planning or joining": ('"job_started"',),
    "parking": ('"job_divided"',),
    "making a look": ('"unit_started"', '"look"'),
    "showing a look": ('"look_playable"',),
    "making sides": ('"unit_started"', '"sides"'),
    "encoding": ('"unit_started"', '"c000'),
    "ending a unit": ('"unit_finished"',),
    "cleaning up": ('"job_published"',),
}
"""What a worker does, and the words of the line that it logs just before."""
MOMENT_SECONDS = 3.0
"""How long to wait for one; then another is chosen."""


class FilmMayhem(Mayhem):
    """Kills nothing but workers, at these moments."""

    victims: ClassVar[Mapping[str, int]] = dict.fromkeys(MOMENTS, 1)
    workers: ClassVar[int] = 4
    unfinished: ClassVar[int] = 8
    pause_seconds: ClassVar[float] = 1.0

    def start_worker(self) -> Worker:
        log = self.product.logs / f"worker-{len(self.product.processes)}.log"
        worker = Worker(self.product.environment, log)
        self.product.processes.append(worker)
        return worker

    def strike(self, victim: str) -> bool:
        worker = self._first_to(MOMENTS[victim])
        if worker is None:
            return False
        time.sleep(self.rng.choice((0, self.rng.uniform(0, 0.2), self.rng.uniform(0, 1))))
        self.replace(worker)
        self.kills[victim] += 1
        return True

    def _first_to(self, words: Iterable[str]) -> Worker | None:
        """Return the worker that is the first to log a new line with these words. None: none does soon."""
        begun = {worker: len(worker.log.read_bytes()) for worker in self._workers}
        deadline = time.monotonic() + MOMENT_SECONDS
        while time.monotonic() < deadline:
            for worker, size in begun.items():
                lines = worker.log.read_bytes()[size:].decode(errors="replace").splitlines()
                if any(all(word in line for word in words) for line in lines):
                    return worker
            time.sleep(0.01)
        return None


def kill_dividing(server: StoreServer, directory: Path, kills: int, seed: int) -> Mayhem:
    """Kill workers that divide films; then look for missing frames, and for units that were done again."""
    film, raw = directory / "film.mp4", directory / "pictures"
    write_pictures(raw, FPS * SECONDS)
    shown = (*H264, "-bf", "2", "-g", "48", "-c:a", "aac")
    ffmpeg(*pictures(raw, str(FPS)), *beeps(SECONDS), *shown, str(film))
    store = (server.endpoint_url, server.access_key, server.secret_key)
    with product_on(*store, directory, **{**SETTINGS, **DIVIDED}) as product:
        mayhem = FilmMayhem(product, film, random.Random(seed))
        mayhem.run(kills)
        asyncio.run(_check_videos(product.environment, mayhem.acknowledged, directory))
    assert _done_again(directory.glob("worker-*.log")) == []
    return mayhem


def _done_again(logs: Iterable[Path]) -> list[str]:
    """Return which units a worker began after they had ended.

    If it began at about that time, the other worker had been silent for too long.
    """
    lines = (line for log in logs for line in log.read_text(errors="replace").splitlines())
    events = [json.loads(line) for line in lines if '"unit_started"' in line or '"unit_finished"' in line]
    ended: dict[tuple[str, str], datetime] = {}
    wrong = []
    for event in sorted(events, key=lambda one: str(one["timestamp"])):
        unit, at = (event["request"], event["unit"]), datetime.fromisoformat(event["timestamp"])
        if event["event"] == "unit_finished" and event["won"]:
            ended[unit] = at
        elif event["event"] == "unit_started" and at - ended.get(unit, at) > LEASE:
            wrong.append(f"{unit}, ended at {ended[unit]}, was begun at {at}")
    return wrong


async def _check_videos(environment: dict[str, str], videos: Iterable[str], directory: Path) -> None:
    """Assert that every rendition of these videos shows all frames in their places, and no look is left."""
    async with open_buckets(store_settings(environment)) as buckets:
        for video_id in videos:
            result = keys.result(video_id, keys.request_name(video_id))
            outputs = Outputs.from_json((await buckets.video.get(result)).body)
            looks = buckets.video.list_all(keys.looks_of_request(video_id, outputs.request))
            assert [info.key async for info in looks] == []

            async def body(path: str, prefix: str = keys.run_prefix(video_id, outputs.run)) -> bytes:
                return (await buckets.video.get(prefix + path)).body

            files = {keys.DOWNLOAD: await body(keys.DOWNLOAD)}
            for name in (one.name for one in outputs.renditions if one.kind == "video"):
                playlist = parse_playlist(f"hls/{name}.m3u8", await body(f"hls/{name}.m3u8"))
                files[name] = b"".join([await body(part) for part in playlist.names])
            for name, content in files.items():
                (directory / "film").write_bytes(content)
                numbers = [frame.number for frame in shown_by(directory / "film", directory / "times")]
                assert numbers[: FPS * SECONDS] == list(range(FPS * SECONDS)), (video_id, name)
                assert set(numbers[FPS * SECONDS :]) <= {FPS * SECONDS - 1}, (video_id, name)


if __name__ == "__main__":
    main(kill_dividing)
