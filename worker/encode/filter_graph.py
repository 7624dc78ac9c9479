"""Builds the filter graphs for all outputs: each source stream is decoded and prepared once. Pure.

ffmpeg restarts a graph, and its timestamps, when audio changes its layout or rate, as broadcasts do between
programmes. So the video and each audio track have separate graphs.

Ports are named after their output: `[<rendition>]` for video, `[aac-…]` and `[opus-…]` by the audio stream's
name, `[poster]`, `[board]`, `[wave]`.
"""

import math
from collections.abc import Sequence

from backend.core.records import Download
from worker.encode.channels import may_clip, stereo_filters
from worker.encode.colours import on_black, to_bt709
from worker.encode.grid import Chunk, seconds_of
from worker.encode.ladder import AudioStream, EncodingPlan, Rung, scaled_rung
from worker.encode.storyboard import COLUMNS, ROWS, Storyboard, storyboard_of
from worker.encode.video_encoders import Encoders
from worker.sandbox.guards import MAX_SAMPLE_ASPECT
from worker.source.duration_limits import (
    MAX_GAP_SECONDS,
    MAX_STANDING_FRAMES,
    MAX_STEP_BACK_SECONDS,
    MAX_STRAY_FRAMES,
)
from worker.source.media import AudioInfo, MediaInfo, VideoInfo

LOOKAHEAD_FRAMES = 10
"""Of the next chunk. x264 saves on frames that it believes to be the last: half a second of each chunk would
lose 2 points of VMAF."""
POSTER_AT = 0.1
"""The poster is chosen after this share of the duration."""
POSTER_CANDIDATES = 12
POSTER_SIDE = 720
POSTER_MIN_BRIGHTNESS = 40
"""Mean luma, of 255. Darker frames are used only if there are no others."""
POSTERS_PER_SECOND = 2
EARLY_CANDIDATES = 6
"""Keyframes, for the poster of a video that is not encoded yet."""
FALLBACK_CANDIDATES = 24
WAVE_WIDTH, WAVE_HEIGHT = 1280, 720
WAVE_RATE_HZ = 8_000
MIN_ENVELOPE_HZ = 200
ASSUMED_SECONDS = 5.0
"""For audio of unknown duration."""
AUDIO_RATE_HZ = 48_000
"""The one rate that AAC, Opus and every player support."""
MIN_GAP_SECONDS = 0.02
"""Gaps shorter than a frame are not filled."""
MIN_ESTIMATED_GAP_SECONDS = 1.0
"""MPEG streams have timestamps for some frames only, so their ends are known no better than this."""
RESIZABLE_CODECS = frozenset(
    {"vp8", "vp9", "av1", "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "h263", "mjpeg", "vc1", "flv1"}
)
"""Their streams may change the size of the picture midway."""
SAME_SHAPE = 0.03
"""Relative difference, from sizes that are rounded, for which there are no bars."""
EXACT_CONTAINERS = frozenset({"mov", "matroska"})
"""They say where each stream ends. In the others, what is shorter may just be badly described."""
RESTARTABLE_CONTAINERS = EXACT_CONTAINERS | {"mpegts", "mpeg", "mp3", "aac", "ac3", "eac3", "dts"}
"""Their audio may change its layout or rate midway."""
RATE_TIMED_CONTAINERS = frozenset({"aac"})
"""Their timestamps are counted at the first sample rate, so that audio at another would be cut."""
_AV_LOG_ERROR = 16
_DROP_STRAYS = (
    f"not(st(0\\,gt(t-prev_selected_t\\,{MAX_GAP_SECONDS})*lt(ld(0)\\,{MAX_STRAY_FRAMES})*(ld(0)+1)))"
    # and tell `worker.source.completeness` if the clock goes back or stands still
    f"+0*(st(2\\,max(prev_selected_t\\,ld(2)))+st(1\\,lte(t\\,ld(2))*(ld(1)+1))"
    f"+if(gt(ld(1)\\,if(lt(t\\,ld(2)-{MAX_STEP_BACK_SECONDS})\\,{MAX_STRAY_FRAMES}\\,{MAX_STANDING_FRAMES}))"
    f"\\,print(t\\,{_AV_LOG_ERROR})))"
)
_HOST = "host-"
"""Marks a port whose pictures must still be uploaded to the encoding device."""
_JPEG = "in_color_matrix=bt709:out_color_matrix=bt601:out_range=full,setsar=1,format=yuvj420p"
"""JPEG supports no other colours (JFIF)."""


def filter_graphs(plan: EncodingPlan, media: MediaInfo, encoders: Encoders) -> tuple[str, ...]:
    """Return one graph per source stream. ffmpeg itself rotates pictures before they enter it."""
    graphs = [] if media.video is None else [_video_chains(plan, media, media.video, encoders)]
    graphs += _sound_chains(plan, media)
    return tuple(map(";".join, graphs))


def chunk_graph(plan: EncodingPlan, media: MediaInfo, chunk: Chunk, encoders: Encoders) -> str:
    """Return the graph of a chunk's picture: the frames that the graph of the whole film would have there,
    and LOOKAHEAD_FRAMES more, unless it is the last one."""
    if media.video is None:
        raise ValueError("there is no picture")
    rungs = _rungs(plan)
    prepared = _prepared(plan, media, media.video, chunk)
    return ";".join(
        (
            _split(media.video, prepared, [f"s{rung.label}" for rung in rungs]),
            *(_rung_chain(plan, rung, encoders) for rung in rungs),
        )
    )


def sides_graphs(plan: EncodingPlan, media: MediaInfo) -> tuple[str, ...]:
    """Return the graphs for sound and, of a video whose keyframes alone are decoded, the stills."""
    graphs = [] if media.video is None else [_picture_chains(plan, media, media.video)]
    graphs += _sound_chains(plan, media)
    return tuple(map(";".join, graphs))


def _picture_chains(plan: EncodingPlan, media: MediaInfo, video: VideoInfo) -> list[str]:
    top, storyboard = plan.video[-1].rung, storyboard_of(plan, media)
    prepared = [
        f"select={_DROP_STRAYS}",
        *on_black(video),
        # there are no neighbours to make up the missing lines from
        *(["field=type=top", "scale=iw:2*ih"] if video.interlaced else []),
        *fit(video, video.display_width, video.display_height),
        to_bt709(video, *_poster_size(top)),
        # only now, when each picture is ready: they are repeated until the next one
        f"fps=fps={plan.fps}:start_time=0",
        *_hold_last_picture(media, video),
    ]
    ports = "[sposter][sfallback][sboard]"
    return [
        f"[0:{video.index}]{','.join(prepared)},split=3{ports}",
        *_poster_chains(plan, top, video.end_seconds or media.duration_seconds),
        *([_board_chain(storyboard)] if storyboard else []),
    ]


def _sound_chains(plan: EncodingPlan, media: MediaInfo) -> list[list[str]]:
    return [
        _audio_chains(
            stream,
            media,
            plan.only,
            padded=len(plan.video) + len(plan.audio) > 1,
            wave=media.video is None and stream is plan.audio[0] and plan.only is None,
        )
        for stream in plan.audio
    ]


def _video_chains(plan: EncodingPlan, media: MediaInfo, video: VideoInfo, encoders: Encoders) -> list[str]:
    storyboard = None if plan.only else storyboard_of(plan, media)
    rungs = _rungs(plan)
    ports = [
        *(f"s{rung.label}" for rung in rungs),
        *([] if plan.only else ["sposter", "sfallback"]),
        *(["sboard"] if storyboard else []),
    ]
    posters = (
        [] if plan.only else _poster_chains(plan, rungs[-1], video.end_seconds or media.duration_seconds)
    )
    return [
        _split(video, _prepared(plan, media, video), ports),
        *(_rung_chain(plan, rung, encoders) for rung in rungs),
        *posters,
        *([_board_chain(storyboard)] if storyboard else []),
    ]


def _rungs(plan: EncodingPlan) -> tuple[Rung, ...]:
    return tuple(dict.fromkeys(stream.rung for stream in plan.video))


def _split(video: VideoInfo, prepared: Sequence[str], ports: Sequence[str]) -> str:
    outputs = "".join(f"[{port}]" for port in ports)
    return f"[0:{video.index}]{','.join(prepared)},split={len(ports)}{outputs}"


def _prepared(
    plan: EncodingPlan, media: MediaInfo, video: VideoInfo, chunk: Chunk | None = None
) -> Sequence[str]:
    """Return the filters before the scalers. `chunk` is None for the whole film."""
    top = _rungs(plan)[-1]
    return (
        f"select={_DROP_STRAYS}",
        *on_black(video),
        # the scaler would turn interlaced fields into combing; only frames marked as interlaced are changed
        *(["bwdif=mode=send_frame:deint=interlaced"] if video.interlaced else []),
        *fit(video, video.display_width, video.display_height),
        # a constant rate from zero: the same keyframe times in every rung, in sync with the audio
        f"fps=fps={plan.fps}:start_time={seconds_of(chunk.first_frame, plan.fps) if chunk else 0}",
        # players stop at the end of the shorter track: hold the last picture until the audio ends
        *(
            _hold_last_picture(media, video)
            if chunk is None or chunk.is_last
            else [f"trim=end_frame={chunk.frames + LOOKAHEAD_FRAMES}"]
        ),
        to_bt709(video, top.width, top.height),
    )


def fit(video: VideoInfo, width: int, height: int) -> tuple[str, ...]:
    """Fit pictures of another shape between bars: a call is recorded, and the phone is turned."""
    if video.codec not in RESIZABLE_CODECS:
        return ()
    # `pad` rounds to whole samples of chroma
    width, height = (max(2, side // 2 * 2) for side in (width, height))
    shape = f"if(between(sar\\,{float(1 / MAX_SAMPLE_ASPECT)}\\,{float(MAX_SAMPLE_ASPECT)})\\,dar\\,a)"
    same = f"lt(abs({shape}*{height}/{width}-1)\\,{SAME_SHAPE})"
    return (
        f"scale=w=if({same}\\,{width}\\,2*round(min({width}\\,{height}*{shape})/2))"
        f":h=if({same}\\,{height}\\,2*round(min({height}\\,{width}/({shape}))/2)):eval=frame:flags=bicubic",
        f"setsar=1,pad={width}:{height}:-1:-1:eval=frame",
    )


def _hold_last_picture(media: MediaInfo, video: VideoInfo) -> tuple[str, ...]:
    """Repeat the last picture until every stream has ended."""
    if media.duration_is_reliable and media.duration_seconds and video.end_seconds is None:
        # no video among the last packets: its end is known only when it comes
        return "tpad=stop_mode=clone:stop=-1", f"trim=end={media.duration_seconds:.3f}"
    gap = _gap(media, video)
    return (f"tpad=stop_mode=clone:stop_duration={gap:.3f}",) if gap else ()


def _rung_chain(plan: EncodingPlan, rung: Rung, encoders: Encoders) -> str:
    streams = [stream for stream in plan.video if stream.rung == rung]
    uploads = {stream.name: upload for stream in streams if (upload := encoders.of(stream.codec).upload)}
    ports = "".join(f"[{_HOST * (stream.name in uploads)}{stream.name}]" for stream in streams)
    # scale once per rung, for all codecs
    scaled = (
        f"[s{rung.label}]scale={rung.width}:{rung.height}:flags=bicubic,setsar=1,format=yuv420p,"
        f"split={len(streams)}{ports}"
    )
    return ";".join((scaled, *(f"[{_HOST}{name}]{upload}[{name}]" for name, upload in uploads.items())))


def _poster_chains(plan: EncodingPlan, top: Rung, duration_seconds: float | None) -> Sequence[str]:
    width, height = _poster_size(top)
    scaled = f"scale={width}:{height}:{_JPEG}"
    rate = float(plan.fps or 1)
    sample_every = max(1, round(rate / POSTERS_PER_SECOND))
    fallback_every = max(1, int(rate * (duration_seconds or 0) / FALLBACK_CANDIDATES))
    start = POSTER_AT * (duration_seconds or 0)
    return (
        # the most typical of the next frames that are not dark; includes the very first frame in case the
        # video ends before `start`
        f"[sposter]select=gte(t\\,{start:.3f})*not(mod(n\\,{sample_every}))+eq(n\\,0),{scaled},signalstats,"
        f"metadata=mode=select:key=lavfi.signalstats.YAVG:value={POSTER_MIN_BRIGHTNESS}:function=greater,"
        f"thumbnail=n={POSTER_CANDIDATES}[bright]",
        # if the whole video is dark, a typical frame
        f"[sfallback]select=not(mod(n\\,{fallback_every})),{scaled},thumbnail=n={FALLBACK_CANDIDATES},"
        "trim=end_frame=1[typical]",
        # an output without a frame would be an error
        "[bright][typical]concat[poster]",
    )


def _poster_size(top: Rung) -> tuple[int, int]:
    short_side = min(top.width, top.height)
    side = min(short_side, POSTER_SIDE)
    return top.width * side // short_side // 2 * 2, top.height * side // short_side // 2 * 2


def early_poster_graph(video: VideoInfo) -> str:
    """Return a graph for keyframes: `[poster]` is the first that is not dark or else just the first."""
    rung = scaled_rung(video.display_width, video.display_height, POSTER_SIDE)
    prepared = (
        *on_black(video),
        *(fit(video, rung.width, rung.height)),
        to_bt709(video, rung.width, rung.height),
        f"scale={rung.width}:{rung.height}:{_JPEG}",
    )
    return (
        f"[0:{video.index}]{','.join(prepared)},split[some][one];[some]trim=end_frame={EARLY_CANDIDATES},signalstats,"
        f"metadata=mode=select:key=lavfi.signalstats.YAVG:value={POSTER_MIN_BRIGHTNESS}:function=greater[bright];"
        "[one]trim=end_frame=1[any];[bright][any]concat[poster]"
    )


def _board_chain(storyboard: Storyboard) -> str:
    return (
        f"[sboard]select=not(mod(n\\,{storyboard.every_frames})),"
        f"scale={storyboard.width}:{storyboard.height}:{_JPEG},tile={COLUMNS}x{ROWS}[board]"
    )


def _audio_chains(
    stream: AudioStream, media: MediaInfo, only: Download | None, *, padded: bool, wave: bool
) -> list[str]:
    source = stream.source
    ports = [
        *([] if only == "webm" else [f"aac-{stream.name}"]),
        *([] if only == "mp4" else [f"opus-{stream.name}"]),
        *(["swave"] if wave else []),
    ]
    # a graph that is restarted midway would fill the time before it with silence
    from_zero = ":first_pts=0" if _begins_with_silence(media, source) else ""
    # fill gaps with silence, starting at zero
    filled = f"aresample={AUDIO_RATE_HZ}:async=1{from_zero}"
    padding = _padding(media, source) if padded else ()
    filters = [
        f"{filled}:rematrix_maxval=1000:out_chlayout=stereo:osf=fltp",
        # the sum of channels may exceed full scale: limit peaks rather than lower the volume
        *(["alimiter=limit=0.95:level=disabled:latency=1"] if may_clip(source) else []),
        f"aformat=sample_fmts=fltp:sample_rates={AUDIO_RATE_HZ}:channel_layouts=stereo",
        *padding,
        f"asplit={len(ports)}",
    ]
    first = (f"aselect={_DROP_STRAYS}{_tell_restart(media, source)}", *stereo_filters(source))
    chains = []
    begin = f"[0:{source.index}]{','.join(first)}"
    if source.right_index is not None:
        for side, index in (("left", source.index), ("right", source.right_index)):
            chains.append(f"[0:{index}]{','.join((first[0], filled, *padding))}[{side}-{stream.name}]")
        begin = (
            f"[left-{stream.name}][right-{stream.name}]join=inputs=2:channel_layout=stereo:map=0.0-FL|1.0-FR"
        )
    chains.append(f"{begin},{','.join(filters)}{''.join(f'[{port}]' for port in ports)}")
    if wave:
        chains.append(
            # draw the envelope: showwavespic keeps all its input in memory
            f"[swave]aformat=channel_layouts=mono,aresample={WAVE_RATE_HZ},aeval=abs(val(0)):c=same,"
            f"aresample={_envelope_rate_hz(media)},apad=whole_len={WAVE_WIDTH},asetnsamples=n=4096:p=0,"
            f"showwavespic=s={WAVE_WIDTH}x{WAVE_HEIGHT}:colors=0x5b8def:scale=sqrt,format=yuvj420p[wave]"
        )
    return chains


def _begins_with_silence(media: MediaInfo, source: AudioInfo) -> bool:
    return source.start_seconds > 0 or media.container not in RESTARTABLE_CONTAINERS


def _tell_restart(media: MediaInfo, source: AudioInfo) -> str:
    """Tell `worker.source.completeness` if a graph is restarted midway and that spoils the audio."""
    if _begins_with_silence(media, source):
        spoiled = "1"
    elif media.container in RATE_TIMED_CONTAINERS:
        spoiled = f"not(eq(sample_rate\\,{source.sample_rate_hz}))"
    else:
        return ""
    midway = f"eq(n\\,0)*gt(t\\,{source.start_seconds + MIN_ESTIMATED_GAP_SECONDS:.3f})"
    return f"+0*if({midway}*{spoiled}\\,print(t\\,{_AV_LOG_ERROR}))"


def _envelope_rate_hz(media: MediaInfo) -> int:
    """Return a rate with several samples per column, but only megabytes for a day of audio."""
    seconds = media.duration_seconds or ASSUMED_SECONDS
    return min(WAVE_RATE_HZ, max(MIN_ENVELOPE_HZ, math.ceil(4 * WAVE_WIDTH / seconds)))


def _padding(media: MediaInfo, source: AudioInfo) -> tuple[str, ...]:
    """Pad audio that ends early with silence, but not where some is missing that the file announces."""
    exact = media.container in EXACT_CONTAINERS and source.end_seconds and source.right_index is None
    if media.duration_seconds is not None and media.duration_is_reliable and not exact:
        return (f"apad=whole_dur={media.duration_seconds:.3f}",)
    gap = _gap(media, source)
    return (f"apad=pad_dur={gap:.3f}",) if gap else ()


def _gap(media: MediaInfo, stream: VideoInfo | AudioInfo) -> float:
    seconds = media.seconds_left_after(stream)
    minimum = MIN_GAP_SECONDS if media.duration_is_reliable else MIN_ESTIMATED_GAP_SECONDS
    return seconds if seconds > minimum else 0.0
