"""Slow hashes of what people choose and others might guess. One takes 40 ms and 16 MB, in a thread."""

import asyncio
import hashlib
import math
import time

from backend.core.access.admin_token import SCRYPT_COST
from backend.core.access.rights import HOLDER_DIGITS
from backend.core.recent_reads import RecentReads

CACHED_HASHES = 4096


class SlowHashes:
    """Remembers what was hashed last: clients send the same code and passphrase again and again."""

    def __init__(self) -> None:
        self._recent = RecentReads(_hash, seconds=math.inf, capacity=CACHED_HASHES, clock=time.monotonic)

    async def hash(self, text: str, salt: str) -> str:
        """Return `HOLDER_DIGITS` hexadecimal digits."""
        return await self._recent.get((text, salt))


async def _hash(text_and_salt: tuple[str, str]) -> str:
    text, salt = (part.encode(errors="surrogatepass") for part in text_and_salt)
    digest = await asyncio.to_thread(
        hashlib.scrypt, text, salt=salt, n=SCRYPT_COST, r=8, p=1, dklen=HOLDER_DIGITS // 2
    )
    return digest.hex()
