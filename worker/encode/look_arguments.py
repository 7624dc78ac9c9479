"""Builds ffmpeg's command line for the look, from any segment on. Pure; each flag has its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from worker.encode.channels import may_clip, stereo_filters
from worker.encode.chunk_arguments import FILM_CLOCK, FILM_FRAGMENTS, WITHOUT_SEI
from worker.encode.colours import on_black, to_bt709
from worker.encode.ffmpeg_arguments import STRIPPED, opened, pipe_name, written
from worker.encode.filter_graph import fit
from worker.encode.grid import SAMPLES_PER_AAC_FRAME
from worker.encode.ladder import AAC_BPS, H264_CRF, AudioStream
from worker.encode.look_plan import LookPlan, LookRendition
from worker.encode.video_encoders import X264, X264_PRESETS
from worker.source.media import MediaInfo, VideoInfo

PRESET = X264_PRESETS.index("superfast")
AFTER_KEYFRAME_SECONDS = Fraction(1, 1000)
"""Added to the time of a keyframe before seeking to it, so that rounding does not find the one before."""
SOUND_FRAMES_BEFORE = 2
"""What an AAC frame sounds like depends on the one before it: these are encoded too, and left out."""
SOUND_FRAGMENT_MICROSECONDS = 500_000

_SOUND_FRAGMENTED = (
    *("-f", "mp4", "-avoid_negative_ts", "disabled", "-use_editlist", "0"),
    *("-movflags", "+delay_moov+default_base_moof+frag_discont"),
    *("-frag_duration", str(SOUND_FRAGMENT_MICROSECONDS)),
)


@dataclass(frozen=True, slots=True)
class LookSource:
    """A source on loopback, its picture, and its audio tracks in the order of the look's."""

    url: str
    media: MediaInfo
    video: VideoInfo
    tracks: Sequence[AudioStream]


def look_arguments(ffmpeg: Path, look: LookPlan, source: LookSource, segment: int) -> Sequence[str]:
    """Return argv. `segment` counts from 0. Each rendition goes to the pipe that is named after it."""
    video = source.video
    sound = list(zip(look.sound, source.tracks, strict=True))
    graphs = [] if look.picture.copied else [_picture_graph(look, video, segment)]
    graphs += [_sound_graph(one, track, segment) for one, track in sound if not one.copied]
    outputs = [_picture(look, video, segment), *(_sound(one, track) for one, track in sound)]
    clock = (
        *FILM_CLOCK,
        # an exact seek would drop the frame that is shown at the start if it began earlier
        *("-noaccurate_seek", *_seek(look, segment)),
        *(("-skip_frame", "noref") if look.skips_frames else ()),
    )
    return (*opened(ffmpeg, source.media, source.url, clock), *written(graphs, outputs))


def _seek(look: LookPlan, segment: int) -> tuple[str, ...]:
    if not segment:
        return ()
    start = Fraction(look.picture.starts[segment], look.picture.timescale)
    at = float(start + AFTER_KEYFRAME_SECONDS) if look.picture.copied else look.seeks[segment]
    return ("-ss", f"{at:.6f}") if at else ()


def _picture(look: LookPlan, video: VideoInfo, segment: int) -> tuple[str, ...]:
    one = look.picture
    rate = ("-video_track_timescale", str(one.timescale))
    if one.copied:
        copied = ("-map", f"0:{video.index}", "-c:v", "copy", *WITHOUT_SEI)
        return (*copied, *STRIPPED, *rate, *FILM_FRAGMENTS, pipe_name(one.name))
    # keyframes are counted from the last one, and the first segment is shorter than the others
    first, second = [ticks // look.fps.denominator for ticks in (*one.starts[1:], one.end, one.end)][:2]
    return (
        *("-map", f"[{one.name}]"),
        *(() if segment else ("-force_key_frames", f"expr:eq(n,{first})")),
        *("-g", str(max(1, second - first)), "-sc_threshold", "0", "-flags", "+cgop"),
        *X264.arguments(crf=H264_CRF, preset=PRESET, max_bps=one.bps),
        *(*STRIPPED, *rate, *FILM_FRAGMENTS, pipe_name(one.name)),
    )


def _picture_graph(look: LookPlan, video: VideoInfo, segment: int) -> str:
    """Scale first: what comes after it works on a small picture."""
    one = look.picture
    start = Fraction(one.starts[segment], one.timescale)
    filters = (
        *on_black(video),
        *(["bwdif=mode=send_frame:deint=interlaced"] if video.interlaced else []),
        *(fit(video, one.width, one.height) or [f"scale={one.width}:{one.height}:flags=bicubic", "setsar=1"]),
        to_bt709(video, one.width, one.height),
        f"fps=fps={look.fps}:start_time={float(start):.9f}",
        # to the planned length, whatever is missing
        f"tpad=stop_mode=clone:stop=-1,trim=end_pts={one.end // look.fps.denominator}",
    )
    return f"[0:{video.index}]{','.join(filters)}[{one.name}]"


def _sound(one: LookRendition, track: AudioStream) -> tuple[str, ...]:
    if one.copied:
        stream: tuple[str, ...] = ("-map", f"0:{track.source.index}", "-c:a", "copy")
    else:
        stream = ("-map", f"[{one.name}]", "-c:a", "aac", "-b:a", str(AAC_BPS))
    return (*stream, *STRIPPED, *_SOUND_FRAGMENTED, pipe_name(one.name))


def _sound_graph(one: LookRendition, track: AudioStream, segment: int) -> str:
    source = track.source
    first = max(0, one.starts[segment] - SOUND_FRAMES_BEFORE * SAMPLES_PER_AAC_FRAME)
    filled = f"aresample={one.timescale}:async=1:first_pts={first}"
    chains: list[str] = []
    begin = f"[0:{source.index}]{','.join((*stereo_filters(source), ''))}"
    if source.right_index is not None:
        for side, index in (("left", source.index), ("right", source.right_index)):
            chains.append(f"[0:{index}]{filled}[{side}-{one.name}]")
        begin = f"[left-{one.name}][right-{one.name}]join=inputs=2:channel_layout=stereo:map=0.0-FL|1.0-FR,"
    filters = (
        f"{filled}:rematrix_maxval=1000:out_chlayout=stereo:osf=fltp",
        *(["alimiter=limit=0.95:level=disabled:latency=1"] if may_clip(source) else []),
        f"aformat=sample_fmts=fltp:sample_rates={one.timescale}:channel_layouts=stereo",
        f"apad=whole_len={one.end - first}",
        f"atrim=end_pts={one.end}",
    )
    return ";".join((*chains, f"{begin}{','.join(filters)}[{one.name}]"))
