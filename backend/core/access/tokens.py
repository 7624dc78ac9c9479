"""Signed tokens: a payload and a truncated HMAC-SHA256, in base64url.

Each purpose has its own signatures, so a token for one purpose is invalid for any other.
"""

import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from backend.core.access.signing_keys import SigningKeys

MIN_TAG_BYTES = 16
"""128 bits (NIST SP 800-107 section 5.3.3); a tag is up to two bytes longer, see `TokenSigner`."""

_KEY_NUMBER = struct.Struct(">H")


class TokenSigner:
    """Signs and verifies tokens for one purpose, with payloads of one length.

    A token begins with the number of its key. The tag is lengthened until the token fills whole groups of
    three bytes. Base64url then has no spare bits, so every token has exactly one spelling.
    """

    def __init__(self, keys: SigningKeys, purpose: str, payload_bytes: int) -> None:
        self._keys = keys
        self._purpose = f"vodbucket {purpose}\0".encode()
        self._signed_bytes = _KEY_NUMBER.size + payload_bytes
        self._tag_bytes = MIN_TAG_BYTES + -(self._signed_bytes + MIN_TAG_BYTES) % 3
        self._token = re.compile(rf"[A-Za-z0-9_-]{{{(self._signed_bytes + self._tag_bytes) // 3 * 4}}}")

    def sign(self, payload: bytes) -> str:
        number, secret = self._keys.current
        signed = _KEY_NUMBER.pack(number) + payload
        return urlsafe_b64encode(signed + self._tag(secret, signed)).decode()

    def verify(self, token: str) -> bytes | None:
        """Return the payload, or None if `sign` did not make this token with a key that still counts."""
        if not self._token.fullmatch(token):
            return None
        decoded = urlsafe_b64decode(token)
        signed, tag = decoded[: self._signed_bytes], decoded[self._signed_bytes :]
        secret = self._keys.all.get(*_KEY_NUMBER.unpack_from(signed))
        if secret is None or not hmac.compare_digest(tag, self._tag(secret, signed)):
            return None
        return signed[_KEY_NUMBER.size :]

    def _tag(self, secret: bytes, signed: bytes) -> bytes:
        return hmac.digest(secret, self._purpose + signed, "sha256")[: self._tag_bytes]
