"""Notes on which day something was last used: the modification time of an empty object."""

from collections.abc import Callable

import structlog

from backend.core.errors import STORE_AWAY
from backend.core.store.interface import Store

log = structlog.get_logger(__name__)

DAY_SECONDS = 86_400
NOTED = 100_000


class DailyNotes:
    """Writes `key_of(id)`, each process once a day and id. `clock` returns Unix seconds."""

    def __init__(self, video: Store, key_of: Callable[[str], str], clock: Callable[[], float]) -> None:
        self._video = video
        self._key_of = key_of
        self._clock = clock
        self._day = 0
        self._noted: set[str] = set()

    async def note(self, used_id: str) -> None:
        day = int(self._clock()) // DAY_SECONDS
        if day != self._day or len(self._noted) >= NOTED:
            self._day, self._noted = day, set()
        if used_id in self._noted:
            return
        self._noted.add(used_id)
        try:
            await self._video.put(self._key_of(used_id), b"")
        except STORE_AWAY as error:  # it may still be used
            self._noted.discard(used_id)
            log.warning("use_not_noted", key=self._key_of(used_id), error=error.message)
