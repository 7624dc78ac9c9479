"""Whether the right that a grant was given under still stands: the video, its visibility, who signed in."""

from collections.abc import Callable

from backend.core.access.admin_token import AdminToken
from backend.core.access.rights import Right, RightKind
from backend.core.access.sessions import Sessions
from backend.core.errors import GrantRejected, VideoNotFound
from backend.core.library.videos import read_video
from backend.core.recent_reads import RecentReads
from backend.core.records import Visibility
from backend.core.store.interface import Buckets
from backend.playback.grants import Grant

CACHED_SECONDS = 10.0
"""How long this process does not notice that another one has deleted a video or changed its visibility."""
CACHED_VIDEOS = 4096


class Rights:
    """Answers from what this process read in the last seconds, so that a popular video costs no reads."""

    def __init__(
        self, buckets: Buckets, sessions: Sessions, admin: AdminToken, clock: Callable[[], float]
    ) -> None:
        self._buckets = buckets
        self._sessions = sessions
        self._admin = admin
        self._videos = RecentReads(
            self._visibility, seconds=CACHED_SECONDS, capacity=CACHED_VIDEOS, clock=clock
        )

    def stands(self, grant: Grant) -> bool:
        """Return whether the right surely stands. If not, `check` must be awaited."""
        visibility = self._videos.peek(grant.video_id)
        if visibility is None or not self._allows(grant.right, visibility):
            return False
        return grant.right.kind is not RightKind.SESSION or self._sessions.surely_stands(grant.right.holder)

    async def check(self, grant: Grant) -> None:
        """Raises: VideoNotFound. GrantRejected: the right has ended."""
        visibility = await self._videos.get(grant.video_id)
        if visibility is None:
            raise VideoNotFound
        if not self._allows(grant.right, visibility):
            raise GrantRejected
        if grant.right.kind is RightKind.SESSION and not await self._sessions.stands(grant.right.holder):
            raise GrantRejected

    async def is_public(self, video_id: str) -> bool:
        return await self._videos.get(video_id) is Visibility.PUBLIC

    def forget(self, video_id: str) -> None:
        """Look again at the next request: this process has changed or deleted the video."""
        self._videos.forget(video_id)

    def _allows(self, right: Right, visibility: Visibility) -> bool:
        if right.kind is RightKind.PUBLIC:
            return visibility is Visibility.PUBLIC
        return right.kind is not RightKind.ADMIN or self._admin.made(right.holder)

    async def _visibility(self, video_id: str) -> Visibility | None:
        try:
            return (await read_video(self._buckets, video_id)).visibility
        except VideoNotFound:
            return None
