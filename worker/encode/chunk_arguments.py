"""Builds ffmpeg's command line for one chunk of the picture. Pure; each flag has its reason.

The frames keep their times in the film, and their fragments too. So the chunks of a rendition are joined by
writing one init segment, which all have alike, and then the fragments of all as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from worker.encode.ffmpeg_arguments import STRIPPED, opened, picture_arguments, pipe_name, written
from worker.encode.filter_graph import chunk_graph
from worker.encode.grid import Chunk, seconds_of
from worker.encode.ladder import EncodingPlan
from worker.encode.video_encoders import Encoders, forced_keyframes
from worker.source.media import MediaInfo

FILM_CLOCK = (
    # the times of the film, wherever ffmpeg begins to read; not those of the file, which may begin at 100 s
    "-copyts",
    "-start_at_zero",
)
FILM_FRAGMENTS = (
    # not moved to zero: then the edit list holds the delay of B-frames only, which all chunks have alike.
    # A fragment for each segment
    *("-avoid_negative_ts", "disabled", "-f", "mp4"),
    *("-movflags", "+frag_keyframe+delay_moov+default_base_moof+frag_discont"),
)


def chunk_arguments(
    ffmpeg: Path, plan: EncodingPlan, media: MediaInfo, url: str, chunk: Chunk, encoders: Encoders
) -> Sequence[str]:
    """Return argv. `url` is the loopback source. Each rendition's picture is written to its `pipe_name`."""
    keyframes = forced_keyframes(seconds_of(chunk.first_frame + place, plan.fps) for place in chunk.keyframes)
    outputs = [
        (*picture_arguments(stream, keyframes, encoders), *STRIPPED, *FILM_FRAGMENTS, pipe_name(stream.name))
        for stream in plan.video
    ]
    options = (*encoders.options, *FILM_CLOCK, *_seek(chunk))
    return (
        *opened(ffmpeg, media, url, options),
        *written([chunk_graph(plan, media, chunk, encoders)], outputs),
    )


def _seek(chunk: Chunk) -> tuple[str, ...]:
    # an accurate seek would drop the frame that is still shown when the chunk begins
    return ("-noaccurate_seek", "-ss", f"{chunk.seek_seconds:.6f}") if chunk.seek_seconds > 0 else ()
