"""Where clients note how to go on with a file, so that another browser or machine with the same file can.

A note is the client's own: what it needs to find the upload of a file again, under the file's fingerprint.
Nothing of the upload itself depends on it.
"""

import re

from backend.core import keys
from backend.core.errors import BadRequest, ObjectNotFound
from backend.core.store.interface import ObjectHeaders, Store

MAX_NOTE_BYTES = 16 * 1024
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_JSON = ObjectHeaders(content_type="application/json")


class ResumptionNotFound(ObjectNotFound):
    """Nobody has noted how to go on with this file."""

    code = "resumption_not_found"


class NoteTooLarge(BadRequest):
    """A note can have up to 16 KiB."""

    code = "note_too_large"


class Resumptions:
    """The notes of the raw bucket, by fingerprint: 64 hexadecimal digits that depend on the file alone."""

    def __init__(self, raw: Store) -> None:
        self._raw = raw

    async def read(self, fingerprint: str) -> bytes:
        """Raises: ResumptionNotFound."""
        try:
            return (await self._raw.get(_key(fingerprint))).body
        except ObjectNotFound:
            raise ResumptionNotFound from None

    async def write(self, fingerprint: str, note: bytes) -> None:
        """Raises: NoteTooLarge."""
        if len(note) > MAX_NOTE_BYTES:
            raise NoteTooLarge
        await self._raw.put(_key(fingerprint), note, _JSON)

    async def forget(self, fingerprint: str) -> None:
        await self._raw.delete(_key(fingerprint))


def _key(fingerprint: str) -> str:
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise BadRequest("A fingerprint has 64 hexadecimal digits.")
    return keys.resumption(fingerprint)
