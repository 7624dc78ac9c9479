"""Short clips that are all sent to `POST /api/convert` at once, against a pool of bare ffmpeg.

The pool runs the worker's own encoder command once per clip, as `bench.burst` does. Every answer is decoded:
it counts only if it is a whole clip.
"""

import asyncio
import resource
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import aiohttp

from backend.core.settings import WorkerSettings
from bench.burst import CLIP_SECONDS, CORES, encoder_of, from_file, pool, used_by
from bench.table import print_table
from tests.lab.checker import assert_at_rest
from tests.lab.clips import make_clip
from tests.lab.product import ADMIN_TOKEN, Product, product_on
from tests.lab.rgw import rgw
from tests.lab.server import free_port
from worker.sandbox.tools import find_tools

FPS = 30
PATIENCE_SECONDS = 3600


def bench_convert(clips: int) -> None:
    """Print wall and CPU time against the pool's, and how long the answers took."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, most)
    )  # a connection for each clip, here and in the API
    bell = f"127.0.0.1:{free_port()}"
    settings = {"DOORBELLS": bell, "DOORBELL": bell, "SWEEP_EVERY_SECONDS": "0", "WORKER_POLL_SECONDS": "5"}
    waiting = {"CONVERT_WAIT_SECONDS": str(PATIENCE_SECONDS), "CONVERT_AT_ONCE": str(max(1, clips))}
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        logs, store = Path(directory), gateway.server
        clip = make_clip(logs / "clip.mp4", seconds=CLIP_SECONDS, fps=FPS)
        with product_on(
            *(store.endpoint_url, store.access_key, store.secret_key, logs), **settings, **waiting
        ) as product:
            api, worker = product.start_api(), product.start_worker()
            with ThreadPoolExecutor(1) as threads:
                first = threads.submit(asyncio.run, _all(product, clip.read_bytes(), 1))
                bare = from_file(encoder_of(worker.pid), clip)
                first.result()
            before = pool(bare, clips // 2)
            used, began = used_by(gateway, api.pid, worker.pid), time.perf_counter()
            answers = asyncio.run(_all(product, clip.read_bytes(), clips))
            wall = time.perf_counter() - began
            used = [now - then for now, then in zip(used_by(gateway, api.pid, worker.pid), used, strict=True)]
            after = pool(bare, clips - clips // 2)
            assert_at_rest(product.environment, done=set())
    _check(answers)
    pool_wall, pool_cpu = before[0] + after[0], before[1] + after[1]
    seconds = sorted(took for took, _, _ in answers)
    print_table(
        f"{clips} clips of {CLIP_SECONDS} s at 320x180, all converted at once, on {CORES} cores",
        ["way", "wall time, s", "ratio", "CPU time, s", "ratio", "to the answer, s"],
        [
            [
                *("vodbucket", f"{wall:.0f}", f"{wall / pool_wall:.2f}"),
                *(
                    f"programs {used[3]:.0f}, worker {used[2]:.0f}, API {used[1]:.0f}, store {used[0]:.0f}",
                    f"{sum(used) / pool_cpu:.2f}",
                ),
                f"median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f}",
            ],
            ["bare ffmpeg, a pool", f"{pool_wall:.0f}", "1.00", f"{pool_cpu:.0f}", "1.00", "-"],
        ],
    )


Answer = tuple[float, int, bytes]
"""How long it took, in seconds, its status and its body."""


async def _all(product: Product, body: bytes, times: int) -> list[Answer]:
    """Send the clip so often at once, and return the answers."""
    limits = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=limits) as session:

        async def convert() -> Answer:
            began = time.perf_counter()
            asked = session.post(f"{product.url}/api/convert", data=body, headers=SIGNED_IN)
            async with asked as answer:
                return time.perf_counter() - began, answer.status, await answer.read()

        return await asyncio.gather(*(convert() for _ in range(times)))


def _check(answers: list[Answer]) -> None:
    """Decode every answer: each must be a whole clip."""
    ffmpeg = find_tools(WorkerSettings()).ffmpeg
    decode = (ffmpeg, "-v", "error", "-xerror", "-i", "-", "-map", "0:v", "-f", "framecrc", "-")

    def check(answer: Answer) -> None:
        _, status, body = answer
        assert status == HTTPStatus.OK, (status, body)
        decoded = subprocess.run(decode, input=body, check=True, capture_output=True)
        frames = [line for line in decoded.stdout.splitlines() if not line.startswith(b"#")]
        assert len(frames) == CLIP_SECONDS * FPS, len(frames)

    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(check, answers))


SIGNED_IN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
