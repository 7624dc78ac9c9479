"""Worker processes, real media, a real store, kill -9: each video once, nothing lost, nothing left."""

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.faults.registry import row
from tests.lab.checker import assert_at_rest, has_open_upload
from tests.lab.clips import make_clip
from tests.lab.processes import descendants, is_alive
from tests.lab.product import ADMIN_TOKEN, Product, stop
from tests.lab.rgw import RadosGateway

pytestmark = [pytest.mark.heavy, pytest.mark.spread]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "short.mp4", seconds=3, width=320, height=180)


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a kind that is not divided (tests/system/test_units.py has those that are)."""
    return make_clip(tmp_path_factory.mktemp("clips") / "long.ts", seconds=8, width=1280, height=720)


@row(
    "two-workers",
    fault="two workers share ten videos",
    expected="each encoded once",
)
def test_two_workers_encode_each_of_ten_videos_once(product: Product, clip: Path) -> int:
    product.start_api()
    for _ in range(2):
        product.start_worker()

    with ThreadPoolExecutor(4) as pool:
        videos = set(pool.map(lambda _: product.upload(clip), range(10)))
    for video in videos:
        product.wait_for(video, status="done", seconds=240)

    for worker in product.processes[1:]:
        stop(worker)
    started = [log.read_text().count('"job_started"') for log in product.logs.glob("worker-*.log")]
    assert len(started) == 2
    assert min(started) >= 1
    assert sum(started) == 10
    assert_at_rest(product.environment, done=videos)
    return 10


@row(
    "worker-killed",
    fault="SIGKILL of a worker while encoding",
    expected="its encoders die too; another takes over and completes",
)
def test_another_worker_takes_over_from_killed_one(product: Product, long_clip: Path) -> int:
    doomed, video = product.start_with(long_clip)
    _wait_until_encoding(product, video)
    encoders = descendants(doomed.pid)
    assert encoders

    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    product.start_worker()
    status = product.wait_for(video, status="done", seconds=240)

    assert status["attempt"] == 2
    assert [pid for pid in encoders if is_alive(pid)] == []
    stop(product.processes[-1])
    assert_at_rest(product.environment, done={video})
    return 1


@row(
    "worker-stopped",
    fault="SIGTERM to a worker while encoding",
    expected="hands the job back within 20 s, no attempt counted; another completes it",
)
def test_stopped_worker_hands_its_job_back(product: Product, long_clip: Path) -> int:
    first, video = product.start_with(long_clip)
    _wait_until_encoding(product, video)
    encoders = descendants(first.pid)

    asked = time.monotonic()
    stop(first)
    assert time.monotonic() - asked < 20
    assert first.returncode == 0
    assert [pid for pid in encoders if is_alive(pid)] == []
    product.drain()

    status = product.wait_for(video, status="done", seconds=1)
    assert status["attempt"] == 1
    assert_at_rest(product.environment, done={video})
    return 1


@row(
    "worker-frozen",
    fault="worker frozen past its lease, wakes after another finished",
    expected="late work dropped; published outputs stay",
)
def test_late_work_of_frozen_worker_is_dropped(product: Product, long_clip: Path) -> int:
    sleeper, video = product.start_with(long_clip)
    _wait_until_encoding(product, video)
    sleeper.send_signal(signal.SIGSTOP)
    product.start_worker("--drain").wait(timeout=240)
    published = product.wait_for(video, status="done", seconds=1)

    sleeper.send_signal(signal.SIGCONT)
    product.wait_for_log('"lease_lost"', seconds=30)
    stop(sleeper)

    assert product.wait_for(video, status="done", seconds=1)["outputs"] == published["outputs"]
    assert_at_rest(product.environment, done={video})
    return 1


@row(
    "store-hung",
    fault="store frozen for 10 s while real media is encoded",
    expected="first attempt completes",
)
def test_frozen_store_costs_no_attempt(
    own_product: Product, own_gateway: RadosGateway, long_clip: Path
) -> int:
    product = own_product
    worker, video = product.start_with(long_clip, LEASE_SECONDS="30")
    _wait_until_encoding(product, video)

    own_gateway.pause()
    try:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(own_gateway.server.endpoint_url, timeout=10, trust_env=False)
    finally:
        own_gateway.resume()
    with product.client() as client:
        assert client.get(f"/api/videos/{video}/status").json()["status"] == "processing"
    status = product.wait_for(video, status="done", seconds=240)

    assert status["attempt"] == 1
    stop(worker)
    assert product.log_of("worker").count('"job_started"') == 1
    assert_at_rest(product.environment, done={video})
    return 1


def test_text_file_fails_with_reason_and_keeps_source(product: Product, tmp_path: Path) -> None:
    product.start_api()
    fake = tmp_path / "holiday.mp4"
    fake.write_text("Dear diary, this is not a video.\n" * 100)

    video = product.upload(fake)
    product.drain()
    status = product.wait_for(video, status="error", seconds=1)

    error = status["error"]
    assert isinstance(error, dict)
    assert error["code"]
    assert error["message"].endswith(".")
    assert_at_rest(product.environment, done=set(), failed={video})


@row(
    "api-killed",
    fault="SIGKILL of the API during an upload",
    expected="not acknowledged, no video appears; the next upload is done",
)
def test_upload_to_killed_api_is_not_acknowledged(product: Product, clip: Path, tmp_path: Path) -> int:
    api = product.start_api()
    big = tmp_path / "big.mp4"
    with big.open("wb") as output:
        output.truncate(200 * 1024 * 1024)
    upload = subprocess.Popen(
        [
            *("curl", "-sS", "--limit-rate", "20M", "-H", "Expect:", "-T", str(big), "-X", "POST"),
            *("-H", f"Authorization: Bearer {ADMIN_TOKEN}", f"{product.url}/api/videos?filename=big.mp4"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 10
    while not has_open_upload(product.environment):
        assert time.monotonic() < deadline

    api.kill()
    answer, _ = upload.communicate(timeout=30)
    product.start_api()
    with product.client() as client:
        videos = client.get("/api/videos").json()["videos"]
    video = product.upload(clip)
    product.drain()

    assert b'"id"' not in answer
    assert videos == []
    product.wait_for(video, status="done", seconds=1)
    return 1


def _wait_until_encoding(product: Product, video: str) -> None:
    """Wait until some of the video is encoded, so that there is something to lose."""
    deadline = time.monotonic() + 60
    with product.client() as client:
        while time.monotonic() < deadline:
            status = client.get(f"/api/videos/{video}/status").json()
            if status["stage"] == "transcoding" and status["progress"] > 0.05:
                return
            time.sleep(0.1)
    raise AssertionError(product.log_of("worker"))
