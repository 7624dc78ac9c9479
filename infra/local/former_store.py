"""Import from MiniStack, the former embedded store, which kept its objects in `data/store/objects`.

An object is a file `<account>/<bucket>/<key>`; its key, content type and other headers are in
`<key>.meta.json` beside it. Nothing here deletes them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.core.errors import ObjectNotFound
from backend.core.store.interface import ObjectHeaders, Store, UploadedPart
from backend.core.store.s3 import S3Buckets
from infra.local.data import DataDirectory

_SIDECAR = ".meta.json"
_UNFINISHED = ".tmp"
_PART_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FormerObject:
    bucket: str
    key: str
    headers: ObjectHeaders
    body: Path


def waits_for_import(data: DataDirectory) -> bool:
    """Return whether the former store holds objects and no import has completed."""
    return not _done(data).exists() and next(_bodies(data), None) is not None


async def import_former_store(data: DataDirectory, buckets: S3Buckets) -> tuple[int, int]:
    """Copy every object that the new store lacks, and record completion. May be repeated.

    Returns:
        How many were copied, and how many already existed.
    """
    stores: dict[str, Store] = {store.name: store for store in (buckets.raw, buckets.video)}
    copied = there = 0
    for former in former_objects(data):
        if (store := stores.get(former.bucket)) is None:
            continue
        if await _exists(store, former.key):
            there += 1
            continue
        await _copy(former, store)
        copied += 1
    _done(data).touch()
    return copied, there


def former_objects(data: DataDirectory) -> Iterator[FormerObject]:
    for body in _bodies(data):
        _, bucket, *key = body.relative_to(former_root(data)).parts
        description = _description(body)
        kept = description.get("preserved_headers") or {}
        yield FormerObject(
            bucket,
            str(description.get("key") or "/".join(key)),
            ObjectHeaders(
                content_type=description.get("content_type") or ObjectHeaders().content_type,
                cache_control=kept.get("cache-control"),
                content_disposition=kept.get("content-disposition"),
            ),
            body,
        )


def former_root(data: DataDirectory) -> Path:
    return data.store / "objects"


def _done(data: DataDirectory) -> Path:
    return data.store / "imported"


def _bodies(data: DataDirectory) -> Iterator[Path]:
    for path in former_root(data).glob("*/*/**/*"):
        if path.is_file() and not path.name.endswith((_SIDECAR, _UNFINISHED)):
            yield path


def _description(body: Path) -> dict[str, Any]:
    """Return the metadata beside the object; empty if a kill left it torn or missing."""
    try:
        found: dict[str, Any] = json.loads(body.with_name(body.name + _SIDECAR).read_text())
    except (OSError, ValueError):
        return {}
    return found


async def _exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectNotFound:
        return False
    return True


async def _copy(former: FormerObject, store: Store) -> None:
    if former.body.stat().st_size <= _PART_BYTES:
        await store.put(former.key, former.body.read_bytes(), former.headers)
        return
    upload_id = await store.open_upload(former.key, former.headers)
    parts: list[UploadedPart] = []
    with former.body.open("rb") as file:
        while part := file.read(_PART_BYTES):
            parts.append(await store.put_part(former.key, upload_id, len(parts) + 1, part))
    await store.complete_upload(former.key, upload_id, parts)
