"""Images: two requests at once, in every order of their calls, and crashes at any call."""

from datetime import UTC, datetime, timedelta

import pytest

from backend.core import keys
from backend.core.errors import ImageNotFound, SlugTaken, StoreUnavailable
from backend.core.ids import new_id
from backend.core.image_records import Image, ImageFormat
from backend.core.library.images import (
    add_image,
    delete_image,
    edit_image,
    list_images,
    read_image,
    remove_unfinished_image,
)
from backend.core.library.slugs import IMAGE as SLUGS_OF_IMAGES
from backend.core.library.slugs import find_slug
from backend.core.library.videos import VideoEdit
from backend.core.records import SMALLEST_VIDEO_BYTES, Tombstone, Visibility
from backend.core.store.interface import Buckets, Store
from backend.core.store.prefixes import keys_below
from backend.core.sweep.sweeper import Kind, SweepReport, SweepRules, sweep
from tests.core.jobs.queue_lab import Fault, Lab, WorkerCrashed, crash
from tests.lab.memory_store import MemoryStore
from tests.lab.turns import Race, Turns, TurnStore, every_order

NOW = datetime(2026, 11, 21, tzinfo=UTC)
IMAGE = new_id(1, 1)
GRACE = timedelta(hours=1)
PRIVATE, PUBLIC = VideoEdit(visibility=Visibility.PRIVATE), VideoEdit(visibility=Visibility.PUBLIC)


def record(image_id: str = IMAGE) -> Image:
    return Image(
        id=image_id, title="old", format=ImageFormat.PNG, width=1, height=1, size_bytes=7, created_at=NOW
    )


async def add(store: Store, image_id: str = IMAGE) -> None:
    await add_image(store, record(image_id), b"picture", b"thumbnail")


async def public_image(turns: Turns) -> tuple[Buckets, Store]:
    buckets = Buckets(raw=TurnStore(turns), video=TurnStore(turns))
    await add(buckets.video)
    await edit_image(buckets.video, IMAGE, PUBLIC)
    return buckets, buckets.video


async def test_a_title_change_does_not_undo_a_change_to_private() -> None:
    async def begin(turns: Turns) -> Race:
        buckets, store = await public_image(turns)
        titled = edit_image(store, IMAGE, VideoEdit(title="new"))
        return Race(buckets, titled, edit_image(store, IMAGE, PRIVATE))

    async for ended in every_order(begin):
        image = await read_image(ended.buckets.video, IMAGE)
        assert (image.title, image.visibility) == ("new", Visibility.PRIVATE)


async def test_an_edit_does_not_bring_back_a_deleted_image() -> None:
    async def begin(turns: Turns) -> Race:
        buckets, store = await public_image(turns)
        return Race(buckets, delete_image(store, IMAGE), edit_image(store, IMAGE, VideoEdit(title="new")))

    async for ended in every_order(begin):
        assert isinstance(ended.second, (ImageNotFound, Image))
        assert await keys_below(ended.buckets.video, "") == []


async def test_of_two_images_that_want_a_slug_at_once_one_gets_it() -> None:
    other = new_id(2, 2)

    async def begin(turns: Turns) -> Race:
        buckets, store = await public_image(turns)
        await add(store, other)
        named = VideoEdit(slug="logo")
        return Race(buckets, edit_image(store, IMAGE, named), edit_image(store, other, named))

    async for ended in every_order(begin):
        store = ended.buckets.video
        holder = await find_slug(store, SLUGS_OF_IMAGES, "logo")
        slugs = {one: (await read_image(store, one)).slug for one in (IMAGE, other)}
        assert [one for one, slug in slugs.items() if slug] == [holder]
        assert sorted(map(type, (ended.first, ended.second)), key=str) == [SlugTaken, Image]


async def test_slugs_of_deleted_images_and_of_crashes_are_swept() -> None:
    lab, other = Lab(), new_id(2, 2)
    await add(lab.video)
    await add(lab.video, other)
    await edit_image(lab.video, IMAGE, VideoEdit(slug="kept"))
    await edit_image(lab.video, other, VideoEdit(slug="gone"))
    await delete_image(lab.video, other)

    report = await _sweep(lab)

    assert [one.kind for one in report.findings] == [Kind.SLUG]
    assert await find_slug(lab.video, SLUGS_OF_IMAGES, "kept") == IMAGE
    assert await find_slug(lab.video, SLUGS_OF_IMAGES, "gone") is None


async def test_a_stalled_upload_and_the_sweeper_leave_a_whole_image_or_none() -> None:
    """The sweeper takes what is stored already for the leftovers of a crash."""

    async def begin(turns: Turns) -> Race:
        buckets = Buckets(raw=TurnStore(turns), video=TurnStore(turns))
        return Race(buckets, add(buckets.video), remove_unfinished_image(buckets.video, IMAGE))

    async for ended in every_order(begin):
        store = ended.buckets.video
        if ended.first is None:
            assert (await store.get(keys.picture(IMAGE, "png"))).body == b"picture"
            assert await read_image(store, IMAGE) == record()
        else:
            assert isinstance(ended.first, StoreUnavailable)
            await remove_unfinished_image(store, IMAGE)
            assert await keys_below(store, "") == []


async def _sweep(lab: Lab, *, aged: bool = True) -> SweepReport:
    if aged:
        lab.clock.advance(2 * GRACE.total_seconds())
    return await sweep(lab.buckets, lab.worker("sweeper"), SweepRules(GRACE, GRACE))


CALLS = [(call, after) for call in range(1, 12) for after in (False, True)]


@pytest.mark.parametrize(("call", "after"), CALLS)
async def test_a_crash_while_adding_leaves_a_whole_image_or_one_that_is_swept(call: int, after: bool) -> None:
    lab = Lab()
    fault = Fault(call, crash, after)
    try:
        await add(lab.faulty(fault).video)
    except WorkerCrashed:
        assert fault.struck
    else:
        assert call > 4

    await _sweep(lab, aged=False)
    await _sweep(lab)

    left = await lab.video_keys()
    whole = [keys.image_record(IMAGE), keys.picture(IMAGE, "png"), keys.thumbnail(IMAGE)]
    assert left in ([], whole)
    assert left or call <= 3


@pytest.mark.parametrize(("call", "after"), CALLS)
async def test_a_crash_while_deleting_ends_the_image_and_the_rest_is_swept(call: int, after: bool) -> None:
    lab = Lab()
    await add(lab.video)
    await edit_image(lab.video, IMAGE, PUBLIC)
    fault = Fault(call, crash, after)
    try:
        await delete_image(lab.faulty(fault).video, IMAGE)
    except WorkerCrashed:
        assert fault.struck
    else:
        assert call > 4

    if call == 1 or (call == 2 and not after):  # before the first write
        assert await read_image(lab.video, IMAGE)
        return
    with pytest.raises(ImageNotFound):
        await read_image(lab.video, IMAGE)
    await _sweep(lab)
    assert await lab.video_keys() == []


@pytest.mark.parametrize(("call", "after"), CALLS)
async def test_a_crash_of_the_sweeper_is_mended_by_the_next(call: int, after: bool) -> None:
    lab = Lab()
    await lab.video.put(keys.picture(IMAGE, "png"), b"picture")
    await lab.video.put(keys.thumbnail(IMAGE), b"thumbnail")
    fault = Fault(call, crash, after)
    try:
        await remove_unfinished_image(lab.faulty(fault).video, IMAGE)
    except WorkerCrashed:
        assert fault.struck
    with pytest.raises(ImageNotFound):
        await read_image(lab.video, IMAGE)

    await _sweep(lab)

    assert await lab.video_keys() == []


async def test_a_deletion_that_was_interrupted_can_be_repeated() -> None:
    store = MemoryStore()
    await add(store)
    await store.delete(keys.image_record(IMAGE))

    await delete_image(store, IMAGE)

    assert await keys_below(store, "") == []
    with pytest.raises(ImageNotFound):
        await delete_image(store, IMAGE)


async def test_the_sweeper_says_what_it_removes_and_leaves_images_alone() -> None:
    lab, other = Lab(), new_id(2, 2)
    await add(lab.video)
    await edit_image(lab.video, IMAGE, PUBLIC)
    await lab.video.put(keys.picture(other, "png"), b"picture")

    report = await _sweep(lab)

    assert [(one.kind, one.key) for one in report.findings] == [(Kind.IMAGE, other)]
    assert len(await lab.video_keys()) == 4
    assert (await read_image(lab.video, IMAGE)).visibility is Visibility.PUBLIC


async def test_pages_list_every_image_once_newest_first() -> None:
    store = MemoryStore()
    ids = [new_id(ms, ms) for ms in range(1, 8)]
    for image_id in ids:
        await add(store, image_id)
        await edit_image(store, image_id, PUBLIC)
    hidden = ids[2:5]

    seen, cursor = list[str](), None
    while True:
        page = await list_images(store, limit=2, cursor=cursor, shown=lambda image: image.id not in hidden)
        seen += [image.id for image in page.images]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == [one for one in reversed(ids) if one not in hidden]


async def test_many_changes_of_one_image_do_not_hide_the_next() -> None:
    store = MemoryStore()
    await add(store)
    newer = new_id(5, 5)
    await add(store, newer)
    for number in range(1, 1200):
        await store.put(keys.image_revision(newer, number), b"{}")
    await store.delete(keys.image_record(newer))  # what a crash has left fills a whole page

    page = await list_images(store, limit=5, cursor=None, shown=lambda _: True)

    assert [image.id for image in page.images] == [IMAGE]


def test_a_list_tells_records_from_tombstones() -> None:
    shortest = record().replace(title="", size_bytes=1)

    assert len(shortest.to_json()) >= SMALLEST_VIDEO_BYTES > len(Tombstone(removed=True).to_json())
