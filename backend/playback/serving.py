"""How a video's files are served: content types, and presigned URLs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from backend.core.store.interface import PresignedGet

MANIFEST_TYPES = {
    "m3u8": "application/vnd.apple.mpegurl",
    "mpd": "application/dash+xml",
    "vtt": "text/vtt",
}
"""Served by the API itself: a redirect to the store would change the base of their relative URIs."""
CONTENT_TYPES = {
    **MANIFEST_TYPES,
    "webm": "video/webm",
    "mp4": "video/mp4",
    "m4s": "video/iso.segment",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}


def content_type_of(path: str) -> str:
    return CONTENT_TYPES.get(path.rpartition(".")[2], "application/octet-stream")


def is_manifest(path: str) -> bool:
    return path.rpartition(".")[2] in MANIFEST_TYPES


@dataclass(frozen=True, slots=True)
class SigningWindow:
    """The rounded time to sign for, and how long the redirect may be cached."""

    signed_at: datetime
    max_age_seconds: int

    @classmethod
    def at(cls, unix_seconds: float, ttl_seconds: int) -> "SigningWindow":
        """Round down to a multiple of a third of the TTL, so URLs are valid for at least two thirds of it.

        A cached redirect is only used while at least a quarter of the TTL is left.
        """
        window = ttl_seconds // 3
        signed_at = int(unix_seconds) // window * window
        seconds_left = signed_at + ttl_seconds - int(unix_seconds)
        return cls(datetime.fromtimestamp(signed_at, UTC), seconds_left - ttl_seconds // 4)

    def get(self, ttl_seconds: int, content_disposition: str | None = None) -> PresignedGet:
        return PresignedGet(ttl_seconds, content_disposition, self.signed_at)


def attachment(name: str, suffix: str) -> str:
    """Return a Content-Disposition (RFC 6266) with an ASCII filename, and the full one in UTF-8."""
    stem, suffix = (
        "".join("_" if char in _UNSAFE or not char.isprintable() else char for char in part)
        for part in (name, suffix)
    )
    full = f"{stem.strip(' .') or 'video'}{suffix}"
    plain = full.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(full, safe='')}"


_UNSAFE = frozenset('/\\:*?"<>|%;')
