"""How many uploads of a link there are: each holds one of the link's places.

Who holds them is a chain of create-only records, each of which builds on the one before, so of any number of
uploads that begin at once, no more get a place than there are. An upload that fails gives its place back. If
its server or client is gone, the next upload that needs the place takes it, once the first can surely not
become a video. A video holds its place as long as it exists.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field

from backend.core import keys
from backend.core.access.upload_links import FINISH_SECONDS
from backend.core.errors import BadRequest, UploadLinkUsedUp
from backend.core.ids import new_id
from backend.core.records import Record, RecordUnreadable, Value, new_nonce
from backend.core.store.interface import Store, exists

LATEST_STEPS = timedelta(minutes=10)
"""What may pass between the last byte of an upload and its video."""
MOST_CHANGES = 1000
"""A guest whose uploads fail again and again must not fill the bucket."""


class Place(Value):
    upload: str = Field(description="and its video")
    resumable: bool
    ends_at: AwareDatetime = Field(description="when its last byte must have arrived")


class Places(Record):
    """`upload-links/<id>/uses/<inverted number>`, create-only. The newest one counts."""

    held: tuple[Place, ...] = ()
    nonce: str = Field(default_factory=new_nonce)


class LinkPlaces:
    """Takes and gives back places of upload links.

    `evict` ends an upload for good; if its second argument is set, only one that is idle. It returns False if
    it did not: a request sends the upload, or it is a video.
    """

    def __init__(
        self, video: Store, evict: Callable[[str, bool], Awaitable[bool]], now: Callable[[], datetime]
    ) -> None:
        self._video = video
        self._evict = evict
        self._now = now

    async def take(self, link_id: str, most: int, *, resumable: bool) -> Place:
        """Return a place for an upload that begins now. Raises: UploadLinkUsedUp."""
        now = self._now()
        upload_id = new_id(int(now.timestamp() * 1000))
        ends_at = now + timedelta(seconds=FINISH_SECONDS)
        place, evicted = Place(upload=upload_id, resumable=resumable, ends_at=ends_at), set[str]()
        while True:
            number, held = await self._newest(link_id)
            if len(held) >= most:
                evicted |= {one.upload for one in held if await self._is_evicted(one)}
                held = tuple(one for one in held if one.upload not in evicted)
            if len(held) >= most or number >= MOST_CHANGES:
                raise UploadLinkUsedUp
            if await self._write(link_id, number + 1, (*held, place)):
                return place

    async def give_back(self, link_id: str, upload_id: str) -> None:
        """Free the place of an upload that has ended, unless there is its video."""
        if await exists(self._video, keys.video_record(upload_id)):
            return
        while True:
            number, held = await self._newest(link_id)
            left = tuple(one for one in held if one.upload != upload_id)
            if left == held or await self._write(link_id, number + 1, left):
                return

    async def left(self, link_id: str, most: int) -> int:
        """Return how many uploads may still begin."""
        number, held = await self._newest(link_id)
        if number >= MOST_CHANGES:
            return 0
        if len(held) < most:
            return most - len(held)
        late = [one.upload for one in held if self._is_late(one)]
        return sum([not await exists(self._video, keys.video_record(upload_id)) for upload_id in late])

    async def _is_evicted(self, place: Place) -> bool:
        is_late = self._is_late(place)
        return (is_late or place.resumable) and await self._evict(place.upload, not is_late)

    def _is_late(self, place: Place) -> bool:
        return self._now() >= place.ends_at + LATEST_STEPS

    async def _newest(self, link_id: str) -> tuple[int, tuple[Place, ...]]:
        """Raises: RecordUnreadable: it might hold places."""
        page = await self._video.list_page(keys.places_of_link(link_id), limit=1)
        for info in page.objects:
            try:
                number = keys.parse_places(info.key)
            except BadRequest as error:
                raise RecordUnreadable(error.message) from error
            return number, Places.from_json((await self._video.get(info.key)).body).held
        return 0, ()

    async def _write(self, link_id: str, number: int, held: tuple[Place, ...]) -> bool:
        return await self._video.create(keys.places(link_id, number), Places(held=held).to_json())
