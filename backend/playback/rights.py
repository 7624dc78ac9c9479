"""Whether the right that a grant was given under still stands: the video, who may see it, who signed in."""

from collections.abc import Callable
from typing import NamedTuple

from backend.core.access.codes import MediaType
from backend.core.access.principals import Media, Opening, Principal, Principals
from backend.core.access.rights import RightKind
from backend.core.errors import GrantRejected, VideoNotFound
from backend.core.library.videos import read_video
from backend.core.recent_reads import RecentReads
from backend.core.records import Visibility
from backend.core.store.interface import Buckets
from backend.playback.grants import Grant

CACHED_SECONDS = 10.0
"""How long this process does not notice that another one has deleted a video or changed its visibility."""
CACHED_VIDEOS = 4096


class Protection(NamedTuple):
    """What decides who may watch a video."""

    owner: str | None
    visibility: Visibility


class Rights:
    """Answers from what this process read in the last seconds, so that a popular video costs no reads."""

    def __init__(self, buckets: Buckets, principals: Principals, clock: Callable[[], float]) -> None:
        self._buckets = buckets
        self._principals = principals
        self._videos = RecentReads(self._read, seconds=CACHED_SECONDS, capacity=CACHED_VIDEOS, clock=clock)

    def stands(self, grant: Grant) -> bool:
        """Return whether the right surely stands. If not, `check` must be awaited."""
        protection = self._videos.peek(grant.video_id)
        return protection is not None and _allows(grant, self._principals.peek(grant.right), protection)

    async def check(self, grant: Grant) -> None:
        """Raises: VideoNotFound. GrantRejected: the right has ended."""
        protection = await self._videos.get(grant.video_id)
        if protection is None:
            raise VideoNotFound
        if not _allows(grant, await self._principals.holder(grant.right), protection):
            raise GrantRejected

    async def protection(self, video_id: str) -> Protection | None:
        """Return what decides who may watch this video, or None if it does not exist."""
        return await self._videos.get(video_id)

    def forget(self, video_id: str) -> None:
        """Look again at the next request: this process has changed or deleted the video."""
        self._videos.forget(video_id)

    async def _read(self, video_id: str) -> Protection | None:
        try:
            video = await read_video(self._buckets, video_id)
        except VideoNotFound:
            return None
        return Protection(video.owner, video.visibility)


def _allows(grant: Grant, holder: Principal | Opening | None, protection: Protection) -> bool:
    if grant.right.kind is RightKind.PUBLIC:
        return protection.visibility is Visibility.PUBLIC
    if isinstance(holder, Opening):
        return holder.opens(Media(MediaType.VIDEO, grant.video_id, protection.owner))
    return holder is not None and holder.sees(*protection)
