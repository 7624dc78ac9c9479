"""Attempts to sign in: what ties the provider's answer to the browser that was sent there.

It is in a signed cookie, so that any process can finish what another began.
"""

import hashlib
import hmac
import secrets
import struct
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass

from backend.core.access.signing_keys import SigningKeys
from backend.core.access.tokens import TokenSigner

TTL_SECONDS = 900
"""How long somebody may take to sign in at the provider."""
_SEED_BYTES = 32
_EXPIRY = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """The cookie, and what is derived from its random value."""

    cookie: str
    state: str
    """Comes back in the address, so it names the cookie. It tells nothing about the others."""
    nonce: str
    verifier: str
    """The secret of PKCE (RFC 7636)."""


class SignInAttempts:
    """Begins attempts and finds them again. `clock` returns Unix seconds."""

    def __init__(self, signing_keys: SigningKeys, clock: Callable[[], float]) -> None:
        self._signer = TokenSigner(signing_keys, "sign-in", _SEED_BYTES + _EXPIRY.size)
        self._clock = clock

    def begin(self) -> SignInAttempt:
        payload = secrets.token_bytes(_SEED_BYTES) + _EXPIRY.pack(int(self._clock()) + TTL_SECONDS)
        return _attempt(self._signer.sign(payload), payload)

    def find(self, cookie: str, state: str) -> SignInAttempt | None:
        """Return the attempt, or None if it is not the cookie of this state or too old."""
        payload = self._signer.verify(cookie)
        if payload is None or _EXPIRY.unpack_from(payload, _SEED_BYTES)[0] < self._clock():
            return None
        attempt = _attempt(cookie, payload)
        return attempt if hmac.compare_digest(attempt.state, state) else None


def _attempt(cookie: str, payload: bytes) -> SignInAttempt:
    def derived(name: bytes) -> bytes:
        return hashlib.sha256(name + payload).digest()

    verifier = urlsafe_b64encode(derived(b"verifier")).rstrip(b"=").decode()
    return SignInAttempt(cookie, derived(b"state")[:16].hex(), derived(b"nonce").hex(), verifier)
