"""The built site as static files: kept in memory, compressed, and served with strict headers."""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import urlsplit

INDEX = "index.html"
EMBED = "embed.html"
"""A page that has only the player, for pages of other sites."""
NOWHERE = ("'none'",)
DEEPEST = 20
"""Slashes in a path that is looked up: each costs a system call."""
HASHED = "assets/"
"""Vite puts a content hash into every file name in this folder."""

NOT_BUILT = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>vodbucket</title></head>
<h1>vodbucket</h1><p>The API is running, but the site is not built.
Run <code>make build</code>, or use the API: <a href="schema/openapi.json">its description</a>.</p></html>
"""


@dataclass(frozen=True, slots=True)
class StaticFile:
    body: bytes
    content_type: str
    etag: str
    cache_control: str
    gzipped: bytes | None = None


class Site:
    """The files below `directory`. A file is read again when it has changed.

    Pages get a <base>, by which all their addresses are relative to `root_path`. `media_url` is any URL of
    the bucket. Pages may load media from its origin; everything else must come from this server.
    """

    def __init__(self, directory: Path, media_url: str, root_path: str = "") -> None:
        self._directory = directory.resolve()
        self._base = f'<base href="{root_path}/">'.encode()
        media = urlsplit(media_url)
        self._policy = _content_security_policy(f"{media.scheme}://{media.netloc}")
        self._files: dict[Path, tuple[int, StaticFile]] = {}

    def find(self, path: str) -> StaticFile | None:
        """Return the file at `path` (no leading slash), or the index if the site routes the address itself.

        Return None if there is no such file. Blocks on disk.
        """
        found = self._load(path)
        return self.page(INDEX) if found is None and "." not in path.rpartition("/")[2] else found

    def page(self, name: str, head: str = "") -> StaticFile:
        """Return a page of the site, with these elements at the end of its head. Blocks on disk."""
        file = self._load(name) or _static_file(self._with_base(NOT_BUILT), name)
        if not head:
            return file
        return _static_file(file.body.replace(b"</head>", f"{head}</head>".encode(), 1), name)

    def content_security_policy(self, ancestors: Sequence[str] = NOWHERE) -> str:
        """Return the policy of a page that only pages of these origins may embed."""
        return f"{self._policy}; frame-ancestors {' '.join(ancestors)}"

    def _load(self, path: str) -> StaticFile | None:
        if path.count("/") > DEEPEST:
            return None
        try:
            file = (self._directory / path).resolve()
            if not file.is_relative_to(self._directory) or not file.is_file():
                return None
            modified = file.stat().st_mtime_ns
            cached = self._files.get(file)
            if cached is None or cached[0] != modified:
                cached = (
                    modified,
                    self._read(file, file.relative_to(self._directory).as_posix()),
                )
                self._files[file] = cached
        except (OSError, ValueError):
            return None
        return cached[1]

    def _read(self, file: Path, path: str) -> StaticFile:
        body = file.read_bytes()
        return _static_file(self._with_base(body) if path in (INDEX, EMBED) else body, path)

    def _with_base(self, page: bytes) -> bytes:
        """Put it first, before any element that has an address."""
        return page.replace(b"<head>", b"<head>" + self._base, 1)


def _static_file(body: bytes, path: str) -> StaticFile:
    content_type = guess_type(path)[0] or "application/octet-stream"
    gzipped = gzip.compress(body, mtime=0) if _is_text(content_type) else None
    return StaticFile(
        body,
        f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type,
        f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        "public, max-age=31536000, immutable" if path.startswith(HASHED) else "no-cache",
        gzipped if gzipped and len(gzipped) < len(body) else None,
    )


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type.endswith(("json", "javascript", "+xml"))


def _content_security_policy(media_origin: str) -> str:
    """Shaka Player needs blob: for Media Source, inline styles for its controls, and data: for its icons."""
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            f"img-src 'self' data: blob: {media_origin}",
            f"media-src 'self' blob: {media_origin}",
            f"connect-src 'self' {media_origin}",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
        )
    )
