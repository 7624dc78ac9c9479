"""Builds ffmpeg's command line: decode once, scale, encode every rendition. Pure; every flag with its reason.

ffmpeg runs inside the attempt's directory, so all file names here are plain words of our own.
"""

from collections.abc import Sequence
from pathlib import Path

from worker.devices import Encoders, keyframe_arguments
from worker.guards import GUARDS
from worker.ladder import AAC_BPS, OPUS_BPS, EncodingPlan, Rung, VideoStream
from worker.probe import MediaInfo

WEBM_NAME = "download.webm"
POSTER_NAME = "poster.jpg"
POSTER_AT = 0.1
"""Share of the duration after which the poster is looked for."""
POSTER_CANDIDATES = 24
POSTER_SIDE = 720
FRAGMENT_MICROSECONDS = 1_000_000
_HOST = "host-"
"""Marks the port of a picture that is still to be brought to the device that encodes it."""
AUDIO_RATE_HZ = 48_000
"""The one rate that AAC, Opus and every player share."""

_FRAGMENTS = "+frag_keyframe+delay_moov+default_base_moof"
_FRAGMENTED_MP4 = f"f=mp4:select=v:movflags={_FRAGMENTS}:frag_duration={FRAGMENT_MICROSECONDS}"


def pipe_name(rendition: str) -> str:
    return f"{rendition}.pipe"


def encoder_arguments(
    ffmpeg: Path, plan: EncodingPlan, media: MediaInfo, url: str, segment_seconds: float, encoders: Encoders
) -> Sequence[str]:
    """Return argv. `url` is the loopback source; outputs are `pipe_name`s, the WebM and the poster."""
    outputs = [_video_output(plan, stream, segment_seconds, encoders) for stream in plan.video]
    if plan.has_audio:
        outputs.append(("-map", "[aac]", *_aac(), *_fragmented(), pipe_name("aac")))
    if not plan.video:
        outputs.append(("-map", "[opus]", *_opus(), *_webm()))
    else:
        outputs.append(("-map", "[poster]", *_poster()))
    return (
        str(ffmpeg),
        *("-hide_banner", "-nostdin", "-v", "error", "-y"),
        # machine-readable progress on stdout, twice a second
        *("-progress", "pipe:1", "-stats_period", "0.5", "-nostats"),
        *encoders.options,
        *GUARDS,
        *("-i", url),
        *("-filter_complex", filter_graph(plan, media, encoders)),
        *(word for output in outputs for word in output),
    )


def filter_graph(plan: EncodingPlan, media: MediaInfo, encoders: Encoders) -> str:
    """Return the one graph that feeds every output. ffmpeg turns rotated pictures itself, before it."""
    chains: list[str] = []
    if media.video is not None and plan.fps is not None:
        # interlaced fields would comb in the scaler; only frames marked as such are touched
        deinterlace = "bwdif=mode=send_frame:deint=interlaced," if media.video.interlaced else ""
        rungs = tuple(dict.fromkeys(stream.rung for stream in plan.video))
        ports = "".join(f"[s{rung.label}]" for rung in rungs)
        # a constant rate from time zero on: equal keyframe instants in every rung, in step with the sound
        chains.append(
            f"[0:{media.video_index}]{deinterlace}fps=fps={plan.fps}:start_time=0,"
            f"split={len(rungs) + 1}{ports}[sposter]"
        )
        chains += [_rung_chain(plan, rung, encoders) for rung in rungs]
        chains.append(_poster_chain(rungs[-1], media.video.duration_seconds or media.duration_seconds))
    if media.audio is not None:
        # gaps are filled with silence, and audio that ends early goes on as silence to the end of the picture
        pad = f",apad=whole_dur={media.duration_seconds:.3f}" if media.duration_seconds and plan.video else ""
        chains.append(
            f"[0:{media.audio_index}]aresample={AUDIO_RATE_HZ}:async=1:first_pts=0,"
            f"aformat=sample_rates={AUDIO_RATE_HZ}:channel_layouts=stereo{pad},asplit=2[aac][opus]"
        )
    return ";".join(chains)


def _rung_chain(plan: EncodingPlan, rung: Rung, encoders: Encoders) -> str:
    streams = [stream for stream in plan.video if stream.rung == rung]
    uploads = {stream.name: upload for stream in streams if (upload := encoders.of(stream.codec).upload)}
    ports = "".join(f"[{_HOST * (stream.name in uploads)}{stream.name}]" for stream in streams)
    # scaled once per rung, whatever the number of codecs; 8 bit 4:2:0 is what every player decodes
    scaled = (
        f"[s{rung.label}]scale={rung.width}:{rung.height}:flags=bicubic,setsar=1,format=yuv420p,"
        f"split={len(streams)}{ports}"
    )
    return ";".join((scaled, *(f"[{_HOST}{name}]{upload}[{name}]" for name, upload in uploads.items())))


def _poster_chain(top: Rung, duration_seconds: float | None) -> str:
    short = min(top.width, top.height)
    side = min(short, POSTER_SIDE)
    width, height = (length * side // short // 2 * 2 for length in (top.width, top.height))
    start = POSTER_AT * (duration_seconds or 0)
    # `thumbnail` takes the most typical of the next frames, which is never the one black frame of a cut;
    # the first frame is among them in case that the picture ends before `start`
    return (
        f"[sposter]select=gte(t\\,{start:.3f})+eq(n\\,0),scale={width}:{height}:out_range=pc,setsar=1,format=yuvj420p,"
        f"thumbnail=n={POSTER_CANDIDATES}[poster]"
    )


def _video_output(
    plan: EncodingPlan, stream: VideoStream, segment_seconds: float, encoders: Encoders
) -> tuple[str, ...]:
    quality = encoders.of(stream.codec).arguments(
        crf=stream.crf, preset=stream.preset, max_bps=stream.max_bps
    )
    video = ("-map", f"[{stream.name}]", *keyframe_arguments(segment_seconds), *quality)
    if stream is not plan.webm_video:
        return (*video, *_fragmented(), pipe_name(stream.name))
    audio = ("-map", "[opus]", *_opus()) if plan.has_audio else ()
    if not stream.packaged:
        return (*video, *audio, *_webm())
    # one encoder, two files: the packager's pipe and the WebM, whose index is moved to the front at the end
    targets = f"[{_FRAGMENTED_MP4}]{pipe_name(stream.name)}|[f=webm:cues_to_front=1]{WEBM_NAME}"
    # tee cannot ask the encoder for the headers that both files need at their start
    return (*video, *audio, *_STRIPPED, "-flags", "+global_header+cgop", "-f", "tee", targets)


def _aac() -> tuple[str, ...]:
    return ("-c:a", "aac", "-b:a", str(AAC_BPS))


def _opus() -> tuple[str, ...]:
    return ("-c:a", "libopus", "-b:a", str(OPUS_BPS))


def _fragmented() -> tuple[str, ...]:
    return (
        *_STRIPPED,
        *("-f", "mp4"),
        # delay_moov, not empty_moov: only then an edit list tells of B-frame and AAC delay, and all streams
        # start at zero; a fragment a second lets the packager see a segment's end early
        *("-movflags", _FRAGMENTS),
        *("-frag_duration", str(FRAGMENT_MICROSECONDS)),
    )


def _webm() -> tuple[str, ...]:
    # the index moves to the front when the file is complete, so that a download can seek at once
    return (*_STRIPPED, "-f", "webm", "-cues_to_front", "1", WEBM_NAME)


def _poster() -> tuple[str, ...]:
    return (
        *_STRIPPED,
        *("-frames:v", "1", "-c:v", "mjpeg", "-q:v", "4", "-f", "image2", "-update", "1"),
        POSTER_NAME,
    )


_STRIPPED = (
    # cameras write places and serial numbers into files; viewers get none of it
    *("-map_metadata", "-1"),
    *("-map_chapters", "-1"),
)
