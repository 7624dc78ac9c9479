"""Decides which of a video's announcements may enter the log now, and in which order."""

import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import structlog

from backend.core import keys
from backend.core.errors import ObjectNotFound, VideoNotFound
from backend.core.event_records import Announcement, EventKind
from backend.core.keys import AnnouncementKey
from backend.core.library.videos import read_video
from backend.core.records import OutcomeWord, RecordUnreadable
from backend.core.store.interface import Buckets
from backend.core.store.prefixes import keys_below

log = structlog.get_logger(__name__)

_KINDS = list(EventKind)


@dataclass(frozen=True, slots=True)
class Admitted:
    key: AnnouncementKey
    announcement: Announcement


@dataclass(frozen=True, slots=True)
class Admission:
    """What to log of one video, in order, and what to drop. Everything else waits."""

    admitted: tuple[Admitted, ...] = ()
    dropped: tuple[AnnouncementKey, ...] = ()


async def admit(buckets: Buckets, subject: str, seen: Collection[AnnouncementKey]) -> Admission:
    """Sort out the announcements of one video (or test), some of which a LIST has shown.

    A LIST is no snapshot: it may show one announcement but not the one before it. So the video is listed
    again, which surely shows all that precedes what was seen. What follows that waits for the next time.
    The records are read in between. What they say was announced before, so the second LIST shows it, unless
    it is logged already.
    """
    store = buckets.video
    remains, title, running, failed = True, None, set[int](), set[int]()
    if EventKind.TEST not in (one.kind for one in seen):
        try:
            title = (await read_video(buckets, subject)).title
        except VideoNotFound:
            remains = False
        except RecordUnreadable as error:
            log.warning("record_unreadable", video=subject, error=error.message)
        for one in seen:
            if one.kind == EventKind.PLAYABLE:
                try:
                    result = keys.result(subject, keys.request_name(subject, one.number))
                    if OutcomeWord.from_json((await store.get(result)).body).failed:
                        failed.add(one.number)
                except ObjectNotFound:
                    running.add(one.number)
    listed = await keys_below(store, keys.announcements_of(subject))
    present = sorted(keys.ours(keys.parse_announcement, listed), key=_rank)
    kinds = {one.kind for one in present}
    if not remains and EventKind.DELETED not in kinds:
        return Admission(dropped=tuple(present))  # its deletion is logged, and nothing may follow that
    latest = max(_rank(one) for one in seen) if remains else (math.inf, math.inf)
    done = {one.number for one in present if one.kind == EventKind.DONE}
    admitted, dropped = [], []
    for one in present:
        if (one.kind == EventKind.DELETED and remains) or _rank(one) > latest:
            continue  # it is not deleted yet, or this comes after what was seen
        if one.kind == EventKind.PLAYABLE and one.number in failed:
            dropped.append(one)  # written late, or too soon over
            continue
        if one.kind == EventKind.PLAYABLE and one.number not in running | done:
            continue  # its end is stored but not announced; or this was written late, and will be swept
        with suppress(ObjectNotFound):  # another process has just logged it
            try:
                stored = await store.get(keys.announcement(one.event))
                announcement = Announcement.from_json(stored.body)
            except RecordUnreadable as error:
                log.warning("record_unreadable", key=keys.announcement(one.event), error=error.message)
                continue
            data = announcement.data.model_copy(update={"title": title or announcement.data.title})
            admitted.append(Admitted(one, announcement.replace(data=data)))
    return Admission(tuple(admitted), tuple(dropped))


def _rank(one: AnnouncementKey) -> tuple[float, float]:
    """Return a value that grows in the order in which things happen to a video."""
    if one.kind == EventKind.CREATED:
        return -1, 0
    return math.inf if one.kind == EventKind.DELETED else one.number, _KINDS.index(EventKind(one.kind))
