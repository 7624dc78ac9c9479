"""Two requests that change one video at the same time, in every order of their calls to the store."""

from datetime import UTC, datetime

import pytest

from backend.core import keys
from backend.core.errors import CaptionsNotFound, ObjectNotFound, VideoNotFound
from backend.core.ids import new_id
from backend.core.library.captions import delete_captions, list_captions, store_captions
from backend.core.library.videos import (
    VideoEdit,
    add_video,
    delete_video,
    edit_video,
    read_video,
)
from backend.core.records import Captions, Job, Video, Visibility
from backend.core.store.interface import Buckets
from tests.lab.turns import Race, Turns, TurnStore, every_order

NOW = datetime(2026, 11, 21, tzinfo=UTC)
VIDEO = new_id(1, 1)


async def _video(turns: Turns) -> Buckets:
    """Return buckets with a public video."""
    buckets = Buckets(raw=TurnStore(turns), video=TurnStore(turns))
    source = keys.upload(VIDEO)
    video = Video(
        id=VIDEO,
        title="old",
        filename="f.mp4",
        size_bytes=1,
        created_at=NOW,
        visibility=Visibility.PUBLIC,
    )
    job = Job(id=VIDEO, request=VIDEO, source=source, source_size_bytes=1, created_at=NOW)
    await buckets.raw.put(source, b"x")
    await add_video(buckets, video, job)
    return buckets


async def test_a_title_change_does_not_undo_a_change_to_private() -> None:
    async def begin(turns: Turns) -> Race:
        buckets = await _video(turns)
        new_title, private = VideoEdit(title="new"), VideoEdit(visibility=Visibility.PRIVATE)
        return Race(buckets, edit_video(buckets, VIDEO, new_title), edit_video(buckets, VIDEO, private))

    async for ended in every_order(begin):
        video = await read_video(ended.buckets, VIDEO)
        assert (video.title, video.visibility) == ("new", Visibility.PRIVATE)


async def test_an_edit_does_not_bring_back_a_deleted_video() -> None:
    async def begin(turns: Turns) -> Race:
        buckets = await _video(turns)
        edit = edit_video(buckets, VIDEO, VideoEdit(title="new"))
        return Race(buckets, delete_video(buckets, VIDEO), edit)

    async for ended in every_order(begin):
        assert isinstance(ended.second, (VideoNotFound, Video))
        with pytest.raises(VideoNotFound):
            await read_video(ended.buckets, VIDEO)
        left = [info.key async for info in ended.buckets.video.list_all("")]
        assert left == [keys.announcement(keys.event_id(VIDEO, 0, kind)) for kind in ("created", "deleted")]


async def test_captions_of_two_uploads_are_not_mixed() -> None:
    async def begin(turns: Turns) -> Race:
        buckets = await _video(turns)
        await _store(buckets, "old")
        return Race(buckets, _store(buckets, "one"), _store(buckets, "two"))

    async for ended in every_order(begin):
        assert await _label_and_text(ended.buckets) in {("one", b"WEBVTT one"), ("two", b"WEBVTT two")}


async def test_a_deletion_never_leaves_captions_without_text() -> None:
    async def begin(turns: Turns) -> Race:
        buckets = await _video(turns)
        await _store(buckets, "old")
        return Race(buckets, _store(buckets, "new"), delete_captions(buckets, VIDEO, "en"))

    async for ended in every_order(begin):
        assert await _label_and_text(ended.buckets) in {None, ("new", b"WEBVTT new")}


async def _store(buckets: Buckets, label: str) -> Captions:
    text = f"WEBVTT {label}".encode()
    return await store_captions(buckets, VIDEO, "en", text, label=label, now=NOW)


async def _label_and_text(buckets: Buckets) -> tuple[str | None, bytes] | None:
    for captions in await list_captions(buckets, VIDEO):
        text = await buckets.video.get(keys.captions(VIDEO, "en", captions.token))
        return captions.label, text.body
    return None


async def test_captions_of_older_versions_are_read_replaced_and_deleted() -> None:
    buckets = await _video(Turns())
    old = Captions(language="en", label="old", size_bytes=10, uploaded_at=NOW)
    body = old.to_json().replace(b',"token":null', b"")
    for replaced in (True, False):
        await buckets.video.put(keys.captions(VIDEO, "en"), b"WEBVTT old")
        await buckets.video.put(keys.captions_record(VIDEO, "en"), body)
        assert await _label_and_text(buckets) == ("old", b"WEBVTT old")
        if replaced:
            await _store(buckets, "new")
            assert await _label_and_text(buckets) == ("new", b"WEBVTT new")
        else:
            await delete_captions(buckets, VIDEO, "en")
            with pytest.raises(CaptionsNotFound):
                await delete_captions(buckets, VIDEO, "en")
        with pytest.raises(ObjectNotFound):
            await buckets.video.get(keys.captions(VIDEO, "en"))
