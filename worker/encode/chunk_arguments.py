"""Builds ffmpeg's command lines for one chunk of the picture, and for a picture that is copied. Pure; each
flag has its reason.

The frames keep their times in the film, and their fragments too. So the chunks of a rendition are joined by
writing one init segment, which all have alike, and then the fragments of all as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from worker.encode.ffmpeg_arguments import STRIPPED, opened, picture_arguments, pipe_name, written
from worker.encode.filter_graph import chunk_graph
from worker.encode.grid import Chunk, seconds_of
from worker.encode.ladder import EncodingPlan, VideoStream
from worker.encode.video_encoders import Encoders, forced_keyframes
from worker.source.media import MediaInfo, VideoInfo

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
WITHOUT_SEI = ("-bsf:v", "filter_units=remove_types=6")
"""Of copied H.264: cameras write places and serial numbers into its supplemental information, too."""
_TAGGED_BT709 = "h264_metadata=" + ":".join(
    ("colour_primaries=1", "transfer_characteristics=1", "matrix_coefficients=1", "video_full_range_flag=0")
)


def copy_arguments(ffmpeg: Path, media: MediaInfo, video: VideoInfo, name: str, url: str) -> Sequence[str]:
    """Return argv that writes the picture of the source, which is H.264, to `pipe_name(name)` as it is."""
    # tagged like the other rungs: in DASH, the packager would put it into a set of its own
    filters = ("-bsf:v", f"{WITHOUT_SEI[1]},{_TAGGED_BT709}")
    copied = ("-map", f"0:{video.index}", "-c:v", "copy", *filters, *STRIPPED)
    return (*opened(ffmpeg, media, url, FILM_CLOCK), *copied, *FILM_FRAGMENTS, pipe_name(name))


def chunk_arguments(
    ffmpeg: Path, plan: EncodingPlan, media: MediaInfo, url: str, chunk: Chunk, encoders: Encoders
) -> Sequence[str]:
    """Return argv. `url` is the loopback source. Each rendition's picture is written to its `pipe_name`."""
    # the last one begins what is not kept
    ends = () if chunk.is_last else (chunk.frames,)
    places = (seconds_of(chunk.first_frame + place, plan.fps) for place in (*chunk.keyframes, *ends))
    keyframes = forced_keyframes(places)
    outputs = [
        (
            *(*picture_arguments(stream, keyframes, encoders), *_kept(stream, chunk)),
            *(*STRIPPED, *FILM_FRAGMENTS, pipe_name(stream.name)),
        )
        for stream in plan.video
    ]
    options = (*encoders.options, *FILM_CLOCK, *_seek(chunk))
    return (
        *opened(ffmpeg, media, url, options),
        *written([chunk_graph(plan, media, chunk, encoders)], outputs),
    )


def _kept(stream: VideoStream, chunk: Chunk) -> tuple[str, ...]:
    """Leave the frames of the next chunk out: before encoding, or after it if the encoder gains from them."""
    if chunk.is_last:
        return ()
    if stream.codec == "h264":
        return ("-bsf:v", f"noise=drop=gte(n\\,{chunk.frames})")
    return ("-frames:v", str(chunk.frames))


def _seek(chunk: Chunk) -> tuple[str, ...]:
    # an accurate seek would drop the frame that is still shown when the chunk begins
    return ("-noaccurate_seek", "-ss", f"{chunk.seek_seconds:.6f}") if chunk.seek_seconds > 0 else ()
