"""Notes that let another browser or machine with the same file resume its upload.

A client stores where it uploads a file under the file's fingerprint. The server does not interpret the note,
and no upload depends on it.
"""

import hashlib
import re

from backend.core import keys
from backend.core.errors import BadRequest, ObjectNotFound
from backend.core.store.interface import ObjectHeaders, Store

MAX_NOTE_BYTES = 16 * 1024
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_JSON = ObjectHeaders(content_type="application/json")


class ResumptionNotFound(ObjectNotFound):
    """There is no upload to resume for this file."""

    code = "resumption_not_found"


class NoteTooLarge(BadRequest):
    """A note can be at most 16 KiB."""

    code = "note_too_large"


class Resumptions:
    """The notes in the raw bucket, by fingerprint: 64 hexadecimal digits that depend only on the file.

    Each person has notes of their own. `person` is None for the holder of the admin token.
    """

    def __init__(self, raw: Store) -> None:
        self._raw = raw

    async def read(self, person: str | None, fingerprint: str) -> bytes:
        """Raises: ResumptionNotFound."""
        try:
            return (await self._raw.get(_key(person, fingerprint))).body
        except ObjectNotFound:
            raise ResumptionNotFound from None

    async def write(self, person: str | None, fingerprint: str, note: bytes) -> None:
        """Raises: NoteTooLarge."""
        if len(note) > MAX_NOTE_BYTES:
            raise NoteTooLarge
        await self._raw.put(_key(person, fingerprint), note, _JSON)

    async def forget(self, person: str | None, fingerprint: str) -> None:
        await self._raw.delete(_key(person, fingerprint))


def _key(person: str | None, fingerprint: str) -> str:
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise BadRequest("A fingerprint is 64 lowercase hexadecimal digits.")
    if person is not None:
        fingerprint = hashlib.sha256(f"{person} {fingerprint}".encode()).hexdigest()
    return keys.resumption(fingerprint)
