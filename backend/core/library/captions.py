"""Captions that people upload for a video: kept outside of its runs, so that encoding it again keeps them.

They are two objects, text and record, and exist while the record does: the text is there before it, and is
deleted first, so that a deletion that was cut off can be seen and repeated.
"""

from datetime import datetime

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import CaptionsNotFound, ObjectNotFound, TooManyCaptions, VideoNotFound
from backend.core.library.videos import read_video
from backend.core.records import Captions, RecordUnreadable
from backend.core.store.interface import Buckets, ObjectHeaders, Store, exists
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)

MAX_LANGUAGES = 50
"""Of one video: each is a record to read whenever somebody begins to watch."""

_TEXT = ObjectHeaders("text/vtt; charset=utf-8", cache_control="no-cache")


async def store_captions(
    buckets: Buckets, video_id: str, language: str, text: bytes, *, label: str | None, now: datetime
) -> Captions:
    """Store WebVTT for the video, replacing what there is in this language.

    `language` is a canonical tag (`backend.core.languages`).

    Raises:
        VideoNotFound: there is no such video, or it was deleted meanwhile.
        TooManyCaptions: this would be one language too many.
    """
    await read_video(buckets, video_id)
    record_key, text_key = keys.captions_record(video_id, language), keys.captions(video_id, language)
    records = await _record_keys(buckets.video, video_id)
    if record_key not in records and len(records) >= MAX_LANGUAGES:
        raise TooManyCaptions
    captions = Captions(language=language, label=label, size_bytes=len(text), uploaded_at=now)
    await buckets.video.put(text_key, text, _TEXT)
    await buckets.video.put(record_key, captions.to_json())
    try:
        # A deletion begins with the video's record: one that began later than this finds the captions.
        await read_video(buckets, video_id)
    except VideoNotFound:
        await buckets.video.delete_many([text_key, record_key])
        raise
    return captions


async def list_captions(buckets: Buckets, video_id: str) -> tuple[Captions, ...]:
    """Return the captions of a video by language; none for a video that does not exist."""

    async def read(key: str) -> Captions | None:
        try:
            return Captions.from_json((await buckets.video.get(key)).body)
        except ObjectNotFound:
            return None
        except RecordUnreadable as error:
            # Captions of a newer version must not keep the video from playing.
            log.warning("record_unreadable", key=key, error=error.message)
            return None

    found = await gather_or_cancel(read(key) for key in await _record_keys(buckets.video, video_id))
    return tuple(captions for captions in found if captions is not None)


async def delete_captions(buckets: Buckets, video_id: str, language: str) -> None:
    """Raises: CaptionsNotFound."""
    record = keys.captions_record(video_id, language)
    if not await exists(buckets.video, record):
        raise CaptionsNotFound
    await buckets.video.delete(keys.captions(video_id, language))
    await buckets.video.delete(record)


async def _record_keys(video: Store, video_id: str) -> list[str]:
    return [key for key in await keys_below(video, keys.captions_of(video_id)) if key.endswith(".json")]
