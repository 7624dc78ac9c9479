"""Slugs: names that addresses may have in place of an id. Each leads to one thing, such as a video.

A slug is a chain of create-only claims, each of which builds on the one before; the newest counts. Each claim
has a number, and only its own number is released: a request that gives a slug up cannot free it again for
another request that has claimed it meanwhile.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pydantic import Field

from backend.core import keys
from backend.core.errors import ObjectNotFound, SlugTaken
from backend.core.ids import ID_PATTERN
from backend.core.records import MAX_SLUG_LENGTH, Record, SlugClaim, new_nonce
from backend.core.store.interface import Store

VIDEO, IMAGE = "video", "image"
"""Kinds of slugs."""
_SLUG = re.compile(rf"(?!{ID_PATTERN})[a-z0-9]+([_-]+[a-z0-9]+)*")


class Claim(Record):
    """`slugs/<kind>/<slug>/<inverted number>`, create-only."""

    id: str | None = Field(description="what the slug leads to; null: it is free again")
    nonce: str = Field(default_factory=new_nonce)


def is_slug(text: str) -> bool:
    return len(text) <= MAX_SLUG_LENGTH and _SLUG.fullmatch(text) is not None


async def find_slug(store: Store, kind: str, slug: str) -> str | None:
    """Return the id that the slug leads to, or None. What it names may have been deleted."""
    return (await _newest(store, kind, slug))[1].id


async def claim_slug(
    store: Store, kind: str, slug: str, owner_id: str, is_gone: Callable[[str], Awaitable[bool]]
) -> SlugClaim:
    """Make the slug lead to this id. `is_gone` tells whether what an id names was deleted, for good.

    The caller then records the claim, and releases the one that it replaces. The sweeper removes claims to
    slugs that nothing has.

    Raises:
        SlugTaken: it leads to something else.
    """
    while True:
        number, newest = await _newest(store, kind, slug)
        if newest.id not in (None, owner_id) and not await is_gone(newest.id):
            raise SlugTaken
        before, after = (keys.slug_claim(kind, slug, one) for one in (number, number + 1))
        if not await store.create(after, Claim(id=owner_id).to_json()):
            continue
        if number and not await _is_there(store, before, newest):
            # The sweeper has removed it meanwhile, and another request may have begun the chain again.
            await store.delete(after)
            continue
        await store.delete(before)
        return SlugClaim(slug=slug, number=number + 1)


async def release_slug(store: Store, kind: str, claim: SlugClaim) -> None:
    """Free the slug, unless it was claimed again."""
    after = keys.slug_claim(kind, claim.slug, claim.number + 1)
    if claim.slug and await store.create(after, Claim(id=None).to_json()):
        await store.delete(keys.slug_claim(kind, claim.slug, claim.number))


async def read_claim(store: Store, key: str) -> Claim:
    """Raises: ObjectNotFound."""
    return Claim.from_json((await store.get(key)).body)


async def _is_there(store: Store, key: str, claim: Claim) -> bool:
    try:
        return await read_claim(store, key) == claim
    except ObjectNotFound:
        return False


async def _newest(store: Store, kind: str, slug: str) -> tuple[int, Claim]:
    """Return the newest claim and its number, which is 0 if there is none."""
    while True:
        page = await store.list_page(keys.claims_of(kind, slug), limit=1)
        if not page.objects:
            return 0, Claim(id=None)
        key = page.objects[0].key
        with suppress(ObjectNotFound):  # another claim has just replaced it
            return keys.parse_slug_claim(key).number, await read_claim(store, key)
