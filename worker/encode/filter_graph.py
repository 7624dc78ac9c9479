"""Builds the filter graphs that feed every output: each source stream is decoded and prepared once. Pure.

ffmpeg begins a graph anew, and with it its time line, when sound changes its layout or rate on the way, as
broadcasts do between programmes. So the picture and each track have graphs of their own.

Ports are named for what comes out of them: `[<rendition>]` for video, `[aac-…]` and `[opus-…]` by the audio
stream's name, `[poster]`, `[board]`, `[wave]`.
"""

import math
from collections.abc import Sequence

from worker.encode.colours import to_bt709
from worker.encode.ladder import AudioStream, EncodingPlan, Rung
from worker.encode.storyboard import COLUMNS, ROWS, Storyboard, storyboard_of
from worker.encode.video_encoders import Encoders
from worker.source.duration_limits import MAX_GAP_SECONDS, MAX_STRAY_FRAMES
from worker.source.media import AudioInfo, MediaInfo, VideoInfo

POSTER_AT = 0.1
"""Share of the duration after which the poster is looked for."""
POSTER_CANDIDATES = 12
POSTER_SIDE = 720
POSTER_MIN_BRIGHTNESS = 40
"""Mean luma, of 255, below which a frame is not taken while there are others."""
POSTERS_PER_SECOND = 2
FALLBACK_CANDIDATES = 24
WAVE_WIDTH, WAVE_HEIGHT = 1280, 720
WAVE_RATE_HZ = 8_000
MIN_ENVELOPE_HZ = 200
ASSUMED_SECONDS = 5.0
"""What sound of unknown length is taken for."""
AUDIO_RATE_HZ = 48_000
"""The one rate that AAC, Opus and every player share."""
MIN_GAP_SECONDS = 0.02
"""What is less than a frame is not filled."""
MIN_ESTIMATED_GAP_SECONDS = 1.0
"""MPEG streams have times for some of their frames only, so that their ends are known no better than this."""
MAX_LAYOUT_CHANNELS = 8
"""Beyond that ffmpeg has no idea of where the channels are."""
BROADCAST_CONTAINERS = frozenset({"mpegts", "mpeg"})
"""Containers of sound that may change on the way."""
_STRAYS_LEFT_OUT = (
    f"not(st(0\\,gt(t-prev_selected_t\\,{MAX_GAP_SECONDS})*lt(ld(0)\\,{MAX_STRAY_FRAMES})*(ld(0)+1)))"
)
_HOST = "host-"
"""Marks the port of a picture that is still to be brought to the device that encodes it."""
_JPEG = "in_color_matrix=bt709:out_color_matrix=bt601:out_range=full,setsar=1,format=yuvj420p"
"""JPEG knows no other colours (JFIF)."""


def filter_graphs(plan: EncodingPlan, media: MediaInfo, encoders: Encoders) -> tuple[str, ...]:
    """ffmpeg turns rotated pictures itself, before the graphs."""
    graphs = [] if media.video is None else [_video_chains(plan, media, media.video, encoders)]
    for stream in plan.audio:
        wave = media.video is None and stream is plan.audio[0]
        graphs.append(_audio_chains(stream, media, padded=len(plan.names) > 1, wave=wave))
    return tuple(map(";".join, graphs))


def _video_chains(plan: EncodingPlan, media: MediaInfo, video: VideoInfo, encoders: Encoders) -> list[str]:
    storyboard = storyboard_of(plan, media)
    rungs = tuple(dict.fromkeys(stream.rung for stream in plan.video))
    top = rungs[-1]
    prepared = [
        f"select={_STRAYS_LEFT_OUT}",
        # interlaced fields would comb in the scaler; only frames marked as such are touched
        *(["bwdif=mode=send_frame:deint=interlaced"] if video.interlaced else []),
        # a constant rate from time zero on: equal keyframe instants in every rung, in step with the sound
        f"fps=fps={plan.fps}:start_time=0",
        # players stop where one of two tracks ends: the last picture stays until the sound has ended too
        *_held(media, video),
        to_bt709(video, top.width, top.height),
    ]
    ports = [
        *(f"s{rung.label}" for rung in rungs),
        "sposter",
        "sfallback",
        *(["sboard"] if storyboard else []),
    ]
    return [
        f"[0:{video.index}]{','.join(prepared)},split={len(ports)}{''.join(f'[{port}]' for port in ports)}",
        *(_rung_chain(plan, rung, encoders) for rung in rungs),
        *_poster_chains(plan, top, video.end_seconds or media.duration_seconds),
        *([_board_chain(storyboard)] if storyboard else []),
    ]


def _held(media: MediaInfo, video: VideoInfo) -> tuple[str, ...]:
    """Let the last picture stay until all has ended."""
    if media.duration_is_reliable and media.duration_seconds and video.end_seconds is None:
        # the picture is not among the last packets: how early it ends is seen only when it does
        return "tpad=stop_mode=clone:stop=-1", f"trim=end={media.duration_seconds:.3f}"
    gap = _gap(media, video)
    return (f"tpad=stop_mode=clone:stop_duration={gap:.3f}",) if gap else ()


def _rung_chain(plan: EncodingPlan, rung: Rung, encoders: Encoders) -> str:
    streams = [stream for stream in plan.video if stream.rung == rung]
    uploads = {stream.name: upload for stream in streams if (upload := encoders.of(stream.codec).upload)}
    ports = "".join(f"[{_HOST * (stream.name in uploads)}{stream.name}]" for stream in streams)
    # scaled once per rung, whatever the number of codecs
    scaled = (
        f"[s{rung.label}]scale={rung.width}:{rung.height}:flags=bicubic,setsar=1,format=yuv420p,"
        f"split={len(streams)}{ports}"
    )
    return ";".join((scaled, *(f"[{_HOST}{name}]{upload}[{name}]" for name, upload in uploads.items())))


def _poster_chains(plan: EncodingPlan, top: Rung, duration_seconds: float | None) -> Sequence[str]:
    short = min(top.width, top.height)
    side = min(short, POSTER_SIDE)
    width, height = (length * side // short // 2 * 2 for length in (top.width, top.height))
    scaled = f"scale={width}:{height}:{_JPEG}"
    rate = float(plan.fps or 1)
    often = max(1, round(rate / POSTERS_PER_SECOND))
    seldom = max(1, int(rate * (duration_seconds or 0) / FALLBACK_CANDIDATES))
    start = POSTER_AT * (duration_seconds or 0)
    return (
        # the most typical of the next frames that are not dark; the very first counts in case that the
        # picture ends before `start`
        f"[sposter]select=gte(t\\,{start:.3f})*not(mod(n\\,{often}))+eq(n\\,0),{scaled},signalstats,"
        f"metadata=mode=select:key=lavfi.signalstats.YAVG:value={POSTER_MIN_BRIGHTNESS}:function=greater,"
        f"thumbnail=n={POSTER_CANDIDATES}[bright]",
        # of a film that is dark throughout, a typical frame
        f"[sfallback]select=not(mod(n\\,{seldom})),{scaled},thumbnail=n={FALLBACK_CANDIDATES},"
        "trim=end_frame=1[typical]",
        # an output that gets no frame at all would be an error
        "[bright][typical]concat[poster]",
    )


def _board_chain(storyboard: Storyboard) -> str:
    return (
        f"[sboard]select=not(mod(n\\,{storyboard.every_frames})),"
        f"scale={storyboard.width}:{storyboard.height}:{_JPEG},tile={COLUMNS}x{ROWS}[board]"
    )


def _audio_chains(stream: AudioStream, media: MediaInfo, *, padded: bool, wave: bool) -> list[str]:
    source = stream.source
    ports = [f"aac-{stream.name}", f"opus-{stream.name}", *(["swave"] if wave else [])]
    # a graph that has begun anew would fill up all that went before with silence
    from_zero = "" if media.container in BROADCAST_CONTAINERS and not source.start_seconds else ":first_pts=0"
    filters = [
        f"aselect={_STRAYS_LEFT_OUT}",
        *_laid_out(source),
        # gaps are filled with silence, from time zero on
        f"aresample={AUDIO_RATE_HZ}:async=1{from_zero}:rematrix_maxval=1000:out_chlayout=stereo:osf=fltp",
        # a sum of channels may exceed full scale: peaks are bent down instead of everything made quieter
        *(["alimiter=limit=0.95:level=disabled:latency=1"] if source.channels > 2 else []),
        f"aformat=sample_fmts=fltp:sample_rates={AUDIO_RATE_HZ}:channel_layouts=stereo",
        *(_padding(media, source) if padded else []),
        f"asplit={len(ports)}",
    ]
    chains = [f"[0:{source.index}]{','.join(filters)}{''.join(f'[{port}]' for port in ports)}"]
    if wave:
        chains.append(
            # the envelope of the sound: showwavespic keeps all that it gets in memory
            f"[swave]aformat=channel_layouts=mono,aresample={WAVE_RATE_HZ},aeval=abs(val(0)):c=same,"
            f"aresample={_envelope_rate_hz(media)},apad=whole_len={WAVE_WIDTH},asetnsamples=n=4096:p=0,"
            f"showwavespic=s={WAVE_WIDTH}x{WAVE_HEIGHT}:colors=0x5b8def:scale=sqrt,format=yuvj420p[wave]"
        )
    return chains


def _envelope_rate_hz(media: MediaInfo) -> int:
    """Return a rate that gives each column of the picture some samples, and a day of sound some megabytes."""
    seconds = media.duration_seconds or ASSUMED_SECONDS
    return min(WAVE_RATE_HZ, max(MIN_ENVELOPE_HZ, math.ceil(4 * WAVE_WIDTH / seconds)))


def _laid_out(source: AudioInfo) -> tuple[str, ...]:
    """Bring what ffmpeg would get wrong to stereo."""
    if source.channels == 1:
        return ("pan=stereo|c0=c0|c1=c0",)  # at full level: ffmpeg's own would be 3 dB quieter
    if source.layout.startswith("ambisonic"):
        return ("pan=stereo|c0=c0|c1=c0",)  # the first channel hears all around
    if source.channels > MAX_LAYOUT_CHANNELS and (not source.layout or "channels" in source.layout):
        return ("pan=stereo|c0=c0|c1=c1",)
    return ()


def _padding(media: MediaInfo, source: AudioInfo) -> tuple[str, ...]:
    """Let silence follow audio that ends early."""
    if media.duration_seconds is not None and media.duration_is_reliable:
        return (f"apad=whole_dur={media.duration_seconds:.3f}",)
    gap = _gap(media, source)
    return (f"apad=pad_dur={gap:.3f}",) if gap else ()


def _gap(media: MediaInfo, stream: VideoInfo | AudioInfo) -> float:
    seconds = media.seconds_left_after(stream)
    shortest = MIN_GAP_SECONDS if media.duration_is_reliable else MIN_ESTIMATED_GAP_SECONDS
    return seconds if seconds > shortest else 0.0
