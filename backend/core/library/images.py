"""Images: add, find, list, change and delete them.

An image exists as long as its record does, which is written after its picture and deleted first. Changes are
create-only revisions, as those of videos are, and the precautions against stalled requests are the same
(`backend.core.library.videos`). IDs in keys are inverted: a LIST is the index, newest first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from backend.core import keys
from backend.core.concurrency import gather_or_cancel
from backend.core.errors import ImageNotFound, ObjectNotFound, StoreUnavailable
from backend.core.image_records import Image
from backend.core.library.slugs import IMAGE, claim_slug, release_slug
from backend.core.library.videos import VideoEdit, is_tombstone
from backend.core.records import NO_SLUG, RecordUnreadable, Revision, Tombstone, new_nonce
from backend.core.store.interface import ObjectHeaders, Store, exists
from backend.core.store.prefixes import delete_below

log = structlog.get_logger(__name__)

_IMMUTABLE = "private, max-age=31536000, immutable"
_THUMBNAIL = ObjectHeaders("image/webp", _IMMUTABLE)


@dataclass(frozen=True, slots=True)
class ImagePage:
    images: tuple[Image, ...]
    next_cursor: str | None
    """The id to continue after, or None on the last page."""


async def add_image(store: Store, image: Image, picture: bytes, thumbnail: bytes) -> None:
    """Store a new image. Once this returns, no crash loses it.

    Raises:
        StoreError: it may have been stored in part, which the sweeper removes.
    """
    key = keys.picture(image.id, image.format)
    await store.put(key, picture, ObjectHeaders(f"image/{image.format}", _IMMUTABLE))
    await store.put(keys.thumbnail(image.id), thumbnail, _THUMBNAIL)
    added = await store.create(keys.image_record(image.id), image.to_json())
    # A sweeper may have taken a stalled upload for an abandoned one (`remove_unfinished_image`).
    if not added or not await exists(store, key):
        if added:
            await delete_image(store, image.id)
        raise StoreUnavailable("The upload stalled and was removed as abandoned. Upload the image again.")


async def read_image(store: Store, image_id: str) -> Image:
    """Return the image as it was last changed. Raises: ImageNotFound."""
    record = await _read_record(store, image_id)
    return _revised(record, (await _newest_revision(store, record))[1])


async def image_holds_slug(store: Store, image_id: str, slug: str) -> bool:
    try:
        return (await read_image(store, image_id)).slug == slug
    except ImageNotFound:
        return False


async def list_images(
    store: Store, *, limit: int, cursor: str | None, shown: Callable[[Image], bool]
) -> ImagePage:
    """List up to `limit` images, newest first, those that `shown` accepts, after the id `cursor`."""

    async def read(image_id: str) -> Image | None:
        try:
            return await read_image(store, image_id)
        except ImageNotFound:
            return None
        except RecordUnreadable as error:  # of a newer version; it must not hide all the others
            log.warning("record_unreadable", image=image_id, error=error.message)
            return None

    start_after = "" if cursor is None else _end_of(cursor)
    while True:
        page = await store.list_page(keys.IMAGES, start_after=start_after)
        listed = list(keys.ours(keys.image_of_record, (info.key for info in page.objects)))
        ids = listed[:limit]
        found = await gather_or_cancel(read(image_id) for image_id in ids)
        images = tuple(image for image in found if image is not None and shown(image))
        has_more = page.truncated or len(listed) > limit
        if images or not has_more:
            return ImagePage(images, ids[-1] if has_more else None)
        start_after = _end_of(ids[-1]) if ids else page.objects[-1].key


async def edit_image(store: Store, image_id: str, edit: VideoEdit) -> Image:
    """Change the image and return it. Raises: ImageNotFound. SlugTaken: nothing is changed."""
    changes = edit.model_dump(exclude_none=True, exclude={"slug"})
    claim = NO_SLUG if edit.slug == "" else None
    if edit.slug:
        await _read_record(store, image_id)
        claim = await claim_slug(store, IMAGE, edit.slug, image_id, partial(_is_gone, store))
    while True:
        record = await _read_record(store, image_id)
        number, before = await _newest_revision(store, record)
        wanted = before.replace(**changes, claim=claim or before.claim)
        if wanted == before:
            return _revised(record, before)
        revision = wanted.replace(nonce=new_nonce())
        key = keys.image_revision(image_id, number + 1)
        if await store.create(key, revision.to_json()):
            break
    try:
        # A deletion starts with the record. If it starts after this read, it finds the revision.
        await _read_record(store, image_id)
    except ImageNotFound:
        await store.delete(key)
        raise
    if revision.claim != before.claim:
        await release_slug(store, IMAGE, before.claim)
    return _revised(record, revision)


async def delete_image(store: Store, image_id: str) -> None:
    """Delete the image, or what an interrupted deletion has left of it. Raises: ImageNotFound."""
    if not (await store.list_page(keys.image_prefix(image_id), limit=1)).objects:
        raise ImageNotFound
    await store.delete(keys.image_record(image_id))
    await delete_below(store, keys.image_prefix(image_id))


async def remove_unfinished_image(store: Store, image_id: str) -> bool:
    """Remove what an upload or a deletion has left that will never finish. Returns whether it did.

    The tombstone keeps a stalled upload from adding the image meanwhile; later it finds its picture gone.
    """
    record = keys.image_record(image_id)
    if not await store.create(record, Tombstone(removed=True).to_json()):
        try:
            if not is_tombstone((await store.get(record)).body):
                return False
        except ObjectNotFound:
            return False
    await delete_below(store, keys.image_prefix(image_id), keep=record)
    await store.delete(record)
    return True


def _end_of(image_id: str) -> str:
    """Return what sorts after all keys of this image and before those of the next."""
    return keys.image_prefix(image_id) + "~"


async def _newest_revision(store: Store, image: Image) -> tuple[int, Revision]:
    """Return the newest revision and its number, which is 0 if the image was never changed."""
    page = await store.list_page(keys.revisions_of_image(image.id), limit=1)
    found = (info.key for info in page.objects)
    for number in keys.ours(partial(keys.parse_image_revision, image.id), found):
        try:
            return number, Revision.from_json((await store.get(keys.image_revision(image.id, number))).body)
        except ObjectNotFound:  # revisions are only deleted with the image
            raise ImageNotFound from None
    return 0, Revision(title=image.title, visibility=image.visibility)


def _revised(image: Image, revision: Revision) -> Image:
    slug = revision.claim.slug or None
    return image.replace(title=revision.title, visibility=revision.visibility, slug=slug)


async def _is_gone(store: Store, image_id: str) -> bool:
    try:
        await _read_record(store, image_id)
    except ImageNotFound:
        return True
    return False


async def _read_record(store: Store, image_id: str) -> Image:
    try:
        stored = await store.get(keys.image_record(image_id))
    except ObjectNotFound:
        raise ImageNotFound from None
    try:
        return Image.from_json(stored.body)
    except RecordUnreadable:
        if is_tombstone(stored.body):
            raise ImageNotFound from None
        raise
