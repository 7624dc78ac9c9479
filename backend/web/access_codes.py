"""Access codes in requests: `?access_code=`, and `Access-Passphrase` if the code needs one.

Wrong guesses are counted apart from those of tokens, and passphrases for each code, so nobody who guesses
locks anybody out of anything else. Made-up codes are not counted: they are too long to be guessed.
"""

import asyncio
from typing import Annotated, NamedTuple
from urllib.parse import unquote

from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter

from backend.core.access.codes import AccessCodes, is_made_up
from backend.core.access.principals import Media, Opening, Principals
from backend.core.access.rights import Right
from backend.core.errors import AccessCodeRejected, PassphraseRequired, PassphraseWrong
from backend.core.store.daily_notes import DailyNotes
from backend.web.attempts import Attempts
from backend.web.auth import address_of
from backend.web.bodies import AnyRequest

MAX_LENGTH = 200
"""Of codes and passphrases. Longer ones are wrong."""
GUARDED_CODES = 1000
"""For how many codes wrong passphrases are remembered."""


class AccessKey(NamedTuple):
    """The code and passphrase that a request from this address sends."""

    code: str
    passphrase: str | None
    address: str


FromAccessKey = NamedDependency[AccessKey | None]
"""The type of the parameter `access_key` of a handler that accepts access codes."""


async def provide_access_key(
    request: AnyRequest,
    access_code: Annotated[str | None, QueryParameter(description="opens what it was made for")] = None,
    access_passphrase: Annotated[
        str | None,
        HeaderParameter(name="access-passphrase", description="of the access code, percent-encoded"),
    ] = None,
) -> AccessKey | None:
    if access_code is None:
        return None
    passphrase = None if access_passphrase is None else unquote(access_passphrase)
    return AccessKey(access_code, passphrase, address_of(request))


class AccessGate:
    """Lets guests with access codes in."""

    def __init__(self, codes: AccessCodes, principals: Principals, used: DailyNotes) -> None:
        self._codes = codes
        self._principals = principals
        self._used = used
        self._guesses = Attempts()
        self._passphrases: dict[str, Attempts] = {}
        self._turn = asyncio.Lock()
        """Of many guesses at once, those that follow too many wrong ones are not even hashed."""

    async def right_to(self, media: Media | None, key: AccessKey) -> Right:
        """Return the right under which the code opens the media. None: there is no such thing.

        Raises:
            AccessCodeRejected: wrong, expired, withdrawn, or for something else.
            PassphraseRequired, PassphraseWrong
            TooManyAttempts: too many wrong ones came before.
        """
        opening = await self.opening(key)
        if opening is None or media is None or not opening.opens(media):
            raise AccessCodeRejected
        await self._check_passphrase(opening, key)
        await self._used.note(opening.right.holder)
        return opening.right

    async def opening(self, key: AccessKey) -> Opening | None:
        """Return what the code opens, whatever the passphrase. Raises: TooManyAttempts."""
        if len(key.code) > MAX_LENGTH:
            return None
        if is_made_up(key.code):
            return await self._principals.opening(await self._codes.id_of(key.code))
        found: Opening | None = None

        async def is_right() -> bool:
            nonlocal found
            found = await self._principals.opening(await self._codes.id_of(key.code))
            return found is not None

        async with self._turn:
            await self._guesses.check(key.address, is_right)
        return found

    async def _check_passphrase(self, opening: Opening, key: AccessKey) -> None:
        passphrase = opening.code.passphrase
        if passphrase is None:
            return
        if key.passphrase is None:
            raise PassphraseRequired
        candidate = key.passphrase

        async def is_right() -> bool:
            return len(candidate) <= MAX_LENGTH and await self._codes.is_passphrase(candidate, passphrase)

        async with self._turn:
            if not await self._attempts_at(opening.right.holder).check(key.address, is_right):
                raise PassphraseWrong

    def _attempts_at(self, code_id: str) -> Attempts:
        self._passphrases[code_id] = attempts = self._passphrases.pop(code_id, None) or Attempts()
        if len(self._passphrases) > GUARDED_CODES:
            del self._passphrases[next(iter(self._passphrases))]
        return attempts
