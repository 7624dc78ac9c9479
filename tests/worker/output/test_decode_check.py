"""Segments are decoded before the source is deleted: garbage of the right size is found."""

from pathlib import Path

import pytest

from backend.core.errors import AttemptFailed, StoreUnavailable
from backend.core.store.interface import StoredObject
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture
from worker.output.decode_check import check_decoding

PREFIX = "videos/v/r0-0-a/"
EDGES = (("init.mp4", "00001.m4s"),)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[bytes, bytes]:
    """An init segment and one media segment."""
    path = tmp_path / "film.mp4"
    ffmpeg(*picture(seconds=1), *H264, "-movflags", "+frag_keyframe+delay_moov+default_base_moof", str(path))
    whole = path.read_bytes()
    at = whole.index(b"moof") - 4
    return whole[:at], whole[at:]


async def check(init: bytes, segment: bytes) -> None:
    store = MemoryStore()
    await store.put(PREFIX + "init.mp4", init)
    await store.put(PREFIX + "00001.m4s", segment)
    await check_decoding(TOOLS, store, PREFIX, EDGES, lambda: None)


async def test_intact_segments_pass(parts: tuple[bytes, bytes]) -> None:
    await check(*parts)


@pytest.mark.parametrize("share", [1, 4])
async def test_segment_with_garbage_fails(parts: tuple[bytes, bytes], share: int) -> None:
    init, segment = parts
    garbage = bytes((len(segment) - segment.index(b"mdat") - 4) // share)

    with pytest.raises(AttemptFailed, match=r"00001\.m4s") as failed:
        await check(init, segment[: -len(garbage)] + garbage)

    assert failed.value.failure_code == "outputs_broken"


async def test_segment_that_is_not_whole_fails(parts: tuple[bytes, bytes]) -> None:
    with pytest.raises(AttemptFailed, match=r"00001\.m4s is not whole") as failed:
        await check(parts[0], parts[1][:-1])

    assert failed.value.failure_code == "outputs_broken"


async def test_segment_without_a_frame_fails(parts: tuple[bytes, bytes]) -> None:
    with pytest.raises(AttemptFailed, match=r"00001\.m4s"):
        await check(parts[0], b"")


class AwayStore(MemoryStore):
    async def get(self, key: str) -> StoredObject:
        raise StoreUnavailable


async def test_outage_of_the_store_is_not_a_broken_segment() -> None:
    with pytest.raises(StoreUnavailable):
        await check_decoding(TOOLS, AwayStore(), PREFIX, EDGES, lambda: None)
