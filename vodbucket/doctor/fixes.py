"""`vodbucket doctor --fix`: fixes failed checks where the store supports it."""

from collections.abc import Awaitable, Sequence

from backend.core.errors import StoreError
from backend.core.store.probes import Check, Verdict
from backend.core.store.s3 import S3Buckets, S3Store, configure_cors
from vodbucket.doctor.buckets import LIFECYCLE, VERSION_DAYS, VERSIONS
from vodbucket.doctor.playback import CORS


async def fix(buckets: S3Buckets, checks: Sequence[Check], upload_days: int) -> list[str]:
    """Fix what did not pass and return one line for each fix.

    The store must keep incomplete uploads for `upload_days`. A bucket created here gets its rules right away,
    because they could not be checked before.
    """
    not_passed = {check.name for check in checks if check.verdict in {Verdict.WARN, Verdict.FAIL}}
    done = []
    created = set()
    for role, store in (("raw", buckets.raw), ("video", buckets.video)):
        if f"{role} bucket" in not_passed:
            done.append(await _attempt(f"create {store.name}", store.ensure_exists()))
            created.add(role)
    if "video" in created or any(name.startswith(CORS) for name in not_passed):
        accepted = await configure_cors(buckets)
        what = f"allow players on any page to read {buckets.video.name} (CORS)"
        done.append(_line(what, None if accepted else "the store does not support it"))
    for role, store in (("raw", buckets.raw), ("video", buckets.video)):
        if role in created or LIFECYCLE.format(role) in not_passed:
            what = f"delete unfinished uploads in {store.name} after {upload_days} days"
            done.append(await _attempt(what, store.abort_uploads_after(upload_days)))
        if VERSIONS.format(role) in not_passed or (role in created and await _keeps_versions(store)):
            what = f"delete old versions in {store.name} after {VERSION_DAYS} day"
            done.append(await _attempt(what, store.delete_old_versions_after(VERSION_DAYS)))
    return done


async def _keeps_versions(store: S3Store) -> bool:
    """Return whether a new bucket keeps versions, as on Backblaze B2."""
    try:
        return await store.is_versioned()
    except StoreError:
        return False


async def _attempt(what: str, work: Awaitable[None]) -> str:
    try:
        await work
    except StoreError as error:
        return _line(what, error.message)
    return _line(what, None)


def _line(what: str, error: str | None) -> str:
    return f"done: {what}" if error is None else f"failed: {what}: {error}"
