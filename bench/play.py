"""Playback: how many requests under /play one core answers, and what viewers cost the store.

The API has one core, the load generator and the store share the other. Each round also measures a bare
Litestar route on the same core. Ratios to it are of requests per second of CPU time, so that other programs
on the core do not count. The playlists are those of a film of ten minutes with two captions.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import botocore.session
from botocore.config import Config
from pydantic import HttpUrl, SecretStr

from backend.core import keys
from backend.core.ids import new_id
from backend.core.records import CaptionTrack, Status, Video, Visibility
from backend.core.settings import StoreSettings
from backend.core.store.interface import Buckets, PresignedGet
from backend.core.store.s3 import open_buckets
from backend.core.store.s3.presign import Credentials, Presigner
from bench.load import count_answers
from bench.table import print_table
from bench.tree import cpu_seconds
from tests.backend.conftest import begin_run, publish
from tests.lab.embedded import embedded
from tests.lab.product import Product, product_on
from tests.lab.proxy import FaultProxy
from tests.lab.server import free_port, running

API_CORE, LOAD_CORE = 0, 1
SECONDS, SLICES = 0.5, 8
"""Each round measures every way so many times for so long. In short turns, a busy machine is fair to all."""
CONNECTIONS = 32
VIDEOS = 10
SEGMENTS = 150
"""Of four seconds. With all videos and renditions, the paths do not fit in the router's cache."""
RENDITIONS = ("h264-360p", "h264-720p", "h264-1080p", "aac")
RUN = "r0-0-0123456789abcdef"
VIEWERS = 200
POLL_SECONDS = 2.0
SIGNATURES = 5000


def bench_play(rounds: int) -> None:
    """Print requests per second, the ratio to a bare route, presigning, and reads of the store."""
    _bench_presigning()
    with _on_core(LOAD_CORE), tempfile.TemporaryDirectory() as directory:
        logs = Path(directory)
        with (
            embedded(logs) as server,
            product_on(server.endpoint_url, server.access_key, server.secret_key, logs) as product,
        ):
            api = product.start_api()
            port = free_port()
            bare_url = f"http://127.0.0.1:{port}"
            command = (sys.executable, "-m", "bench.bare", str(port))
            with running(command, url=bare_url, log=logs / "bare.log") as bare:
                _pin(api.pid, API_CORE)
                _pin(bare.pid, API_CORE)
                roots = asyncio.run(_publish_films(product))
                _bench_requests(_Server(product.url, api.pid), _Server(bare_url, bare.pid), roots, rounds)
            with FaultProxy(server) as proxy:
                _bench_viewers(product, proxy)


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    pid: int


def _bench_requests(api: _Server, bare: _Server, roots: list[str], rounds: int) -> None:
    media = [f"{root}/media/{name}" for root in roots for name in RENDITIONS]
    playlists = [f"{root}/hls/{name}.m3u8" for root in roots for name in RENDITIONS]
    ways = {
        "bare Litestar route": (bare, ["/"], 200),
        "redirect to a segment": (api, [f"{to}/{n:05}.m4s" for to in media for n in range(SEGMENTS)], 307),
        "HLS master playlist": (api, [f"{root}/{keys.MASTER_PLAYLIST}" for root in roots], 200),
        "HLS media playlist": (api, playlists, 200),
        "DASH manifest": (api, [f"{root}/{keys.DASH_MANIFEST}" for root in roots], 200),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds * SLICES):
        for name, (server, paths, status) in ways.items():
            before = cpu_seconds(server.pid)
            answers = count_answers(
                server.url, paths, seconds=SECONDS, connections=CONNECTIONS, status=status
            )
            rates[name].append(answers / (cpu_seconds(server.pid) - before))
    of_bare = rates["bare Litestar route"]
    rows = [
        [
            name,
            f"{statistics.median(found):.0f}",
            f"{statistics.median(a / b for a, b in zip(found, of_bare, strict=True)):.2f}",
        ]
        for name, found in rates.items()
    ]
    title = f"Requests on one core, {CONNECTIONS} connections, embedded store, {rounds} rounds (medians)"
    print_table(title, ["request", "per second of CPU time", "ratio to the bare route"], rows)


def _bench_presigning() -> None:
    endpoint, bucket, key = (
        "http://127.0.0.1:9000",
        "films",
        keys.run_prefix(new_id(), RUN) + "media/aac/1.m4s",
    )
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    sdk = session.create_client("s3", region_name="us-east-1", endpoint_url=endpoint, config=config)
    credentials = Credentials("AKIDEXAMPLE", "secret")
    ours = Presigner(f"{endpoint}/{bucket}", "us-east-1", lambda: credentials)
    how = PresignedGet(900, signed_at=datetime.now(UTC))
    began = time.process_time()
    for _ in range(SIGNATURES // 10):
        sdk.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=900)
    by_sdk = (time.process_time() - began) * 10
    began = time.process_time()
    for _ in range(SIGNATURES):
        ours.get_url(key, how)
    by_us = time.process_time() - began
    rows = [
        ["botocore", f"{SIGNATURES / by_sdk:.0f}", "1"],
        ["vodbucket", f"{SIGNATURES / by_us:.0f}", f"{by_sdk / by_us:.0f}"],
    ]
    print_table("Presigned URLs", ["by", "per second of CPU time", "ratio to botocore"], rows)


def _bench_viewers(product: Product, proxy: FaultProxy) -> None:
    """Let one viewer, then many, follow a growing playlist, and count what the API reads meanwhile."""
    port = free_port()
    _pin(product.start_api(port, S3_ENDPOINT_URL=proxy.server.endpoint_url).pid, API_CORE)
    root = asyncio.run(_begin_film(product))
    rows = []
    for viewers in (1, VIEWERS):
        before = len(proxy.calls)
        answers = asyncio.run(_follow(port, f"{root}/hls/{RENDITIONS[0]}.m3u8", viewers))
        reads = Counter(call.operation for call in proxy.calls[before:])
        rows.append(
            [
                str(viewers),
                str(len(answers)),
                ", ".join(f"{operation} {count}" for operation, count in sorted(reads.items())),
                f"{statistics.median(answers) * 1000:.1f} ms",
                f"{max(answers) * 1000:.0f} ms",
            ]
        )
    header = ["viewers", "requests", "requests to the store", "answered in: median", "longest"]
    print_table(f"Viewers of a growing playlist, each asking every {POLL_SECONDS:g} s for 10 s", header, rows)


async def _follow(port: int, path: str, viewers: int) -> list[float]:
    """Poll the playlist from so many connections, and return how long each answer took."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    seconds: list[float] = []

    async def watch(delay: float) -> None:
        await asyncio.sleep(delay)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(5):
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]))
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(POLL_SECONDS)
        writer.close()

    await asyncio.gather(*(watch(POLL_SECONDS * number / viewers) for number in range(viewers)))
    return seconds


async def _publish_films(product: Product) -> list[str]:
    """Publish films without encoding any, and return the addresses of their runs."""
    captions = [
        CaptionTrack(path=f"captions/{n}-{tag}.vtt", language=tag) for n, tag in enumerate(("en", "de"))
    ]
    async with open_buckets(_settings(product)) as buckets:
        ids = [await _add(buckets) for _ in range(VIDEOS)]
        for video_id in ids:
            await publish(buckets, video_id, RUN, captions=captions, also=_manifests())
    return [await _root(product, video_id) for video_id in ids]


async def _begin_film(product: Product) -> str:
    async with open_buckets(_settings(product)) as buckets:
        video_id = await _add(buckets)
        prefix = await begin_run(buckets, video_id, RUN)
        for path, body in _manifests(ended=False).items():
            await buckets.video.put(prefix + path, body)
    return await _root(product, video_id)


async def _add(buckets: Buckets) -> str:
    now = datetime.now(UTC)
    video = Video(
        id=new_id(),
        title="A film",
        filename="f.mp4",
        size_bytes=1,
        visibility=Visibility.PUBLIC,
        created_at=now,
    )
    await buckets.video.put(keys.video_record(video.id), video.to_json())
    await buckets.video.put(keys.status(video.id), Status.queued(video.id, now).to_json())
    return video.id


async def _root(product: Product, video_id: str) -> str:
    with product.client() as client:
        link: str = client.get(f"/api/videos/{video_id}/playback").json()["hls"]
    return f"{link.removesuffix(keys.MASTER_PLAYLIST)}{RUN}"


def _manifests(*, ended: bool = True) -> dict[str, bytes]:
    variants = "".join(f"#EXT-X-STREAM-INF:BANDWIDTH=1154770\n{name}.m3u8\n" for name in RENDITIONS)
    end = "#EXT-X-ENDLIST\n" if ended else ""
    media = {}
    for name in RENDITIONS:
        segments = "".join(f"#EXTINF:4.000,\n../media/{name}/{number:05}.m4s\n" for number in range(SEGMENTS))
        head = f'#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="../media/{name}/init.mp4"\n'
        media[f"hls/{name}.m3u8"] = f"{head}{segments}{end}".encode()
    sets = "".join(
        f'<AdaptationSet id="{name}"><Representation id="{name}" bandwidth="1"><SegmentTemplate'
        f' initialization="../media/{name}/init.mp4" media="../media/{name}/$Number$.m4s"><SegmentTimeline>'
        f'<S t="0" d="4" r="{SEGMENTS}"/></SegmentTimeline></SegmentTemplate></Representation>'
        "</AdaptationSet>"
        for name in RENDITIONS
    )
    mpd = f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period id="0">{sets}</Period></MPD>'
    return {keys.MASTER_PLAYLIST: f"#EXTM3U\n{variants}".encode(), keys.DASH_MANIFEST: mpd.encode(), **media}


def _settings(product: Product) -> StoreSettings:
    environment = product.environment
    return StoreSettings(
        s3_endpoint_url=HttpUrl(environment["S3_ENDPOINT_URL"]),
        s3_raw_bucket=environment["S3_RAW_BUCKET"],
        s3_video_bucket=environment["S3_VIDEO_BUCKET"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=SecretStr(environment["AWS_SECRET_ACCESS_KEY"]),
    )


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """Keep this process, and what it starts, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _pin(pid: int, core: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
