"""The worker's way to its source, with real media: cut, stalled, expired, replaced, gone."""

import asyncio
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.records import DeadLetter, Outputs
from backend.core.settings import WorkerSettings
from backend.core.store.retrying import with_retries
from backend.core.store.s3 import connection, open_buckets
from tests.faults.lab import DRAIN_SECONDS, WireLab, run_worker
from tests.faults.registry import row
from tests.lab.checker import check_at_rest
from tests.lab.clips import make_clip
from tests.lab.wire_faults import Answered, Call, Flipped, Hung, Reset, Stalled, Truncated, calls
from worker.sandbox.tools import find_tools
from worker.transcode.transcoder import EncodingProfile, Transcoder

pytestmark = [pytest.mark.heavy, pytest.mark.spread]

CLIP_SECONDS = 3
SOURCE = calls("GetObject", key="uploads/")
QUICK = EncodingProfile(codecs=("h264",), segment_seconds=1)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, seconds=CLIP_SECONDS, width=640, height=360).read_bytes()


class MediaWorker:
    """A worker with real media in this process, through the proxy."""

    def __init__(self, lab: WireLab, work_dir: Path) -> None:
        self._lab = lab
        self._work_dir = work_dir
        self._tools = find_tools(WorkerSettings())

    async def drain(self, *, max_attempts: int = 3) -> None:
        async with open_buckets(self._lab.through) as opened, asyncio.timeout(DRAIN_SECONDS):
            buckets = with_retries(opened, 75)
            transcoder = Transcoder(buckets, self._tools, QUICK, self._work_dir)
            await run_worker(buckets, transcoder, max_attempts=max_attempts)

    async def assert_whole(self, video: str, *, attempt: int | None = 1) -> None:
        self._lab.proxy.forget()
        outcome = await self._lab.outcome(video)
        assert isinstance(outcome, Outputs), outcome
        assert attempt is None or outcome.attempt == attempt
        assert outcome.duration_seconds == pytest.approx(CLIP_SECONDS, abs=0.2)
        await check_at_rest(self._lab.direct, done={video})
        assert list(self._work_dir.iterdir()) == []


@pytest.fixture
def worker(lab: WireLab, tmp_path: Path) -> MediaWorker:
    return MediaWorker(lab, tmp_path)


@row(
    "source-cut",
    fault="source connection cut 20 times in one job, half by resets",
    expected="resumes at the byte; first attempt, full length",
)
async def test_resumes_source_cut_20_times(lab: WireLab, worker: MediaWorker, clip: bytes) -> int:
    video = await lab.upload(clip)
    step = len(clip) // 30
    rules = [
        lab.proxy.inject(SOURCE, fault)
        for _ in range(10)
        for fault in (Truncated(step), Reset("answer", step))
    ]
    await worker.drain()
    await worker.assert_whole(video)
    return sum(rule.struck for rule in rules)


@row(
    "source-stalled",
    fault="the source stalls twice; one request is never answered",
    expected="timed out and resumed; first attempt, full length",
)
async def test_resumes_stalled_source(
    lab: WireLab, worker: MediaWorker, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> int:
    monkeypatch.setattr(connection, "READ_TIMEOUT_SECONDS", 2.0)
    video = await lab.upload(clip)
    half = len(clip) // 2
    rules = [lab.proxy.inject(SOURCE, fault) for fault in (Stalled(half), Hung(), Stalled(half // 2))]
    await worker.drain()
    await worker.assert_whole(video)
    return sum(rule.struck for rule in rules)


@row(
    "source-expired",
    fault="credentials expire during a job: broken connection, 403 ExpiredToken eight times",
    expected="retried until renewed; first attempt, full length",
)
async def test_source_survives_expired_credentials(lab: WireLab, worker: MediaWorker, clip: bytes) -> int:
    video = await lab.upload(clip)
    cut = lab.proxy.inject(SOURCE, Truncated(len(clip) // 2))
    expired = lab.proxy.inject(SOURCE, Answered(403, "ExpiredToken"), times=8)
    await worker.drain()
    await worker.assert_whole(video)
    return cut.struck + expired.struck


@row(
    "source-replaced",
    fault="source replaced by its first half while read",
    expected="fails with a reason, leaves the source alone",
)
async def test_replaced_source_never_becomes_short_video(
    lab: WireLab, worker: MediaWorker, clip: bytes
) -> int:
    video = await lab.upload(clip)

    def replace(_: Call) -> None:
        lab.put_source(video, clip[: len(clip) // 2])

    lab.proxy.inject(SOURCE, Truncated(len(clip) // 3))
    replaced = lab.proxy.inject(SOURCE, Truncated(len(clip) // 3), then=replace)
    await worker.drain(max_attempts=1)
    outcome = await lab.outcome(video)
    assert isinstance(outcome, DeadLetter)
    assert outcome.error.code == "source_incomplete"
    await lab.assert_failed(video)
    return replaced.struck


@row(
    "source-gone",
    fault="source deleted while read",
    expected="fails with a reason; nothing short is published",
)
async def test_deleted_source_fails_the_job(lab: WireLab, worker: MediaWorker, clip: bytes) -> int:
    video = await lab.upload(clip)
    gone = lab.proxy.inject(SOURCE, Truncated(len(clip) // 3), then=lambda _: lab.delete_source(video))
    await worker.drain(max_attempts=1)
    outcome = await lab.outcome(video)
    assert isinstance(outcome, DeadLetter)
    assert outcome.error.code == "source_missing"
    lab.put_source(video, clip)  # which the checker looks for
    await lab.assert_failed(video)
    return gone.struck


@row(
    "source-flipped",
    fault="a bit of picture data flips in every read of the first attempt",
    expected="full length, or failed with source kept; never short",
)
async def test_flipped_source_bit_never_becomes_short_video(
    lab: WireLab, worker: MediaWorker, clip: bytes
) -> int:
    video = await lab.upload(clip)
    flips = lab.proxy.inject(SOURCE, Flipped("answer", len(clip) // 2), times=3)
    await worker.drain()
    await worker.assert_whole(video, attempt=None)
    return flips.struck


@row(
    "outputs-denied",
    fault="the store denies an attempt's outputs (403 AccessDenied), then accepts",
    expected="outputs removed; a later attempt completes",
)
async def test_retries_after_outputs_are_denied(lab: WireLab, worker: MediaWorker, clip: bytes) -> int:
    video = await lab.upload(clip)
    denied = lab.proxy.inject(calls("PutObject", key=keys.MASTER_PLAYLIST), Answered(403, "AccessDenied"))
    await worker.drain()
    await worker.assert_whole(video, attempt=None)
    return denied.struck
