"""Builds ffmpeg's command line: decode once, scale, encode every rendition. Pure; each flag has its reason.

ffmpeg runs in the attempt's directory, so all file names here are our own plain words.
"""

from collections.abc import Sequence
from pathlib import Path

from langcodes import Language

from worker.encode.filter_graph import POSTER_AT, early_poster_graph, filter_graphs, sides_graphs
from worker.encode.ladder import AAC_BPS, OPUS_BPS, AudioStream, CaptionStream, EncodingPlan, VideoStream
from worker.encode.video_encoders import Encoders, keyframe_arguments
from worker.sandbox.guards import GUARDS
from worker.source.completeness import MAX_DECODE_ERRORS
from worker.source.media import MediaInfo, VideoInfo

WEBM_PIPE = "webm.pipe"
SOUND_PIPE = "sound.pipe"
"""All audio tracks as a WebM, for the one that is joined."""
CLUSTER_SECONDS = 5
POSTER_NAME = "poster.jpg"
SHEETS = "sheet-%03d.jpg"
FRAGMENT_MICROSECONDS = 100_000
MAX_CAPTION_BYTES = 8 * 1024 * 1024
JPEG_QUALITY = 4
SHEET_QUALITY = 6
"""mjpeg's scale: lower is better."""

_FRAGMENTS = "+frag_keyframe+delay_moov+default_base_moof"
_FRAGMENTED_MP4 = f"f=mp4:select=v:movflags={_FRAGMENTS}:frag_duration={FRAGMENT_MICROSECONDS}"


def pipe_name(rendition: str) -> str:
    return f"{rendition}.pipe"


def caption_name(stream: CaptionStream) -> str:
    return f"caption-{stream.source.index}.{'srt' if stream.source.is_srt else 'ass'}"


def sheet_file(number: int) -> str:
    return SHEETS % number


def encoder_arguments(
    ffmpeg: Path, plan: EncodingPlan, media: MediaInfo, url: str, segment_seconds: float, encoders: Encoders
) -> Sequence[str]:
    """Return argv. `url` is the loopback source. Outputs: `pipe_name`s, WEBM_PIPE, pictures, captions."""
    keyframes = keyframe_arguments(segment_seconds)
    outputs = [
        _video_output(plan, stream, picture_arguments(stream, keyframes, encoders)) for stream in plan.video
    ]
    if plan.only != "webm":
        outputs += _sound(plan)
    if not plan.video and plan.only != "mp4":
        outputs.append((*_webm_audio(plan), *_webm()))
    if plan.only is None:
        outputs += _pictures() if plan.video else [("-map", "[wave]", *_still(POSTER_NAME))]
    outputs += [_captions(stream) for stream in plan.captions]
    return (
        *opened(ffmpeg, media, url, (*encoders.options, *_charset(plan))),
        *written(filter_graphs(plan, media, encoders), outputs),
    )


def sides_arguments(ffmpeg: Path, plan: EncodingPlan, media: MediaInfo, url: str) -> Sequence[str]:
    """Return argv for all of a video but its picture: sound (`pipe_name`s, SOUND_PIPE), stills, captions."""
    outputs = [*_sound(plan), *_pictures(), *(_captions(stream) for stream in plan.captions)]
    if plan.audio:
        outputs.append((*_webm_audio(plan), *_webm(SOUND_PIPE)))
    # decoding more than keyframes for the pictures would cost as much as a rendition
    argv = opened(ffmpeg, media, url, ("-skip_frame:v", "nokey", *_charset(plan)))
    return (*argv, *written(sides_graphs(plan, media), outputs))


def webm_arguments(ffmpeg: Path, plan: EncodingPlan, picture: str, sound: str) -> Sequence[str]:
    """Return argv that writes a WebM to WEBM_PIPE: streams from two URLs, as they are."""
    inputs = (("mp4", picture), *((("matroska", sound),) if plan.audio else ()))
    maps = ("0:v", *(f"1:a:{number}" for number in range(len(plan.audio))))
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "warning", "-y"),
        *(
            word
            for demuxer, url in inputs
            # they are still being made: nothing can be read twice
            for word in ("-seekable", "0", "-protocol_whitelist", "http,tcp", "-f", demuxer, "-i", url)
        ),
        *(word for stream in maps for word in ("-map", stream)),
        *("-c", "copy", *_audio_tags(plan), *_webm()),
    )


def opened(ffmpeg: Path, media: MediaInfo, url: str, options: Sequence[str]) -> Sequence[str]:
    """Return the beginning of a command line that decodes the source, which `options` are for."""
    return (
        str(ffmpeg),
        # `worker.source.completeness` reads the warnings
        *("-hide_banner", "-nostdin", "-v", "warning", "-y"),
        # machine-readable progress on stdout, twice a second
        *("-progress", "pipe:1", "-stats_period", "0.5", "-nostats"),
        *options,
        *MAX_DECODE_ERRORS,
        *GUARDS,
        # when the picture size changes, keep the graph: a new one would restart its timestamps and lose the
        # poster candidates
        *("-reinit_filter:v", "0"),
        *((f"-c:{media.video.index}", media.video.decoder) if media.video and media.video.decoder else ()),
        *("-i", url),
    )


def written(graphs: Sequence[str], outputs: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return the rest of the command line."""
    return (
        *(word for graph in graphs for word in ("-filter_complex", graph)),
        *(word for output in outputs for word in output),
    )


def _charset(plan: EncodingPlan) -> tuple[str, ...]:
    # subtitles in a legacy encoding are copied as they are and converted later: ffmpeg would drop them
    return ("-sub_charenc_mode", "ignore") if plan.captions else ()


def _sound(plan: EncodingPlan) -> list[tuple[str, ...]]:
    return [
        (
            *("-map", f"[aac-{stream.name}]", "-c:a", "aac", "-b:a", str(AAC_BPS)),
            *(*_language(stream, 0), *_fragmented(), pipe_name(stream.name)),
        )
        for stream in plan.audio
    ]


def _pictures() -> list[tuple[str, ...]]:
    return [
        ("-map", "[poster]", *_still(POSTER_NAME)),
        ("-map", "[board]", *_jpeg(SHEET_QUALITY), SHEETS),
    ]


def picture_arguments(stream: VideoStream, keyframes: Sequence[str], encoders: Encoders) -> tuple[str, ...]:
    """Return the arguments that encode the picture of a rendition."""
    quality = encoders.of(stream.codec).arguments(
        crf=stream.crf, preset=stream.preset, max_bps=stream.max_bps
    )
    return ("-map", f"[{stream.name}]", *keyframes, *quality)


def _video_output(plan: EncodingPlan, stream: VideoStream, video: Sequence[str]) -> tuple[str, ...]:
    if stream is not plan.webm_video:
        return (*video, *_fragmented(), pipe_name(stream.name))
    audio = _webm_audio(plan)
    if not stream.packaged:
        return (*video, *audio, *_webm())
    # one encoder, two pipes: to the packager and the WebM
    clusters = ":".join(f"{name}={value}" for name, value in _CLUSTERS)
    targets = f"[{_FRAGMENTED_MP4}]{pipe_name(stream.name)}|[f=webm:{clusters}]{WEBM_PIPE}"
    # tee cannot request the global headers that both files need
    return (*video, *audio, *STRIPPED, "-flags", "+global_header+cgop", "-f", "tee", targets)


def _fragmented() -> tuple[str, ...]:
    return (
        *STRIPPED,
        *("-f", "mp4"),
        # delay_moov, not empty_moov: only then does an edit list record B-frame and AAC delay, so that all
        # streams start at zero. Small fragments let the packager see the end of a segment early
        *("-movflags", _FRAGMENTS),
        *("-frag_duration", str(FRAGMENT_MICROSECONDS)),
    )


def _webm(pipe: str = WEBM_PIPE) -> tuple[str, ...]:
    limits = (word for name, value in _CLUSTERS for word in (f"-{name}", value))
    return (*STRIPPED, "-f", "webm", *limits, pipe)


def _webm_audio(plan: EncodingPlan) -> tuple[str, ...]:
    maps = (word for stream in plan.audio for word in ("-map", f"[opus-{stream.name}]"))
    opus = ("-c:a", "libopus", "-b:a", str(OPUS_BPS)) if plan.audio else ()
    return (*maps, *opus, *_audio_tags(plan))


def _audio_tags(plan: EncodingPlan) -> tuple[str, ...]:
    tags = (_language(stream, number, named=True) for number, stream in enumerate(plan.audio))
    return tuple(word for words in tags for word in words)


def _language(stream: AudioStream, number: int, *, named: bool = False) -> tuple[str, ...]:
    code = _three_letters(stream.source.language)
    return (
        *((f"-metadata:s:a:{number}", f"language={code}") if code else ()),
        *((f"-metadata:s:a:{number}", f"title={stream.label}") if named and stream.source.title else ()),
        *((f"-disposition:a:{number}", "0" if number else "default") if named else ()),
    )


def _three_letters(language: str | None) -> str | None:
    """Return the code that MP4 and Matroska use; None if the language has none."""
    try:
        return Language.get(language).to_alpha3(variant="B") if language else None
    except LookupError:
        return None


def _still(name: str) -> tuple[str, ...]:
    return (*_jpeg(JPEG_QUALITY), "-frames:v", "1", "-f", "image2", "-update", "1", name)


def _jpeg(quality: int) -> tuple[str, ...]:
    # not at a constant rate: sheets would be repeated, and last as long as a hundred pictures
    return (*STRIPPED, "-fps_mode", "passthrough", "-c:v", "mjpeg", "-q:v", str(quality))


def _captions(stream: CaptionStream) -> tuple[str, ...]:
    kind = ("-c:s", "copy", "-f", "srt") if stream.source.is_srt else ("-c:s", "ass", "-f", "ass")
    return (
        *("-map", f"0:{stream.source.index}", *STRIPPED, *kind, "-fs", str(MAX_CAPTION_BYTES)),
        caption_name(stream),
    )


def early_poster_arguments(ffmpeg: Path, media: MediaInfo, video: VideoInfo, url: str) -> Sequence[str]:
    """Return argv that writes POSTER_NAME with a keyframe or two."""
    start = f"{POSTER_AT * (media.duration_seconds or 0):.3f}"
    options = ("-skip_frame", "nokey", "-noaccurate_seek", "-ss", start)
    poster = ("-map", "[poster]", *_still(POSTER_NAME))
    return (*opened(ffmpeg, media, url, options), *written([early_poster_graph(video)], [poster]))


def caption_arguments(ffmpeg: Path, plan: EncodingPlan, media: MediaInfo, url: str) -> Sequence[str]:
    """Return argv that writes the `caption_name`s. It reads the whole source."""
    options = ("-sub_charenc_mode", "ignore")
    return (*opened(ffmpeg, media, url, options), *written([], [_captions(one) for one in plan.captions]))


# to a pipe, ffmpeg starts a cluster every second or 32 KiB; these are its limits for a file
_CLUSTERS = (("cluster_time_limit", str(CLUSTER_SECONDS * 1000)), ("cluster_size_limit", str(5 * 1024**2)))
STRIPPED = (
    # cameras write locations and serial numbers into files; viewers must not get them
    *("-map_metadata", "-1"),
    *("-map_chapters", "-1"),
)
