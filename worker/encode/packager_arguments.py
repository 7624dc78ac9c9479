"""Builds the packager's command line. Pure; each flag has its reason."""

from collections.abc import Sequence
from pathlib import Path

from backend.core.keys import DASH_MANIFEST, MASTER_PLAYLIST
from worker.encode.ffmpeg_arguments import pipe_name
from worker.encode.ladder import AudioStream, EncodingPlan

IO_CACHE_BYTES = 256 * 1024
IO_BLOCK_BYTES = 4 * 1024

_ONCE = ("--hls_playlist_type", "VOD", "--generate_static_live_mpd")
_SEPARATORS = str.maketrans(dict.fromkeys(',="\\', " "))
"""Of the packager's descriptors and of HLS attributes. Labels come from the uploader."""


def media_playlist(rendition: str) -> str:
    """Return the path of a rendition's playlist below the run's prefix."""
    return f"hls/{rendition}.m3u8"


def keyframe_playlist(rendition: str) -> str:
    """Return the path of a rendition's keyframe playlist, for fast forward and previews."""
    return f"hls/{rendition}-iframes.m3u8"


def playlists_of(plan: EncodingPlan) -> frozenset[str]:
    """Return every playlist that the master names."""
    keyframes = (keyframe_playlist(stream.name) for stream in plan.packaged_video)
    return frozenset((*(media_playlist(name) for name in plan.names), *keyframes))


def packager_arguments(
    packager: Path,
    plan: EncodingPlan,
    inputs: str,
    url: str,
    segment_seconds: float,
    *,
    growing: bool = True,
) -> Sequence[str]:
    """Return argv. `inputs` is the directory or URL of the streams (`pipe_name`), `url` the sink; both end
    with a slash. Unless `growing`, each playlist is written once, at the end."""
    return (
        str(packager),
        "--quiet",
        # per file read or written. The default of 32 MiB took 800 MiB for a 1080p ladder
        *("--io_cache_size", str(IO_CACHE_BYTES)),
        # pipes are read in whole blocks. The default of 64 KiB is 4 s of audio, and all else waits for it
        *("--io_block_size", str(IO_BLOCK_BYTES)),
        *(_video(stream.name, inputs, url) for stream in plan.packaged_video),
        *(_audio(stream, inputs, url, default=stream is plan.audio[0]) for stream in plan.audio),
        *("--segment_duration", f"{segment_seconds:g}"),
        *("--hls_master_playlist_output", url + MASTER_PLAYLIST),
        # a growing playlist: the video can be watched while it is encoded. At the end, make the playlists VOD
        # with ENDLIST, and the manifest static
        *(("--hls_playlist_type", "EVENT", "--event_to_vod_on_end_of_stream") if growing else _ONCE),
        *("--hls_start_time_offset", "0"),
        *("--mpd_output", url + DASH_MANIFEST),
    )


def _video(name: str, inputs: str, url: str) -> str:
    return f"{_stream(name, 'video', inputs, url)},iframe_playlist_name={name}-iframes.m3u8"


def _audio(stream: AudioStream, inputs: str, url: str, *, default: bool) -> str:
    """All tracks form one HLS group; each is its own DASH adaptation set."""
    label = stream.label.translate(_SEPARATORS)
    fields = (
        _stream(stream.name, "audio", inputs, url),
        f"hls_group_id=audio,hls_name={label},dash_label={label}",
        f"dash_roles={'main' if default else 'alternate'}",
        *((f"language={stream.source.language}",) if stream.source.language else ()),
    )
    return ",".join(fields)


def _stream(name: str, kind: str, inputs: str, url: str) -> str:
    fields = (
        f"in={inputs}{pipe_name(name)}",
        f"stream={kind}",
        # HLS and DASH share these segments. Players accept these extensions (ffmpeg: extension_picky)
        f"init_segment={url}media/{name}/init.mp4",
        f"segment_template={url}media/{name}/$Number%05d$.m4s",
        f"playlist_name={name}.m3u8",
    )
    return ",".join(fields)
