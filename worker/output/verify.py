"""The final check before the source may be deleted: is every output stored, complete and long enough?

It does not rely on exit codes or on what the sink recorded: it lists the store and reads the playlists back,
unless the list shows that they are what was written (`worker.transcode.recalling_store`).
"""

from dataclasses import dataclass

from backend.core.errors import AttemptFailed
from backend.core.keys import DASH_MANIFEST, DOWNLOAD, DOWNLOAD_MP4, MASTER_PLAYLIST
from backend.core.records import OutputObject
from backend.core.store.interface import Store
from worker.encode.ladder import EncodingPlan
from worker.encode.packager_arguments import media_playlist, playlists_of
from worker.output.decode_check import file_arguments
from worker.output.playlists import Playlist, parse_playlist
from worker.output.webm import cues_come_first
from worker.sandbox.activity import ActivityClock
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.process import run
from worker.sandbox.tools import Tools
from worker.source.feeder import SourceFeeder
from worker.source.ffprobe_schema import Report
from worker.source.media import MediaInfo


@dataclass(frozen=True, slots=True)
class Verified:
    """`edges`: for each rendition, its init segment and its first and last media segment."""

    objects: tuple[OutputObject, ...]
    duration_seconds: float
    edges: tuple[tuple[str, ...], ...]


async def verify_outputs(
    store: Store,
    prefix: str,
    plan: EncodingPlan,
    media: MediaInfo,
    sizes: dict[str, int],
    webm_seconds: float,
    segment_seconds: float,
    mp4_seconds: float | None = None,
) -> Verified:
    """Compare what is stored below `prefix` with what should be.

    Raises:
        AttemptFailed: an object is missing or has the wrong size; a rendition is missing, or its duration
            differs from that of the source or the others; or a playlist is not final.
    """
    stored = await _stored(store, prefix, sizes)
    master = await _read(store, prefix, MASTER_PLAYLIST)
    playlists = {name: await _read(store, prefix, media_playlist(name)) for name in plan.names}
    manifest = await _read(store, prefix, DASH_MANIFEST)
    keyframes = [
        await _read(store, prefix, path)
        for path in sorted(playlists_of(plan) - set(map(media_playlist, plan.names)))
    ]
    for playlist in (master, manifest, *playlists.values(), *keyframes):
        missing = [name for name in playlist.names if name not in stored]
        if missing:
            raise _incomplete(f"a playlist names objects that are not stored: {', '.join(missing[:5])}")
    if not playlists_of(plan) <= set(master.names):
        raise _incomplete("the master playlist does not name every rendition")
    if len(manifest.segments) != sum(len(playlist.segments) for playlist in playlists.values()):
        raise _incomplete("HLS and DASH name different segments")
    if not manifest.finished or not all(playlist.finished for playlist in playlists.values()):
        raise _incomplete("a playlist is not final")
    duration = max(playlist.duration_seconds for playlist in playlists.values())
    expected, tolerance = _expected_seconds(media, duration), segment_seconds / 2
    for name, playlist in playlists.items():
        _check_duration(name, playlist.duration_seconds, expected, tolerance)
    # they have the same streams as the playlists, whatever the source is
    _check_duration(DOWNLOAD, webm_seconds, expected or duration, tolerance)
    if mp4_seconds is not None:
        _check_duration(DOWNLOAD_MP4, mp4_seconds, expected or duration, tolerance)
    edges = tuple(_edges(playlist) for playlist in playlists.values())
    return Verified(_objects(stored), duration, edges)


async def verify_only(
    store: Store, prefix: str, media: MediaInfo, sizes: dict[str, int], seconds: float, segment_seconds: float
) -> Verified:
    """Verify the one file of a conversion, which lasts `seconds`. Raises: as `verify_outputs`."""
    stored = await _stored(store, prefix, sizes)
    for path in stored:
        _check_duration(path, seconds, _expected_seconds(media, seconds), segment_seconds / 2)
    return Verified(_objects(stored), seconds, ())


async def _stored(store: Store, prefix: str, sizes: dict[str, int]) -> dict[str, int]:
    stored = {info.key.removeprefix(prefix): info.size_bytes async for info in store.list_all(prefix)}
    if stored != sizes:
        wrong = sorted(path for path in stored.keys() | sizes.keys() if stored.get(path) != sizes.get(path))
        raise _incomplete(f"stored objects differ from what was written: {', '.join(wrong[:5])}")
    return stored


def _objects(stored: dict[str, int]) -> tuple[OutputObject, ...]:
    return tuple(OutputObject(path=path, size_bytes=size) for path, size in sorted(stored.items()))


async def verify_webm(
    tools: Tools,
    store: Store,
    prefix: str,
    plan: EncodingPlan,
    patience_seconds: float,
    activity: ActivityClock,
) -> float:
    """Check the streams and the index of the stored WebM and return its duration in seconds.

    Raises:
        AttemptFailed, StoreError.
    """
    expected = [*(["av1"] if plan.video else []), *("opus" for _ in plan.audio)]
    seconds, beginning = await _verify_download(
        tools, store, prefix + DOWNLOAD, "matroska", plan, expected, patience_seconds, activity
    )
    if not cues_come_first(beginning):
        raise _incomplete("download.webm has no index at its front")
    return seconds


async def verify_mp4(
    tools: Tools,
    store: Store,
    prefix: str,
    plan: EncodingPlan,
    patience_seconds: float,
    activity: ActivityClock,
) -> float:
    """Check the streams of the stored MP4 and return its duration in seconds. Raises: as `verify_webm`."""
    expected = [*(["h264"] if plan.video else []), *("aac" for _ in plan.audio)]
    seconds, _ = await _verify_download(
        tools, store, prefix + DOWNLOAD_MP4, "mp4", plan, expected, patience_seconds, activity
    )
    return seconds


async def _verify_download(
    tools: Tools,
    store: Store,
    key: str,
    demuxer: str,
    plan: EncodingPlan,
    expected: list[str],
    patience_seconds: float,
    activity: ActivityClock,
) -> tuple[float, bytes]:
    """Return the duration in seconds, and the first bytes. Of a conversion, what is in it is decoded too."""
    name = key.rpartition("/")[2]
    info, errors = await store.head(key), BackgroundErrors()
    feeder = SourceFeeder(store, info, errors, patience_seconds, activity)
    shown = ("-show_entries", "format=duration:stream=index,codec_name", "-of", "json")
    async with feeder.serving() as url:
        try:
            done = await run(
                (tools.ffprobe, "-v", "error", "-protocol_whitelist", "http,tcp", "-f", demuxer, *shown, url)
            )
            decoding = file_arguments(tools.ffmpeg, url, demuxer, has_picture=bool(plan.video))
            decoded = await run(decoding) if plan.only else None
        finally:
            errors.check()  # ffprobe cannot tell an outage from a broken file
    if done.exit_code != 0 or (decoded and decoded.exit_code):
        why = decoded.stderr if decoded else done.stderr
        raise _incomplete(f"{name} cannot be read ({why[-200:]})")
    report = Report.model_validate_json(done.stdout)
    codecs = [stream.codec_name for stream in report.streams]
    if codecs != expected:
        raise _incomplete(f"{name} contains {codecs}, not {expected}")
    return report.format.duration or 0.0, feeder.head


def _expected_seconds(media: MediaInfo, longest: float) -> float | None:
    """Return the duration that every rendition should have, as all are padded to the longest.

    If the source's duration is an estimate, they are compared with each other. Without one they could not be
    padded, so nothing is expected.
    """
    if media.duration_is_reliable:
        return media.duration_seconds
    return longest if media.all_ends_known else None


def _edges(playlist: Playlist) -> tuple[str, ...]:
    init = playlist.names[0]
    return (init, *dict.fromkeys((playlist.segments[0], playlist.segments[-1])))


def _check_duration(name: str, seconds: float, expected: float | None, tolerance: float) -> None:
    if seconds <= 0 or (expected is not None and abs(seconds - expected) > tolerance):
        actual = f"{'only ' if seconds < (expected or 0) else ''}{seconds:.1f} s"
        raise AttemptFailed(
            f"The video lasts {expected or 0:.1f} s, but {name} lasts {actual}.", code="duration_mismatch"
        )


async def _read(store: Store, prefix: str, path: str) -> Playlist:
    return parse_playlist(path, (await store.get(prefix + path)).body)


def _incomplete(what: str) -> AttemptFailed:
    return AttemptFailed(f"The outputs are incomplete: {what}.", code="outputs_incomplete")
