"""Uploaded captions of a video. They are stored outside of its runs, so that encoding it again keeps them.

Captions are a record and the text that it names, and exist as long as the record does. Each upload has a text
of its own, so that two uploads at once never mix the label of one with the text of the other. The text is
written first and deleted first, so that an interrupted deletion can be detected and repeated.
"""

import secrets
from datetime import datetime

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import CaptionsNotFound, ObjectNotFound, TooManyCaptions, VideoNotFound
from backend.core.library.videos import read_video
from backend.core.records import Captions, RecordUnreadable
from backend.core.store.interface import Buckets, ObjectHeaders, Store
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)

MAX_LANGUAGES = 50
"""The limit for one video. Whenever somebody starts watching, each record is read."""

_TEXT = ObjectHeaders("text/vtt; charset=utf-8", cache_control="no-cache")


async def store_captions(
    buckets: Buckets, video_id: str, language: str, text: bytes, *, label: str | None, now: datetime
) -> Captions:
    """Store WebVTT for the video, replacing existing captions in this language.

    `language` must be a canonical tag (`backend.core.languages`).

    Raises:
        VideoNotFound: there is no such video, or it was deleted meanwhile.
        TooManyCaptions: the video already has `MAX_LANGUAGES` languages.
    """
    await read_video(buckets, video_id)
    record_key = keys.captions_record(video_id, language)
    records = await _record_keys(buckets.video, video_id)
    if record_key not in records and len(records) >= MAX_LANGUAGES:
        raise TooManyCaptions
    replaced = await _text_key(buckets.video, video_id, language) if record_key in records else None
    token = secrets.token_hex(8)
    captions = Captions(language=language, label=label, size_bytes=len(text), uploaded_at=now, token=token)
    text_key = keys.captions(video_id, language, token)
    await buckets.video.put(text_key, text, _TEXT)
    await buckets.video.put(record_key, captions.to_json())
    try:
        # A deletion starts with the video's record. If it starts after this read, it finds the captions.
        await read_video(buckets, video_id)
    except VideoNotFound:
        await buckets.video.delete_many([text_key, record_key])
        raise
    if replaced is not None:
        await buckets.video.delete(replaced)
    return captions


async def list_captions(buckets: Buckets, video_id: str) -> tuple[Captions, ...]:
    """Return the captions of a video, sorted by language. A video that does not exist has none."""

    async def read(key: str) -> Captions | None:
        try:
            captions = Captions.from_json((await buckets.video.get(key)).body)
            # players get paths made of the language
            return captions if key == keys.captions_record(video_id, captions.language) else None
        except ObjectNotFound:
            return None
        except RecordUnreadable as error:
            # Captions written by a newer version must not prevent playback.
            log.warning("record_unreadable", key=key, error=error.message)
            return None

    found = await gather_or_cancel(read(key) for key in await _record_keys(buckets.video, video_id))
    return tuple(captions for captions in found if captions is not None)


async def delete_captions(buckets: Buckets, video_id: str, language: str) -> None:
    """Raises: CaptionsNotFound."""
    text = await _text_key(buckets.video, video_id, language)
    if text is None:
        raise CaptionsNotFound
    await buckets.video.delete(text)
    await buckets.video.delete(keys.captions_record(video_id, language))


async def _text_key(video: Store, video_id: str, language: str) -> str | None:
    """Return the key of the text that the record names, or None if there is no record."""
    try:
        stored = await video.get(keys.captions_record(video_id, language))
    except ObjectNotFound:
        return None
    try:
        token = Captions.from_json(stored.body).token
    except RecordUnreadable:  # a newer version wrote it: its text stays until the video is deleted
        token = None
    return keys.captions(video_id, language, token)


async def _record_keys(video: Store, video_id: str) -> list[str]:
    return [key for key in await keys_below(video, keys.captions_of(video_id)) if key.endswith(".json")]
