"""What `--fix` mends of what the checks have found, where the store takes it."""

from collections.abc import Awaitable, Sequence

from backend.core.errors import StoreError
from backend.core.store.probes import Check, Verdict
from backend.core.store.s3 import S3Buckets, configure_cors
from vodbucket.doctor.buckets import LIFECYCLE
from vodbucket.doctor.playback import CORS


async def fix(buckets: S3Buckets, checks: Sequence[Check], upload_days: int) -> list[str]:
    """Mend what did not pass and return what was done, one line each.

    `upload_days` is how long the store must leave incomplete uploads alone.

    A bucket that is made here gets its rules at once: nothing could be checked on it before.
    """
    wrong = {check.name for check in checks if check.verdict in {Verdict.WARN, Verdict.FAIL}}
    done = []
    made = set()
    for role, store in (("raw", buckets.raw), ("video", buckets.video)):
        if f"{role} bucket" in wrong:
            done.append(await _tried(f"create {store.name}", store.ensure_exists()))
            made.add(role)
    if "video" in made or any(name.startswith(CORS) for name in wrong):
        taken = await configure_cors(buckets)
        done.append(_line(f"let pages play from {buckets.video.name} (CORS)", None if taken else "refused"))
    for role, store in (("raw", buckets.raw), ("video", buckets.video)):
        if role in made or LIFECYCLE.format(role) in wrong:
            what = f"drop abandoned uploads of {store.name} after {upload_days} days"
            done.append(await _tried(what, store.abort_uploads_after(upload_days)))
    return done


async def _tried(what: str, work: Awaitable[None]) -> str:
    try:
        await work
    except StoreError as error:
        return _line(what, error.message)
    return _line(what, None)


def _line(what: str, refusal: str | None) -> str:
    return f"done: {what}" if refusal is None else f"not done: {what}: {refusal}"
