"""Videos whose file is elsewhere: they are added at once, and a worker fetches the file."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog

from backend.core.addresses import parse_address
from backend.core.concurrency import run_shielded
from backend.core.errors import InvalidAddress
from backend.core.ids import new_id
from backend.core.jobs.retry import first_job
from backend.core.library.videos import add_video, delete_video
from backend.core.records import AS_THE_WORKER_CHOOSES, FetchKind, FetchSpec, TranscodeOptions, Video
from backend.core.store.interface import Buckets
from backend.core.uploads.ingest import Description
from backend.core.uploads.one_shot import clean_up
from backend.core.uploads.quota import NO_QUOTA, Quota

log = structlog.get_logger(__name__)


def fetchable(address: str, *, allow_private: bool) -> tuple[FetchKind, str]:
    """Return how to fetch this address, and its usual spelling. Raises: InvalidAddress, AddressRefused."""
    address = parse_address(address, allow_private=allow_private)
    parts = urlsplit(address)
    if parts.scheme == "ftp":
        return FetchKind.FTP, address
    is_torrent = parts.scheme == "magnet" or parts.path.lower().endswith(".torrent")
    return FetchKind.ARIA2 if is_torrent else FetchKind.HTTP, address


def page(address: str, *, allow_private: bool) -> str:
    """Return the usual spelling of a web page's address. Raises: InvalidAddress, AddressRefused."""
    address = parse_address(address, allow_private=allow_private)
    if not address.startswith("http"):
        raise InvalidAddress("Web pages have http:// or https:// addresses.")
    return address


async def add_remote(
    buckets: Buckets,
    kind: FetchKind,
    address: str,
    description: Description,
    *,
    max_bytes: int,
    size_bytes: int = 1,
    quota: Quota = NO_QUOTA,
    options: TranscodeOptions = AS_THE_WORKER_CHOOSES,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Video:
    """Add a video and queue its job, which begins with the fetch. `address` must have been checked.

    Only a video that this returned may be acknowledged. `size_bytes` is the size, or what it is at least.

    Raises:
        TooManyUploads, StorageFull: see `Quota`. The file may be as large as there is room for now.
    """
    room = await quota.admit(buckets.raw, size_bytes)
    created_at = now()
    fetch = FetchSpec(
        kind=kind, address=address, max_bytes=min(max_bytes, room), titled=bool(description.title)
    )
    named = replace(description, filename=name_in(address))
    video_id = new_id(int(created_at.timestamp() * 1000))
    video = named.video(video_id, None, created_at).replace(fetched_from=fetch.shown)
    try:
        await add_video(buckets, video, first_job(video, options, fetch))
    except BaseException:  # including the cancellation when a client disconnects
        await run_shielded(clean_up(delete_video(buckets, video_id), "upload_not_discarded", id=video_id))
        raise
    log.info("video_added", id=video_id, fetched_from=fetch.shown)
    return video


def name_in(address: str) -> str | None:
    """Return the name of the file as far as its address has one."""
    parts = urlsplit(address)
    if parts.scheme == "magnet":
        return next((value for name, value in parse_qsl(parts.query) if name == "dn"), None)
    return PurePosixPath(unquote(parts.path)).name or parts.hostname
