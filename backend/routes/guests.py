"""What upload routes do for guests: take a place of their link, watch whether it stands, take their note."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from backend.core.access.principals import CACHED_SECONDS, Principal
from backend.core.concurrency import run_guarded, run_shielded
from backend.core.errors import StoreError, UploadExpired, UploadLinkRejected, UploadLocked, UploadNotFound
from backend.core.names import clean_lines
from backend.core.records import AS_THE_WORKER_CHOOSES, MAX_NOTE_LENGTH, Guest, TranscodeOptions
from backend.core.uploads.ingest import Description
from backend.core.uploads.one_shot import clean_up
from backend.core.uploads.quota import Bounds
from backend.routes.services import Services, retention

T = TypeVar("T")

CHECK_SECONDS = CACHED_SECONDS
"""How often to look whether the link of an upload that is being sent still stands."""


@asynccontextmanager
async def place_of(
    services: Services, principal: Principal, *, resumable: bool = False
) -> AsyncIterator[Bounds | None]:
    """Take a place for a guest's upload, and give it back if the block fails. Yield None for others.

    Raises: UploadLinkRejected, UploadLinkUsedUp.
    """
    if principal.link is None:
        yield None
        return
    link = await services.upload_links.find(principal.link)
    if link is None or not services.upload_links.is_open(link):
        raise UploadLinkRejected
    place = await services.places.take(principal.link, link.max_uploads, resumable=resumable)
    try:
        yield Bounds(place.upload, link.max_bytes, place.ends_at)
    except BaseException:  # including the cancellation when a client disconnects
        await run_shielded(_give_back(services, principal.link, place.upload))
        raise


async def while_allowed(
    services: Services,
    principal: Principal,
    sending: Coroutine[Any, Any, T],
    bounds: Bounds | None = None,
) -> T:
    """Return the result of `sending`, unless a guest's link is withdrawn or the time is over before.

    Raises: UploadLinkRejected, UploadExpired.
    """
    if principal.link is None:
        return await sending
    return await run_guarded(sending, _watch(services, principal, bounds))


async def _watch(services: Services, principal: Principal, bounds: Bounds | None) -> None:
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if bounds is not None and services.upload_links.now() >= bounds.ends_at:
            raise UploadExpired
        with suppress(StoreError):  # the upload has its own patience
            if await services.principals.of(principal.right) is None:
                raise UploadLinkRejected


async def discard(services: Services, principal: Principal, upload_id: str) -> None:
    """Delete a resumable upload, and give back its place. Raises: as `ResumableUploads.terminate`."""
    await services.resumable.terminate(upload_id)
    if principal.link is not None:
        await _give_back(services, principal.link, upload_id)


async def discard_refused(services: Services, principal: Principal, upload_id: str) -> None:
    """Delete a guest's upload that turned out not to be a video: it must not hold its place."""
    if principal.link is not None:
        with suppress(StoreError, UploadLocked, UploadNotFound):
            await discard(services, principal, upload_id)


async def _give_back(services: Services, link_id: str, upload_id: str) -> None:
    await clean_up(services.places.give_back(link_id, upload_id), "place_not_given_back", link=link_id)


def description_for(
    services: Services, principal: Principal, said: Description, wish: str | None
) -> Description:
    """Complete what the uploader says. `wish` is `keep_original`, which is not up to guests."""
    guest = principal.link and Guest(link=principal.link, note=clean_lines(said.note, MAX_NOTE_LENGTH))
    kept = retention(services.settings, None if guest else wish)
    return replace(said, original=kept, owner=principal.person, guest=guest or None)


def options_for(principal: Principal, wanted: TranscodeOptions) -> TranscodeOptions:
    """Return the options that count: guests have none."""
    return AS_THE_WORKER_CHOOSES if principal.link else wanted
