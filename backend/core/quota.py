"""How much the uploads of all people together may take: looked up in the bucket, before a byte is moved."""

from dataclasses import dataclass

from backend.core import keys
from backend.core.errors import ObjectNotFound, StorageFull, TooManyUploads
from backend.core.store import Store
from backend.core.together import all_of
from backend.core.upload_records import UploadInfo


@dataclass(frozen=True, slots=True)
class Quota:
    """None means no limit. Uploads that are announced at the same instant may together exceed one."""

    max_open_uploads: int | None = None
    max_raw_bytes: int | None = None

    async def admit(self, raw: Store, size_bytes: int | None) -> None:
        """Raises: TooManyUploads, StorageFull: one more upload, of this size if it is known, is too much."""
        if self.max_open_uploads is None and self.max_raw_bytes is None:
            return
        stored_bytes, open_keys = 0, []
        async for info in raw.list_all(keys.UPLOADS):
            if info.key.endswith(".info"):
                open_keys.append(info.key)
            elif info.key.endswith(".orig"):
                stored_bytes += info.size_bytes
        if self.max_open_uploads is not None and len(open_keys) >= self.max_open_uploads:
            raise TooManyUploads
        if self.max_raw_bytes is None:
            return
        announced = await all_of(_announced(raw, key) for key in open_keys)
        if stored_bytes + sum(announced) + (size_bytes or 0) > self.max_raw_bytes:
            raise StorageFull


NO_QUOTA = Quota()


async def _announced(raw: Store, key: str) -> int:
    try:
        return UploadInfo.from_json((await raw.get(key)).body).length or 0
    except ObjectNotFound:
        return 0  # finished meanwhile
