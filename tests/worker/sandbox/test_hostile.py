"""Malicious and broken files: each job ends as expected and soon, and nothing else is opened."""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from backend.core.errors import JobFailure, SourceRejected, StoreUnavailable
from backend.core.keys import MASTER_PLAYLIST
from backend.core.store import ranged_read
from backend.core.store.interface import ObjectInfo
from backend.core.uploads.sniff import SNIFF_BYTES, foreign_type
from tests.lab.canary import Canary, canary
from tests.lab.memory import peak_of_children
from tests.lab.memory_store import MemoryStore
from tests.media.hostile import HOSTILE
from tests.media.hostile.broken import flipped, spliced
from tests.media.hostile.corpus import DAMAGED, DONE, FORMATS, TOO_LARGE, UNDECODABLE, Bait, Hostile
from tests.worker.media_lab import RUN, TOOLS, MediaLab
from worker.sandbox.limits import MAX_MEMORY_BYTES
from worker.transcode.transcoder import EncodingProfile

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="canary and memory measurement need Linux"),
    pytest.mark.spread,
]

SECONDS = 90
"""Each takes a second or two; the watchdog ends the one that is slow by design."""
MEMORY_MIB = 1536
PROFILE = EncodingProfile(segment_seconds=1.0, stall_seconds=20)
REJECTED_BY_PROBE = UNDECODABLE | TOO_LARGE
LESS_THAN_A_FRAME_MIB = 700
"""A frame of 30,000 x 30,000 pixels takes 1.3 GiB in 4:2:0."""
LIGHT = frozenset(
    {
        *("nothing", "zeros", "only-the-head-of-mp4", "mp4-cut-after-50-percent"),
        *("hls", "hls-with-a-file", "dash", "concat", "sdp", "svg", "image-sequence"),
        *("a-movie-whose-frames-lie-at-an-address", "h264-of-30000x30000", "hevc-of-30000x30000"),
        *("five-thousand-tracks", "an-flv-whose-second-half-is-18-hours-off"),
    }
)
"""Those in every test run; the others take minutes together."""


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    return {}


@pytest_asyncio.fixture
async def guard(tmp_path: Path) -> AsyncIterator[Canary]:
    async with canary(tmp_path / "canary.bin") as listening:
        yield listening


@pytest.fixture
def bait(guard: Canary, clips: dict[str, bytes], tmp_path: Path) -> Bait:
    return Bait(guard.url, guard.file, TOOLS.ffmpeg, tmp_path, clips)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MediaLab]:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    lab = MediaLab(work_dir, PROFILE)
    yield lab
    assert lab.left_in_work_dir() == []


async def outcome_of(
    lab: MediaLab, guard: Canary, body: bytes, *, memory_mib: float = MEMORY_MIB, final: bool = True
) -> str:
    """Run a job; assert that nothing else is opened and limits hold. Return the failure code, or `DONE`."""
    job = await lab.job(body)
    guard.opened()
    failure: JobFailure | None = None
    started = time.monotonic()
    with peak_of_children(os.getpid()) as peak:
        try:
            async with asyncio.timeout(SECONDS):
                await lab.transcoder().run(job, RUN, lab.reports.append)
        except JobFailure as error:
            failure = error
    assert guard.opened() == []
    assert peak.mib < memory_mib
    assert time.monotonic() - started < SECONDS
    if failure is None:
        assert foreign_type(body[:SNIFF_BYTES]) is None, "the pipeline accepts what uploads reject"
        return DONE
    assert failure.message.endswith((".", "?"))
    assert isinstance(failure, SourceRejected) or failure.failure_code == "stalled" or not final
    return failure.failure_code


def each(*, by_probe: bool) -> list[object]:
    """Return the files that the probe rejects, or the others."""
    return [
        pytest.param(
            hostile,
            id=name,
            marks=() if name in LIGHT else (pytest.mark.heavy, pytest.mark.corpus(hostile.kind)),
        )
        for name, hostile in HOSTILE.items()
        if (hostile.outcomes <= REJECTED_BY_PROBE) == by_probe
    ]


@pytest.mark.parametrize("hostile", each(by_probe=True))
async def test_rejects_files_that_are_not_videos(
    lab: MediaLab, guard: Canary, bait: Bait, hostile: Hostile
) -> None:
    outcome = await outcome_of(lab, guard, hostile.make(bait), memory_mib=LESS_THAN_A_FRAME_MIB)

    assert outcome in hostile.outcomes


@pytest.mark.parametrize("hostile", each(by_probe=False))
async def test_broken_and_oversized_files_end_as_expected(
    lab: MediaLab, guard: Canary, bait: Bait, hostile: Hostile
) -> None:
    assert await outcome_of(lab, guard, hostile.make(bait)) in hostile.outcomes


@pytest.mark.heavy
@pytest.mark.corpus("altered at random")
@pytest.mark.parametrize("seed", range(36))
async def test_randomly_altered_video_is_rejected_or_transcoded(
    lab: MediaLab, guard: Canary, bait: Bait, seed: int
) -> None:
    chance = random.Random(seed)
    clip = bait.clip(chance.choice(tuple(FORMATS)))
    altered = chance.choice((spliced(clip, seed), flipped(clip, seed, 10 ** -chance.uniform(1.5, 4))))

    # some random damage cannot be told from a machine failure
    outcome = await outcome_of(lab, guard, altered, memory_mib=MAX_MEMORY_BYTES / 1024**2, final=False)

    assert outcome in DAMAGED | TOO_LARGE | {DONE, "video_too_long", "encoder_failed", "stalled"}


@pytest.mark.heavy
async def test_tags_of_a_file_cannot_add_lines_to_its_playlists(
    lab: MediaLab, guard: Canary, bait: Bait
) -> None:
    body = HOSTILE["a-film-whose-tags-are-options-of-filters"].make(bait)

    assert await outcome_of(lab, guard, body) == DONE
    master = (await lab.output(MASTER_PLAYLIST)).decode()
    assert "EXT-X-MAP:" in master
    assert [line for line in master.splitlines() if line.startswith("#EXT-X-MAP")] == []


def test_the_corpus_is_large_enough() -> None:
    assert len(HOSTILE) >= 100


class EndlessStore(MemoryStore):
    """One object of a terabyte: a beginning, then one pattern repeated."""

    def __init__(self, inner: MemoryStore, beginning: bytes, pattern: bytes) -> None:
        self.inner = inner
        self.beginning = beginning
        self.pattern = pattern

    async def head(self, key: str) -> ObjectInfo:
        info = await self.inner.head(key)
        return replace(info, size_bytes=TERABYTE)

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        if offset < len(self.beginning):
            yield self.beginning[offset:]
            offset = len(self.beginning)
        start = (offset - len(self.beginning)) % len(self.pattern)
        chunk = self.pattern[start:]
        while True:
            yield chunk
            await asyncio.sleep(0)
            chunk = self.pattern


TERABYTE = 10**12


@pytest.mark.parametrize(
    "kind",
    [
        "zeros",
        *(pytest.param(kind, marks=pytest.mark.heavy) for kind in ("noise", "a box of a terabyte", "a tag")),
    ],
)
async def test_gives_up_on_an_endless_source(lab: MediaLab, guard: Canary, kind: str) -> None:
    beginning, pattern = {
        "zeros": (b"", bytes(65536)),
        "noise": (b"", random.Random(3).randbytes(65536)),
        "a box of a terabyte": (b"\0\0\0\1free" + (TERABYTE - 100).to_bytes(8, "big"), bytes(65536)),
        "a tag": (b"ID3\x04\0\0\x7f\x7f\x7f\x7f", bytes(65536)),
    }[kind]
    lab.profile = EncodingProfile(stall_seconds=15)
    raw = EndlessStore(lab.memory, beginning, pattern)
    job = (await lab.job(b"x")).replace(source_size_bytes=TERABYTE)

    async with asyncio.timeout(SECONDS):
        with pytest.raises(SourceRejected, match=r"is (not a video|incomplete)"):
            await lab.transcoder(raw).run(job, RUN, lab.reports.append)

    assert guard.opened() == []


class DrippingStore(MemoryStore):
    """Delivers a byte every quarter of a second: never silent long enough to count as an outage."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner

    async def head(self, key: str) -> ObjectInfo:
        return await self.inner.head(key)

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        for value in (await self.inner.get(key)).body[offset:]:
            yield bytes([value])
            await asyncio.sleep(0.25)


async def test_gives_up_on_a_source_that_trickles(
    lab: MediaLab, bait: Bait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranged_read, "CHUNK_TIMEOUT_SECONDS", 1)
    lab.profile = EncodingProfile(patience_seconds=1)
    job = await lab.job(bait.clip("mp4"))

    async with asyncio.timeout(30):
        with pytest.raises(StoreUnavailable, match="too slowly"):  # an outage, which counts no attempt
            await lab.transcoder(DrippingStore(lab.memory)).run(job, RUN, lab.reports.append)
