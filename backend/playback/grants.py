"""Signed tokens: playback grants, which sit in URL paths, and session cookies.

A token is its binary payload and a truncated HMAC-SHA256, in base64url. Keys are derived from the admin token
with a label of the purpose, so that a token of one kind is never one of another, and a new admin token ends
them all. Nothing is stored.
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
"""128 bits (NIST SP 800-107 section 5.3.3); a tag is up to two bytes longer, see `Sealer`."""

_GRANT = struct.Struct(">B16sI")
_SESSION = struct.Struct(">BI")


class Sealer:
    """Signs payloads of one purpose and one length.

    The tag is lengthened until payload and tag fill whole groups of three bytes: base64url then has no spare
    bits, so that every token has exactly one spelling.
    """

    def __init__(self, secret: str, purpose: str, payload_bytes: int) -> None:
        self._key = hmac.digest(secret.encode(), f"vodbucket {purpose}".encode(), "sha256")
        self._payload_bytes = payload_bytes
        self._tag_bytes = MIN_TAG_BYTES + -(payload_bytes + MIN_TAG_BYTES) % 3
        self._token = re.compile(rf"[A-Za-z0-9_-]{{{(payload_bytes + self._tag_bytes) // 3 * 4}}}")

    def seal(self, payload: bytes) -> str:
        return urlsafe_b64encode(payload + self._tag(payload)).decode()

    def unseal(self, token: str) -> bytes | None:
        """Return the payload, None when the token was not made by `seal`."""
        if not self._token.fullmatch(token):
            return None
        sealed = urlsafe_b64decode(token)
        payload, tag = sealed[: self._payload_bytes], sealed[self._payload_bytes :]
        return payload if hmac.compare_digest(tag, self._tag(payload)) else None

    def _tag(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")[: self._tag_bytes]


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to play one video until an instant."""

    video_id: str
    expires_unix: int


class Grants:
    """Makes and reads playback grants. `clock` tells Unix seconds."""

    def __init__(self, secret: str, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._sealer = Sealer(secret, "playback grant", _GRANT.size)
        self._ttl_seconds = ttl_seconds
        self._window_seconds = max(1, ttl_seconds // 4)
        self._clock = clock

    def issue(self, video_id: str) -> tuple[str, Grant]:
        """Return a token and what it grants; it lives between three quarters of the TTL and all of it.

        Within a window of a quarter of the TTL the same video gets the same token: equal URLs can be cached.
        """
        begun = int(self._clock()) // self._window_seconds * self._window_seconds
        grant = Grant(video_id, begun + self._ttl_seconds)
        payload = _GRANT.pack(VERSION, UUID(video_id).bytes, grant.expires_unix)
        return self._sealer.seal(payload), grant

    def read(self, token: str) -> Grant | None:
        """Return what the token grants, None when it is forged or over."""
        payload = self._sealer.unseal(token)
        if payload is None:
            return None
        version, video, expires_unix = _GRANT.unpack(payload)
        if version != VERSION or expires_unix <= self._clock():
            return None
        return Grant(str(UUID(bytes=video)), expires_unix)


class Sessions:
    """Makes and checks the tokens of browsers that have signed in. `clock` tells Unix seconds."""

    def __init__(self, secret: str, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._sealer = Sealer(secret, "session", _SESSION.size)
        self.ttl_seconds = ttl_seconds
        self._clock = clock

    def issue(self) -> str:
        return self._sealer.seal(_SESSION.pack(VERSION, int(self._clock()) + self.ttl_seconds))

    def is_valid(self, token: str) -> bool:
        payload = self._sealer.unseal(token)
        if payload is None:
            return False
        version, expires_unix = _SESSION.unpack(payload)
        return bool(version == VERSION and expires_unix > self._clock())
