"""The library's indexes: of all videos, of each person's, and of those that are not private.

An index is a prefix (`keys.CATALOG`, `keys.owned_by`, `keys.SHARED`) of empty objects whose names sort newest
first. It only says where to look: an entry may outlive its video or its visibility, so who lists videos reads
each. The sweeper adds and removes what crashes left wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.records import Video, Visibility
from backend.core.store.interface import Store
from backend.core.store.prefixes import keys_below


async def enter(store: Store, video: Video) -> None:
    """Add the video to all indexes that should have it."""
    await store.put(keys.catalog_entry(video.id), b"")
    if video.owner is not None:
        await store.put(keys.entry(keys.owned_by(video.owner), video.id), b"")
    if video.visibility is not Visibility.PRIVATE:
        await enter_shared(store, video.id)


async def enter_shared(store: Store, video_id: str) -> None:
    """Call this before others may see the video. The entry stays as long as the video does."""
    await store.put(keys.entry(keys.SHARED, video_id), b"")


async def leave(store: Store, video_id: str, owner: str | None) -> None:
    """Remove a deleted video's entries, that of the catalog last: it lets a sweep repeat the deletion.

    `owner` is None if it is not known. The sweeper removes the entry that stays then.
    """
    await store.delete(keys.entry(keys.SHARED, video_id))
    if owner is not None:
        await store.delete(keys.entry(keys.owned_by(owner), video_id))
    await store.delete(keys.catalog_entry(video_id))


async def owned_by(store: Store, person: str) -> frozenset[str]:
    """Return the ids of all videos of this person."""
    index = keys.owned_by(person)
    found = await keys_below(store, index)
    return frozenset(keys.ours(keys.video_of_entry, (key.removeprefix(index) for key in found)))


@dataclass(frozen=True, slots=True)
class CatalogPage:
    """Some names of entries, newest first. They need not be names of videos."""

    names: Sequence[str]
    truncated: bool


async def read_page(store: Store, indexes: Sequence[str], after: str, limit: int) -> CatalogPage:
    """Return up to `limit` (1 to 1000) names that these indexes have, after the name `after`."""
    pages = await gather_or_cancel(
        store.list_page(index, start_after=index + after if after else "", limit=limit) for index in indexes
    )
    listed = [
        [info.key.removeprefix(index) for info in page.objects]
        for index, page in zip(indexes, pages, strict=True)
    ]
    # What follows the end of a truncated page is unknown.
    ends = [names[-1] for names, page in zip(listed, pages, strict=True) if page.truncated]
    known = sorted({name for names in listed for name in names if all(name <= end for end in ends)})
    return CatalogPage(known[:limit], truncated=bool(ends) or len(known) > limit)
