"""The admin token: what matches it, and which sessions and grants were made with it."""

import hashlib
import hmac

from backend.core.access.rights import HOLDER_DIGITS
from backend.core.access.signing_keys import SigningKeys

SCRYPT_COST = 2**14
"""Takes 40 ms, once for each key: reading the bucket must not help to guess a weak token."""


class AdminToken:
    """Compares in constant time. Only its fingerprints leave this object."""

    def __init__(self, token: str, keys: SigningKeys) -> None:
        self._token = token.encode()
        self._keys = keys
        self._fingerprints: dict[bytes, str] = {}

    def matches(self, candidate: str) -> bool:
        """Compare digests: comparing the texts would tell their lengths."""
        return hmac.compare_digest(_sha256(candidate.encode(errors="surrogatepass")), _sha256(self._token))

    def fingerprint(self) -> str:
        """Return what ties a session or grant to this token. Without a signing key it tells nothing."""
        return self._fingerprint(self._keys.current[1])

    def made(self, fingerprint: str) -> bool:
        """Return whether it is this token's fingerprint under any key that still counts."""
        return any(self._fingerprint(key) == fingerprint for key in self._keys.all.values())

    def _fingerprint(self, key: bytes) -> str:
        if key not in self._fingerprints:
            digest = hashlib.scrypt(self._token, salt=key, n=SCRYPT_COST, r=8, p=1, dklen=HOLDER_DIGITS // 2)
            self._fingerprints[key] = digest.hex()
        return self._fingerprints[key]


def _sha256(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
