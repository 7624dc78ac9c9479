"""Uploaded captions despite deletions, crashes and newer versions."""

from datetime import UTC, datetime

import pytest

from backend.core import keys
from backend.core.errors import CaptionsNotFound, StoreUnavailable, TooManyCaptions, VideoNotFound
from backend.core.ids import new_id
from backend.core.library.captions import (
    MAX_LANGUAGES,
    delete_captions,
    list_captions,
    store_captions,
)
from backend.core.library.videos import delete_video, remove_unfinished
from backend.core.records import Captions, Video
from backend.core.store.interface import PLAIN, Body, Buckets, ObjectHeaders
from tests.lab.memory_store import MemoryStore

NOW = datetime(2026, 11, 21, tzinfo=UTC)
VIDEO = new_id(1, 1)


async def with_video(video: MemoryStore | None = None) -> Buckets:
    buckets = Buckets(raw=MemoryStore(), video=video or MemoryStore())
    record = Video(id=VIDEO, title="A title", filename="a.mp4", size_bytes=1, created_at=NOW)
    await buckets.video.put(keys.catalog_entry(VIDEO), b"")
    await buckets.video.put(keys.video_record(VIDEO), record.to_json())
    return buckets


async def store(buckets: Buckets, language: str = "en", text: bytes = b"WEBVTT") -> Captions:
    return await store_captions(buckets, VIDEO, language, text, label=None, now=NOW)


async def everything(buckets: Buckets) -> list[str]:
    listed = [info.key async for info in buckets.video.list_all("")]
    return [key for key in listed if not key.startswith(keys.EVENTS)]


async def languages(buckets: Buckets) -> list[str]:
    return [captions.language for captions in await list_captions(buckets, VIDEO)]


class DeletedMeanwhile(MemoryStore):
    """Deletes the video right after the text of captions was written."""

    buckets: Buckets

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        await super().put(key, body, headers)
        if key.endswith(".vtt"):
            await delete_video(self.buckets, VIDEO)


class Failing(MemoryStore):
    """Fails one call for one object."""

    fails_at: tuple[str, str] | None = None

    def _fail(self, verb: str, key: str) -> None:
        if self.fails_at == (verb, key):
            self.fails_at = None
            raise StoreUnavailable

    async def put(self, key: str, body: Body, headers: ObjectHeaders = PLAIN) -> None:
        self._fail("put", key)
        await super().put(key, body, headers)

    async def delete(self, key: str) -> None:
        self._fail("delete", key)
        await super().delete(key)


async def test_new_captions_replace_those_in_the_same_language() -> None:
    buckets = await with_video()
    await store(buckets, text=b"WEBVTT first")
    second = await store(buckets, text=b"WEBVTT second")

    assert await languages(buckets) == ["en"]
    texts = [key for key in await everything(buckets) if key.endswith(".vtt")]
    assert texts == [keys.captions(VIDEO, "en", second.token)]
    assert (await buckets.video.get(texts[0])).body == b"WEBVTT second"


async def test_a_video_has_a_limited_number_of_caption_languages() -> None:
    buckets = await with_video()
    tags = [f"x-{number:02d}" for number in range(MAX_LANGUAGES)]
    for tag in tags:
        await store(buckets, tag)

    with pytest.raises(TooManyCaptions):
        await store(buckets, "en")
    await store(buckets, tags[0])  # replacing does not count
    assert await languages(buckets) == tags


async def test_captions_need_a_video() -> None:
    buckets = Buckets(raw=MemoryStore(), video=MemoryStore())
    with pytest.raises(VideoNotFound):
        await store(buckets)
    assert await everything(buckets) == []


async def test_captions_of_a_video_that_is_deleted_meanwhile_are_removed() -> None:
    deleted_meanwhile = DeletedMeanwhile()
    buckets = deleted_meanwhile.buckets = await with_video(deleted_meanwhile)

    with pytest.raises(VideoNotFound):
        await store(buckets)
    assert await everything(buckets) == []


async def test_deleting_a_video_deletes_its_captions() -> None:
    buckets = await with_video()
    await store(buckets)
    await delete_video(buckets, VIDEO)

    assert await everything(buckets) == []


async def test_captions_left_by_an_interrupted_deletion_are_swept() -> None:
    buckets = await with_video()
    await store(buckets)
    await buckets.video.delete(keys.video_record(VIDEO))

    assert await remove_unfinished(buckets, VIDEO)
    assert await everything(buckets) == []


async def test_an_interrupted_upload_of_captions_can_be_repeated() -> None:
    failing = Failing()
    buckets = await with_video(failing)
    failing.fails_at = "put", keys.captions_record(VIDEO, "en")

    with pytest.raises(StoreUnavailable):
        await store(buckets)
    assert await languages(buckets) == []
    await store(buckets)
    assert await languages(buckets) == ["en"]


async def test_an_interrupted_deletion_of_captions_can_be_repeated() -> None:
    failing = Failing()
    buckets = await with_video(failing)
    await store(buckets)
    failing.fails_at = "delete", keys.captions_record(VIDEO, "en")

    with pytest.raises(StoreUnavailable):
        await delete_captions(buckets, VIDEO, "en")
    await delete_captions(buckets, VIDEO, "en")
    assert not [key for key in await everything(buckets) if key.startswith(keys.captions_of(VIDEO))]
    with pytest.raises(CaptionsNotFound):
        await delete_captions(buckets, VIDEO, "en")


async def test_captions_written_by_a_newer_version_do_not_hide_others() -> None:
    buckets = await with_video()
    await store(buckets, "de")
    await store(buckets, "en")
    await buckets.video.put(keys.captions_record(VIDEO, "de"), b'{"schema_version": 2}')

    assert await languages(buckets) == ["en"]
