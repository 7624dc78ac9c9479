"""Builds the packager's command line. Pure; every flag with its reason."""

from collections.abc import Sequence
from pathlib import Path

from backend.core.keys import DASH_MANIFEST, MASTER_PLAYLIST
from worker.encode import pipe_name
from worker.ladder import EncodingPlan

_AUDIO_GROUP = ",hls_group_id=audio,hls_name=audio"


def media_playlist(rendition: str) -> str:
    """Path of a rendition's playlist below the run's prefix."""
    return f"hls/{rendition}.m3u8"


def packager_arguments(
    packager: Path, plan: EncodingPlan, pipes: Path, url: str, segment_seconds: float
) -> Sequence[str]:
    """Return argv. `pipes` is the directory of ffmpeg's named pipes, `url` the sink, with its slash."""
    return (
        str(packager),
        "--quiet",
        *(_stream(stream.name, "video", pipes, url) for stream in plan.packaged_video),
        *((_stream("aac", "audio", pipes, url) + _AUDIO_GROUP,) if plan.has_audio else ()),
        *("--segment_duration", f"{segment_seconds:g}"),
        *("--hls_master_playlist_output", url + MASTER_PLAYLIST),
        # a growing playlist: the video can be watched from its first segment while it is encoded
        *("--hls_playlist_type", "EVENT"),
        # at the end the playlists become VOD with ENDLIST, and the manifest static
        "--event_to_vod_on_end_of_stream",
        *("--mpd_output", url + DASH_MANIFEST),
    )


def _stream(name: str, kind: str, pipes: Path, url: str) -> str:
    fields = (
        f"in={pipes / pipe_name(name)}",
        f"stream={kind}",
        # HLS and DASH share these segments; the extensions are what players accept (ffmpeg: extension_picky)
        f"init_segment={url}media/{name}/init.mp4",
        f"segment_template={url}media/{name}/$Number%05d$.m4s",
        f"playlist_name={name}.m3u8",
    )
    return ",".join(fields)
