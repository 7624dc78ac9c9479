"""Kills of workers, and cancelled jobs, at every stage of every way to fetch.

`python -m tests.faults.fetch_kills --kills 300 --seed 7`, as `tests.faults.kills`.
"""

import asyncio
import hashlib
import json
import random
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import boto3
import httpx

from backend.core import keys
from backend.core.settings import WorkerSettings
from tests.faults.kills import SETTINGS, Mayhem, main
from tests.faults.victims import Worker
from tests.lab.checker import assert_at_rest
from tests.lab.clips import make_clip
from tests.lab.processes import descendants, is_alive
from tests.lab.product import Product, product_on
from tests.lab.proxy import FaultProxy
from tests.lab.server import StoreServer
from tests.lab.wire_faults import AnswerLost, Call, Forwarded, Reset
from tests.worker.fetch.file_server import FileServer, serving
from tests.worker.fetch.ftp_server import ftp_server
from tests.worker.fetch.torrents import make_torrent, seeding, tracking
from worker.sandbox.tools import find_tools
from worker.sandbox.workspace import PREFIX

MIB = 1024 * 1024
FILM_BYTES = 9 * MIB
"""Two parts."""
BYTES_PER_SECOND = 8 * MIB
PIECE_BYTES = MIB // 4
STORED = {"storing": "UploadPart", "completing": "CompleteMultipartUpload"}
STREAMED = {"asking": "fetch_started", **STORED}
STAGES: Mapping[str, Mapping[str, str]] = {
    "http": STREAMED,
    "ftp": STREAMED,
    "s3": STORED,
    "aria2": {**STORED, "starting": "aria2.conf", "receiving": "files/*/film.mp4"},
    "ytdlp": {**STREAMED, "receiving": "media.*", "joining": "joined.mkv"},
}
"""What shows each stage of a fetch: an event of the log, a call of the store or a file in the workspace."""
MOMENT_SECONDS = 6.0
"""How long to wait for one; then another is chosen."""
GONE_SECONDS = 20.0
FETCHING = {
    "FETCH_CONCURRENCY": str(len(STAGES)),
    "ALLOW_PRIVATE_URLS": "true",
    "KEEP_ORIGINALS": "true",
    "LEASE_SECONDS": "4",
    "CHUNK_SECONDS": "0",
    "RUNGS": "90",
    "RENDITION_CODECS": "h264",
}


@dataclass
class FetchMayhem(Mayhem):
    """One video of each kind is under way. Its worker is killed, or its job cancelled, at a stage."""

    victims: ClassVar[Mapping[str, int]] = dict.fromkeys(
        [f"kill {kind} {stage}" for kind, stages in STAGES.items() for stage in stages]
        + [f"cancel {kind}" for kind in STAGES],
        1,
    )
    workers: ClassVar[int] = 1
    pause_seconds: ClassVar[float] = 0.5
    wire: FaultProxy = field(kw_only=True)
    sources: Mapping[str, str] = field(kw_only=True)
    work_dir: Path = field(kw_only=True)
    kinds: dict[str, str] = field(default_factory=dict)
    """Of each video."""
    latest: dict[str, str] = field(default_factory=dict)
    """The video of each kind."""
    cancelled: set[str] = field(default_factory=set)

    def start_worker(self) -> Worker:
        log = self.product.logs / f"worker-{len(self.product.processes)}.log"
        worker = Worker(self.product.environment, log)
        self.product.processes.append(worker)
        return worker

    def strike(self, victim: str) -> bool:
        end, kind, *stage = victim.split()
        sign = STAGES[kind][stage[0] if stage else self.rng.choice([*STAGES[kind]])]
        if sign[0].isupper():
            struck = self._at_call(end, kind, sign)
        else:
            struck = self._when_seen(kind, sign) and self._end(end, kind)
        if struck:
            self.kills[victim] += 1
        return struck

    def replace(self, worker: "subprocess.Popen[bytes] | Worker") -> None:
        """As before, and see the programs die that it ran."""
        programs = descendants(worker.pid)
        super().replace(worker)
        deadline = time.monotonic() + GONE_SECONDS
        while alive := [name for pid, name in programs.items() if is_alive(pid)]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.05)

    def check(self, done: set[str]) -> None:
        assert_at_rest(self.product.environment, done=done, originals=done)
        film = self.clip.read_bytes()
        with self.product.client() as client:
            for video_id in done:
                original = client.get(f"/api/videos/{video_id}/original", follow_redirects=True).content
                if self.kinds[video_id] == "ytdlp":  # another container
                    (self.work_dir / "original").write_bytes(original)
                    assert _frames(self.work_dir / "original") == _frames(self.clip), video_id
                else:
                    assert _digest(original) == _digest(film), (video_id, self.kinds[video_id])
        assert list(self.work_dir.glob(f"{PREFIX}*")) == []

    def _at_call(self, end: str, kind: str, operation: str) -> bool:
        """End it just before or just after the store carries out such a call, if there is one soon."""
        ended = list[bool]()
        over = threading.Event()

        def matches(call: Call) -> bool:
            return call.operation == operation and call.key == keys.upload(self._current(kind))

        def strike(_: Call) -> None:
            try:
                ended.append(self._end(end, kind))
            finally:
                over.set()

        faults = (Forwarded(),) if end == "cancel" else (Reset("request"), AnswerLost())
        rule = self.wire.inject(matches, self.rng.choice(faults), then=strike)
        if not over.wait(MOMENT_SECONDS):
            self.wire.forget(rule)
        if rule.struck:
            over.wait()
        return ended == [True]

    def _when_seen(self, kind: str, sign: str) -> bool:
        """Wait until the worker logs such an event, or its workspace has such a file."""
        log: Path = self._workers[0].log  # type: ignore[union-attr]  # it starts no others
        begun = log.stat().st_size
        deadline = time.monotonic() + MOMENT_SECONDS
        words = (f'"{sign}"', f'"kind": "{kind}"')
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError):  # a workspace has just ended
                if any(self.work_dir.glob(f"{PREFIX}*/{sign}")):
                    return True
            lines = log.read_bytes()[begun:].decode(errors="replace").splitlines()
            if any(all(word in line for word in words) for line in lines):
                return True
            time.sleep(0.01)
        return False

    def _end(self, end: str, kind: str) -> bool:
        time.sleep(self.rng.choice((0, 0, self.rng.uniform(0, 0.5))))
        if end == "kill":
            self.replace(self._workers[0])
            return True
        video_id = self._current(kind)
        with self.product.client() as client:
            if client.delete(f"/jobs/{video_id}").status_code != httpx.codes.NO_CONTENT:
                return False  # it has just ended
        self.cancelled.add(video_id)
        self.acknowledged.discard(video_id)
        return True

    def _current(self, kind: str) -> str:
        return self.latest.get(kind, "none")

    def _keep_uploading(self) -> None:
        while not self._over.is_set():
            with self.product.client() as client:
                for kind in STAGES:
                    status = client.get(f"/api/videos/{self._current(kind)}/status").json()
                    if status.get("status") not in {"queued", "processing"}:
                        self._fetch(client, kind)
            self._over.wait(self.pause_seconds)

    def _fetch(self, client: httpx.Client, kind: str) -> None:
        route = "/download/yt-dlp" if kind == "ytdlp" else "/upload/remote"
        answer = client.post(route, json={"url": self.sources[kind]})
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        self.latest[kind] = video_id = answer.json()["id"]
        self.kinds[video_id] = kind
        self.acknowledged.add(video_id)

    def _come_to_rest(self) -> None:
        with self.product.client() as client:
            for video_id in self.cancelled:
                status = client.get(f"/api/videos/{video_id}/status").json()
                assert status["error"]["code"] == "cancelled", status
                assert client.delete(f"/api/videos/{video_id}").is_success
        super()._come_to_rest()


def kill_fetching(server: StoreServer, directory: Path, kills: int, seed: int) -> Mayhem:
    """Kill workers and cancel jobs while files are fetched in all ways; then compare what was stored."""
    film = make_clip(directory / "film.mp4", seconds=2, width=160, height=90)
    with film.open("ab") as file:  # a box that players skip
        file.write((FILM_BYTES - film.stat().st_size).to_bytes(4) + b"free")
        file.write(random.Random(seed).randbytes(FILM_BYTES - file.tell()))
    work_dir = directory / "work"
    work_dir.mkdir()
    with ExitStack() as stack:
        wire = stack.enter_context(FaultProxy(server))
        store = (wire.server.endpoint_url, server.access_key, server.secret_key)
        settings = {**SETTINGS, **FETCHING, "WORK_DIR": str(work_dir)}
        product = stack.enter_context(product_on(*store, directory, **settings))
        sources = stack.enter_context(_in_thread(_sources(film, directory, product)))
        mayhem = FetchMayhem(
            product, film, random.Random(seed), wire=wire, sources=sources, work_dir=work_dir
        )
        mayhem.run(kills)
    return mayhem


T = TypeVar("T")


@contextmanager
def _in_thread(serving: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Serve beside tests without an event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        served = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
        try:
            yield served
        finally:
            asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def _sources(film: Path, directory: Path, product: Product) -> AsyncIterator[dict[str, str]]:
    """Serve the film in all ways, slowly. Yields its addresses by kind."""
    body = film.read_bytes()
    (directory / "ftp").mkdir()
    (directory / "ftp/film.mp4").write_bytes(body)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(serving(_SlowServer(body)))
        page = FileServer(_page(http.url), headers=("Content-Type: text/html",))
        announce = await stack.enter_async_context(tracking())
        torrent = make_torrent("films", {"film.mp4": body}, announce)
        seeds = seeding(torrent, "films", {"film.mp4": body}, directory, bytes_per_second=BYTES_PER_SECOND)
        await stack.enter_async_context(seeds)
        ftp = ftp_server(directory / "ftp", bytes_per_second=BYTES_PER_SECOND)
        yield {
            "http": http.url,
            "ftp": f"{stack.enter_context(ftp)}/film.mp4",
            "s3": _put(film, product),
            "aria2": torrent.magnet,
            "ytdlp": (await stack.enter_async_context(serving(page))).url,
        }


class _SlowServer(FileServer):
    async def _send(self, body: bytes, writer: asyncio.StreamWriter, *, last: bool = False) -> None:
        for start in range(0, len(body), PIECE_BYTES):
            writer.write(body[start : start + PIECE_BYTES])
            await writer.drain()
            await asyncio.sleep(PIECE_BYTES / BYTES_PER_SECOND)


def _page(address: str) -> bytes:
    """Describe a film with chapters, for which it is put into another container."""
    parts = [{"@type": "Clip", "name": str(at), "startOffset": at, "endOffset": at + 1} for at in (0, 1)]
    film = {"@type": "VideoObject", "name": "Film", "contentUrl": address, "hasPart": parts}
    described = json.dumps({"@context": "https://schema.org", **film})
    return f'<title>Film</title><script type="application/ld+json">{described}</script>'.encode()


def _put(film: Path, product: Product) -> str:
    """Put it into a bucket of its own, from which the product may import."""
    environment = product.environment
    bucket = environment["IMPORT_BUCKETS"] = environment["S3_RAW_BUCKET"].replace("raw", "films")
    s3 = boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    s3.create_bucket(Bucket=bucket)
    s3.upload_file(str(film), bucket, "film.mp4")
    return f"s3://{bucket}/film.mp4"


def _frames(film: Path) -> bytes:
    ffmpeg = find_tools(WorkerSettings()).ffmpeg
    decode = (ffmpeg, "-v", "error", "-i", film, "-map", "0:v", "-fps_mode", "passthrough", "-f", "md5", "-")
    return subprocess.run(decode, check=True, capture_output=True).stdout


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


if __name__ == "__main__":
    main(kill_fetching)
