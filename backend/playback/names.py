"""Finds which video or image an address names, by its id or its slug."""

import re
from collections.abc import Callable

from backend.core.errors import InvalidId
from backend.core.ids import ID_PATTERN, new_id
from backend.core.library.slugs import VIDEO, find_slug, is_slug
from backend.core.recent_reads import RecentReads
from backend.core.store.interface import Store

CACHED_SECONDS = 10.0
"""How long this process does not notice that another one has changed a slug."""
CACHED_SLUGS = 4096
NOBODY = new_id(0, 0)
"""An id that nothing has: unknown slugs get the answers that unknown ids do."""


class Names:
    """Answers from what this process read in the last seconds. `clock` returns seconds."""

    def __init__(self, video: Store, clock: Callable[[], float]) -> None:
        self._video = video
        self._recent = RecentReads(self._find, seconds=CACHED_SECONDS, capacity=CACHED_SLUGS, clock=clock)

    async def id_of(self, name: str, kind: str = VIDEO) -> str:
        """Return the id of the media with this id or slug, or `NOBODY`. Raises: InvalidId: it is neither."""
        if re.fullmatch(ID_PATTERN, name):
            return name
        if not is_slug(name):
            raise InvalidId
        return await self._recent.get((kind, name))

    def forget(self) -> None:
        """Look again at the next requests: this process has changed a slug."""
        self._recent.forget_all()

    async def _find(self, kind_and_slug: tuple[str, str]) -> str:
        return await find_slug(self._video, *kind_and_slug) or NOBODY
