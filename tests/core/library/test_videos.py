"""The library when the process dies at any store call."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import pytest

from backend.core import keys
from backend.core.errors import StoreUnavailable, VideoNotFound
from backend.core.ids import new_id
from backend.core.library.videos import (
    HISTORY_PAGE,
    VideoEdit,
    add_video,
    delete_video,
    edit_video,
    list_videos,
    read_item,
    read_video,
    video_remains,
)
from backend.core.names import clean_filename
from backend.core.records import Job, Outputs, Revision, Video, Visibility
from backend.core.status import complete_status
from backend.core.store.interface import LIST_PAGE, PLAIN, Buckets, Listing, ObjectHeaders
from backend.core.uploads.ingest import Description, ingest
from tests.lab.memory_store import MemoryStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Fuse:
    """Counts writes to both buckets and fails all from the n-th on, as if the process had crashed."""

    def __init__(self, writes_left: int) -> None:
        self.writes_left = writes_left

    def burn(self) -> None:
        if self.writes_left == 0:
            raise StoreUnavailable
        self.writes_left -= 1


class Fused(MemoryStore):
    fuse = Fuse(-1)

    async def put(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> None:
        self.fuse.burn()
        await super().put(key, body, headers)

    async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
        self.fuse.burn()
        return await super().create(key, body, headers)

    async def delete(self, key: str) -> None:
        self.fuse.burn()
        await super().delete(key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self.delete(key)


def _video() -> tuple[Video, Job]:
    video_id = new_id()
    video = Video(id=video_id, title="t", filename="f.mp4", size_bytes=1, created_at=NOW)
    source = keys.upload(video_id)
    job = Job(id=video_id, request=video_id, source=source, source_size_bytes=1, created_at=NOW)
    return video, job


async def _crash_at(write: int, buckets: Buckets, verb: Callable[[], Awaitable[object]]) -> bool:
    """Run the function with a crash at this write. Returns whether it crashed."""
    fuse = Fuse(write)
    for store in (buckets.raw, buckets.video):
        assert isinstance(store, Fused)
        store.fuse = fuse
    try:
        await verb()
    except StoreUnavailable:
        return True
    finally:
        fuse.writes_left = -1
    return False


async def _keys(buckets: Buckets) -> list[str]:
    """List both buckets, without events."""
    stores = (buckets.raw, buckets.video)
    listed = [info.key for store in stores async for info in store.list_all("")]
    return [key for key in listed if not key.startswith(keys.EVENTS)]


async def test_whatever_a_crash_while_adding_leaves_is_listed_and_can_be_deleted() -> None:
    for write in range(100):
        buckets = Buckets(raw=Fused(), video=Fused())
        video, job = _video()
        await buckets.raw.put(job.source, b"x")
        crashed = await _crash_at(write, buckets, partial(add_video, buckets, video, job))
        found = await _keys(buckets)
        assert (keys.marker(job.request) in found) is not crashed
        if keys.video_record(video.id) in found:
            assert [item.video.id for item in (await list_videos(buckets, limit=10)).items] == [video.id]
        await delete_video(buckets, video.id)
        assert await _keys(buckets) == []
        if not crashed:
            assert write == 5
            return
    pytest.fail("adding never ended")


async def test_an_interrupted_deletion_is_detected_and_can_be_repeated() -> None:
    for write in range(100):
        buckets = Buckets(raw=Fused(), video=Fused())
        video, job = _video()
        await buckets.raw.put(job.source, b"x")
        await add_video(buckets, video, job)
        await buckets.raw.put(keys.dead_letter(f"{video.id}.1"), b"x")
        await buckets.video.put(keys.run_prefix(video.id, "r0-0-a") + "hls/master.m3u8", b"x")
        crashed = await _crash_at(write, buckets, partial(delete_video, buckets, video.id))
        if not crashed:
            assert await _keys(buckets) == []
            assert write > 5
            return
        if write > 1:  # the first one announces it
            with pytest.raises(VideoNotFound):
                await read_video(buckets, video.id)
        assert await video_remains(buckets, video.id)
        await delete_video(buckets, video.id)
        assert await _keys(buckets) == []
    pytest.fail("deleting never ended")


async def test_an_upload_that_failed_with_the_store_leaves_nothing() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    class Once(Fused):
        async def create(self, key: str, body: bytes, headers: ObjectHeaders = PLAIN) -> bool:
            await super().create(key, body, headers)
            raise StoreUnavailable  # the response is lost, but the marker was written

    buckets = Buckets(raw=Once(), video=Fused())
    with pytest.raises(StoreUnavailable):
        await ingest(buckets, body(), Description, declared_bytes=1, max_bytes=10)
    assert await _keys(buckets) == []


async def test_deleting_one_video_leaves_the_others() -> None:
    buckets = Buckets(raw=Fused(), video=Fused())
    (first, first_job), (second, second_job) = _video(), _video()
    for video, job in ((first, first_job), (second, second_job)):
        await buckets.raw.put(job.source, b"x")
        await add_video(buckets, video, job)
    await delete_video(buckets, first.id)
    assert (await read_item(buckets, second.id)).video == second
    assert keys.marker(second.id) in await _keys(buckets)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("film.mp4", "film.mp4"),
        ("C:\\films\\film.mp4", "film.mp4"),
        ("../../etc/passwd", "passwd"),
        ("a\r\nb.mp4", "ab.mp4"),
        ("dir/", "video"),
        ("", "video"),
        (None, "video"),
    ],
)
def test_file_names_are_reduced_to_their_last_component(said: str | None, kept: str) -> None:
    assert clean_filename(said) == kept


async def _added(visibility: Visibility = Visibility.PRIVATE) -> tuple[Buckets, str]:
    buckets = Buckets(MemoryStore(), MemoryStore())
    video, job = _video()
    await buckets.raw.put(job.source, b"x")
    await add_video(buckets, video.replace(visibility=visibility), job)
    return buckets, video.id


async def test_each_edit_changes_only_what_it_names_and_the_record_stays_as_it_was() -> None:
    buckets, video_id = await _added(Visibility.PUBLIC)  # as an older version wrote it after an edit
    record = await buckets.video.get(keys.video_record(video_id))

    for number in range(12):
        await edit_video(buckets, video_id, VideoEdit(title=f"title {number}"))
    await edit_video(buckets, video_id, VideoEdit(visibility=Visibility.PRIVATE))

    video = (await read_item(buckets, video_id)).video
    assert (video.title, video.visibility) == ("title 11", Visibility.PRIVATE)
    assert await buckets.video.get(keys.video_record(video_id)) == record


async def test_an_edit_that_changes_nothing_writes_nothing() -> None:
    buckets, video_id = await _added()
    before = await _keys(buckets)

    await edit_video(buckets, video_id, VideoEdit(visibility=Visibility.PRIVATE))

    assert await _keys(buckets) == before


async def test_foreign_objects_among_results_and_revisions_are_ignored() -> None:
    buckets, video_id = await _added()
    await edit_video(buckets, video_id, VideoEdit(title="new"))
    for name in ("results/x.y", "revisions/0", "revisions/zzz", "results/", "remarks"):
        await buckets.video.put(f"{keys.video_prefix(video_id)}{name}", b"foreign")

    await edit_video(buckets, video_id, VideoEdit(visibility=Visibility.PUBLIC))

    item = await read_item(buckets, video_id)
    assert (item.video.title, item.video.visibility) == ("new", Visibility.PUBLIC)


async def test_a_stalled_worker_cannot_bring_back_the_outputs_of_an_earlier_request() -> None:
    buckets, video_id = await _added()
    first, second = (_outputs(video_id, request) for request in (video_id, f"{video_id}.1"))
    for outputs in (first, second):
        await buckets.video.create(keys.result(video_id, outputs.request), outputs.to_json())

    await buckets.video.put(keys.status(video_id), complete_status(first).to_json())

    assert (await read_item(buckets, video_id)).status.request == second.request


def _outputs(video_id: str, request: str) -> Outputs:
    return Outputs(
        id=video_id,
        request=request,
        run=f"r{keys.request_number(request)}-0-a",
        requested_at=NOW,
        published_at=NOW,
        duration_seconds=1,
        qualities=(),
        renditions=(),
        objects=(),
        encoder="software",
    )


async def test_a_video_that_was_changed_and_encoded_often_is_read_with_few_objects_listed() -> None:
    class Counting(MemoryStore):
        listed = 0

        async def list_page(self, prefix: str, *, start_after: str = "", limit: int = LIST_PAGE) -> Listing:
            page = await super().list_page(prefix, start_after=start_after, limit=limit)
            self.listed += len(page.objects)
            return page

    buckets = Buckets(raw=MemoryStore(), video=(store := Counting()))
    video, job = _video()
    await buckets.raw.put(job.source, b"x")
    await add_video(buckets, video, job)
    for number in range(1, 30):
        await store.put(keys.result(video.id, f"{video.id}.{number}"), b"x")
    for number in range(1, 1000):
        revision = Revision(title=f"{number}", visibility=Visibility.PUBLIC)
        await store.put(keys.revision(video.id, number), revision.to_json())

    assert (await read_video(buckets, video.id)).title == "999"
    assert store.listed <= 29 + HISTORY_PAGE
