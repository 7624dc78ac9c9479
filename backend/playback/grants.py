"""Playback grants: the signed tokens in the URL paths that players use. Nothing is stored.

A grant names the right that it was given under. `backend.playback.rights` tells whether that still stands.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from backend.core.access.rights import Right, RightKind
from backend.core.access.signing_keys import SigningKeys
from backend.core.access.tokens import TokenSigner

VERSION = 2
VERIFIED_GRANTS = 10_000
"""That many are remembered: the players of a video send the same one with each of their requests."""

_GRANT = struct.Struct(">BB16s16sI")
_KINDS = {int(kind): kind for kind in RightKind}


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to play one video until a point in time, as long as the right stands."""

    video_id: str
    expires_unix: int
    right: Right


class Grants:
    """Issues and reads playback grants. `clock` returns Unix seconds."""

    def __init__(self, keys: SigningKeys, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._signer = TokenSigner(keys, "playback grant", _GRANT.size)
        self._verified: dict[str, Grant] = {}
        """By token. Forgotten whenever keys are loaded, as a key may have been retired."""
        self._verified_with: Mapping[int, bytes] | None = None
        self._ttl_seconds = ttl_seconds
        self._window_seconds = max(1, ttl_seconds // 4)
        self._clock = clock

    def issue(self, video_id: str, right: Right) -> tuple[str, Grant]:
        """Return a token and its grant, valid for at least three quarters of the TTL.

        Within a window of a quarter of the TTL, a video gets the same token under the same right, so its URLs
        can be cached.
        """
        window_start = int(self._clock()) // self._window_seconds * self._window_seconds
        grant = Grant(video_id, window_start + self._ttl_seconds, right)
        holder = bytes.fromhex(right.holder)
        payload = _GRANT.pack(VERSION, right.kind, UUID(video_id).bytes, holder, grant.expires_unix)
        return self._signer.sign(payload), grant

    def read(self, token: str) -> Grant | None:
        """Return the token's grant, or None if it is forged or has expired."""
        if self._verified_with is not self._keys.all or len(self._verified) >= VERIFIED_GRANTS:
            self._verified, self._verified_with = {}, self._keys.all
        grant = self._verified.get(token) or self._verify(token)
        if grant is None or grant.expires_unix <= self._clock():
            return None
        self._verified[token] = grant
        return grant

    def _verify(self, token: str) -> Grant | None:
        payload = self._signer.verify(token)
        if payload is None:
            return None
        version, kind, video, holder, expires_unix = _GRANT.unpack(payload)
        if version != VERSION or kind not in _KINDS:
            return None
        return Grant(str(UUID(bytes=video)), expires_unix, Right(_KINDS[kind], holder.hex()))
