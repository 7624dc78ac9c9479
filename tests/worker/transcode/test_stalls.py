"""The stall watchdog: it ends what hangs, but a slow store is no reason to give up an attempt."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import StoreUnavailable
from backend.core.store.interface import (
    LIST_PAGE,
    PLAIN,
    Body,
    Listing,
    ObjectHeaders,
    ObjectInfo,
    StoredObject,
)
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import MediaLab, ffmpeg, tone
from worker.sandbox import activity, watchdog
from worker.transcode.transcoder import EncodingProfile

WATCHDOG_SECONDS = 0.01


@dataclass
class Clock:
    """Real time, and the hours that the store takes."""

    late_seconds: float = 0

    def monotonic(self) -> float:
        return time.monotonic() + self.late_seconds

    async def take_an_hour(self) -> None:
        self.late_seconds += 3600
        await asyncio.sleep(WATCHDOG_SECONDS * 5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(activity, "time", clock)
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", WATCHDOG_SECONDS)
    return clock


@pytest.fixture
def lab(tmp_path: Path) -> MediaLab:
    (tmp_path / "work").mkdir()
    return MediaLab(tmp_path / "work", EncodingProfile(segment_seconds=1, stall_seconds=60))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.m4a"
    ffmpeg(*tone(1), "-c:a", "aac", str(path))
    return path


class SlowStore(MemoryStore):
    """Takes an hour for each of the calls that only the check of the outputs makes, and for one segment.

    Its ETags say nothing, so everything is read back.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._slowness = clock
        self.hours = 0

    async def _take_an_hour(self) -> None:
        self.hours += 1
        await self._slowness.take_an_hour()

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        if key.endswith("00001.m4s"):
            await self._take_an_hour()
        await super().put(key, body, headers)

    async def get(self, key: str) -> StoredObject:
        await self._take_an_hour()
        return await super().get(key)

    async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
        await self._take_an_hour()
        page = await super().list_page(prefix, start_after=start_after, limit=limit)
        return replace(page, objects=tuple(replace(info, etag="") for info in page.objects))

    async def head(self, key: str) -> ObjectInfo:
        await self._take_an_hour()
        return await super().head(key)

    async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
        await self._take_an_hour()
        async for chunk in super().read(key, offset, etag=etag):
            yield chunk


async def test_slow_store_does_not_end_a_finished_encode(lab: MediaLab, sound: Path, clock: Clock) -> None:
    lab.video = store = SlowStore(clock)

    result = await lab.transcode(sound)

    assert result.duration_seconds == pytest.approx(1, abs=0.1)
    assert store.hours > 5


async def test_outage_longer_than_the_stall_limit_is_not_a_stalled_encoder(
    lab: MediaLab, sound: Path, clock: Clock
) -> None:
    class Away(MemoryStore):
        """The raw store: away for an hour, then there."""

        outages = 0

        async def head(self, key: str) -> ObjectInfo:
            return await lab.memory.head(key)

        async def read(self, key: str, offset: int = 0, *, etag: str | None = None) -> AsyncIterator[bytes]:
            self.outages += 1
            if self.outages % 2:
                await clock.take_an_hour()
                raise StoreUnavailable
            async for chunk in lab.memory.read(key, offset, etag=etag):
                yield chunk

    raw = Away()

    result = await lab.transcode(sound, raw)

    assert result.duration_seconds == pytest.approx(1, abs=0.1)
    assert raw.outages
    assert keys.DOWNLOAD in await lab.paths()


def test_clock_stands_still_while_the_store_is_waited_for(clock: Clock) -> None:
    measured = activity.ActivityClock()
    clock.late_seconds += 10
    with measured.waiting():
        clock.late_seconds += 100
        with measured.waiting():
            clock.late_seconds += 100
        clock.late_seconds += 100
    clock.late_seconds += 10

    assert measured.idle_seconds == pytest.approx(20, abs=1)
    measured.touch()
    assert measured.idle_seconds < 1
