"""Signed tokens, and playback grants, the tokens in the URL paths that players use.

A token is a binary payload and a truncated HMAC-SHA256, in base64url. Each purpose has its own key, derived
from the admin token, so a token for one purpose is invalid for any other, and changing the admin token
invalidates all of them. Nothing is stored.
"""

import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

VERSION = 1
MIN_TAG_BYTES = 16
"""128 bits (NIST SP 800-107 section 5.3.3); a tag is up to two bytes longer, see `TokenSigner`."""

_GRANT = struct.Struct(">B16sI")


class TokenSigner:
    """Signs and verifies tokens for one purpose, with payloads of one length.

    The tag is lengthened until payload and tag fill whole groups of three bytes. Base64url then has no spare
    bits, so every token has exactly one spelling.
    """

    def __init__(self, secret: str, purpose: str, payload_bytes: int) -> None:
        self._key = hmac.digest(secret.encode(), f"vodbucket {purpose}".encode(), "sha256")
        self._payload_bytes = payload_bytes
        self._tag_bytes = MIN_TAG_BYTES + -(payload_bytes + MIN_TAG_BYTES) % 3
        self._token = re.compile(rf"[A-Za-z0-9_-]{{{(payload_bytes + self._tag_bytes) // 3 * 4}}}")

    def sign(self, payload: bytes) -> str:
        return urlsafe_b64encode(payload + self._tag(payload)).decode()

    def verify(self, token: str) -> bytes | None:
        """Return the payload, or None if `sign` did not make this token."""
        if not self._token.fullmatch(token):
            return None
        decoded = urlsafe_b64decode(token)
        payload, tag = decoded[: self._payload_bytes], decoded[self._payload_bytes :]
        return payload if hmac.compare_digest(tag, self._tag(payload)) else None

    def _tag(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")[: self._tag_bytes]


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to play one video until a point in time."""

    video_id: str
    expires_unix: int


class Grants:
    """Issues and reads playback grants. `clock` returns Unix seconds."""

    def __init__(self, secret: str, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._signer = TokenSigner(secret, "playback grant", _GRANT.size)
        self._ttl_seconds = ttl_seconds
        self._window_seconds = max(1, ttl_seconds // 4)
        self._clock = clock

    def issue(self, video_id: str) -> tuple[str, Grant]:
        """Return a token and its grant, valid for at least three quarters of the TTL.

        Within a window of a quarter of the TTL, a video gets the same token each time, so its URLs can be
        cached.
        """
        window_start = int(self._clock()) // self._window_seconds * self._window_seconds
        grant = Grant(video_id, window_start + self._ttl_seconds)
        payload = _GRANT.pack(VERSION, UUID(video_id).bytes, grant.expires_unix)
        return self._signer.sign(payload), grant

    def read(self, token: str) -> Grant | None:
        """Return the token's grant, or None if it is forged or has expired."""
        payload = self._signer.verify(token)
        if payload is None:
            return None
        version, video, expires_unix = _GRANT.unpack(payload)
        if version != VERSION or expires_unix <= self._clock():
            return None
        return Grant(str(UUID(bytes=video)), expires_unix)
