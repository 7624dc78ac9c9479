"""The command lines of ffmpeg and the packager."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from backend.core.records import TranscodeOptions
from worker.encode.ffmpeg_arguments import encoder_arguments
from worker.encode.filter_graph import filter_graphs
from worker.encode.ladder import EncodingPlan, plan_encoding
from worker.encode.packager_arguments import packager_arguments
from worker.encode.video_encoders import SOFTWARE, X264, Encoders, VideoEncoder
from worker.source.media import AudioInfo, Colour, MediaInfo, SubtitleInfo, VideoInfo

HD = VideoInfo(1, 1920, 1080, "h264", "yuv420p", Fraction(24), Fraction(24), end_seconds=10.0)
MEDIA = MediaInfo("mov", 10.0, video=HD, audio=(AudioInfo(0, "aac", 6, 48000, end_seconds=9.0),))
URL = "http://127.0.0.1:1/secret/source"
NODE = Path("/dev/dri/renderD128")


def plan(media: MediaInfo = MEDIA) -> EncodingPlan:
    return plan_encoding(media, ("av1", "h264"), TranscodeOptions(crf=28, cpu_used=4))


def arguments(encoders: Encoders = SOFTWARE) -> list[str]:
    return list(encoder_arguments(Path("ffmpeg"), plan(), MEDIA, URL, 4.0, encoders))


def test_guards_precede_the_source() -> None:
    argv = arguments()

    for guard in ("-protocol_whitelist", "-format_whitelist", "-codec_whitelist", "-max_pixels"):
        assert argv.index(guard) < argv.index("-i")


def test_decodes_once_and_scales_once_per_rung() -> None:
    graph = ";".join(filter_graphs(plan(), MEDIA, SOFTWARE))

    assert arguments().count("-i") == 1
    assert graph.count("[0:1]") == graph.count("[0:0]") == 1
    assert graph.count("scale=") == 1 + 3 + 3  # one for all, the rungs, two posters and the storyboard


def test_every_encoder_forces_keyframes_at_segment_boundaries() -> None:
    argv = arguments()

    assert argv.count("-force_key_frames") == argv.count("expr:gte(t,n_forced*4)") == 6
    assert argv.count("libsvtav1") == argv.count("libx264") == 3


def test_job_options_become_arguments() -> None:
    argv = arguments()
    av1 = argv.index("libsvtav1")

    assert argv[av1 + 1 : av1 + 5] == ["-preset", "4", "-crf", "28"]


def graph_of(media: MediaInfo) -> str:
    return ";".join(filter_graphs(plan_encoding(media, ("h264",), TranscodeOptions()), media, SOFTWARE))


def test_deinterlaces_interlaced_video() -> None:
    assert "bwdif" in graph_of(replace(MEDIA, video=replace(HD, interlaced=True)))
    assert "bwdif" not in graph_of(MEDIA)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_tone_maps_hdr_once_before_the_rungs(transfer: str) -> None:
    graph = graph_of(replace(MEDIA, video=replace(HD, colour=Colour("bt2020", transfer, "bt2020nc"))))

    assert graph.count("tonemap=tonemap") == 1
    assert graph.index(f"color_trc={transfer}") < graph.index("tonemap=") < graph.index("split=")


@pytest.mark.parametrize(
    ("video", "says"),
    [
        (replace(HD, display_width=720, display_height=576), "colorspace=smpte170m"),
        (replace(HD, colour=Colour(matrix="bt2020nc", primaries="bt2020")), "color_primaries=bt2020"),
        (replace(HD, colour=Colour(full_range=True)), "range=full"),
        (replace(HD, pixel_format="bgra"), "format=gbrp"),
    ],
    ids=["sd", "bt2020", "full-range", "rgb"],
)
def test_converts_other_colours(video: VideoInfo, says: str) -> None:
    graph = graph_of(replace(MEDIA, video=video))

    assert says in graph
    assert graph.index(says) < graph.index("zscale=matrix=709") < graph.index("split=")


def test_only_tags_video_that_is_already_bt709() -> None:
    graph = graph_of(replace(MEDIA, video=replace(HD, colour=Colour("bt709", "bt709", "bt709"))))

    assert "zscale" not in graph
    assert "color_primaries=bt709" in graph


def test_pads_the_shorter_of_video_and_audio_to_the_end() -> None:
    short_picture = replace(MEDIA, video=replace(HD, end_seconds=4.0))

    assert "tpad=stop_mode=clone:stop_duration=6.000" in graph_of(short_picture)
    assert "tpad" not in graph_of(MEDIA)
    assert "apad=pad_dur=1.000" in graph_of(MEDIA)
    assert "apad=whole_dur=10.000" in graph_of(replace(MEDIA, container="avi"))
    guessed = replace(MEDIA, duration_is_reliable=False, duration_seconds=10.5)
    assert "apad=pad_dur=1.500" in graph_of(guessed)
    assert "tpad" not in graph_of(guessed)
    assert "apad" not in graph_of(
        MediaInfo("webm", None, duration_is_reliable=False, video=HD, audio=MEDIA.audio)
    )


def test_mono_keeps_its_level_and_surround_is_limited() -> None:
    mono = replace(MEDIA, audio=(AudioInfo(0, "aac", 1, 48000),))

    assert "pan=stereo|c0=c0|c1=c0" in graph_of(mono)
    assert "alimiter" not in graph_of(mono)
    assert "alimiter" in graph_of(MEDIA)


def test_every_language_is_a_webm_track_and_a_separate_stream() -> None:
    tracks = (AudioInfo(0, "aac", 2, 48000, language="de"), AudioInfo(2, "ac3", 6, 48000, language="en"))
    media = replace(MEDIA, audio=tracks)

    argv = list(encoder_arguments(Path("ffmpeg"), plan(media), media, URL, 4.0, SOFTWARE))

    assert {"[aac-aac]", "[aac-aac-2]", "[opus-aac]", "[opus-aac-2]"} <= set(argv)
    assert {"aac.pipe", "aac-2.pipe", "language=ger", "language=eng"} <= set(argv)


def test_extracts_text_subtitles_in_the_same_pass() -> None:
    media = replace(MEDIA, subtitles=(SubtitleInfo(5, "subrip", language="fr", forced=True),))

    argv = list(encoder_arguments(Path("ffmpeg"), plan(media), media, URL, 4.0, SOFTWARE))

    assert argv[argv.index("0:5") - 1] == "-map"
    assert argv[-1] == "caption-5.srt"
    [captions] = plan(media).captions
    assert (captions.track.path, captions.track.forced) == ("captions/1-fr.vtt", True)


VAAPI_AV1 = VideoEncoder("av1", "vaapi", "av1_vaapi", NODE)


def test_hardware_replaces_every_software_encoder() -> None:
    argv = arguments(Encoders((VAAPI_AV1, VideoEncoder("h264", "vaapi", "h264_vaapi", NODE))))

    assert argv.count("h264_vaapi") == argv.count("av1_vaapi") == 3
    assert not {"libsvtav1", "libx264"} & set(argv)
    assert argv.count("-vaapi_device") == 1
    assert argv.index("-vaapi_device") < argv.index("-i")


def test_mixes_hardware_and_software_codecs() -> None:
    encoders = Encoders((VAAPI_AV1, X264))

    argv, graph = arguments(encoders), filter_graphs(plan(), MEDIA, encoders)[0]

    assert argv.count("av1_vaapi") == argv.count("libx264") == 3
    assert graph.count("hwupload") == graph.count("]format=nv12,hwupload[av1-") == 3
    assert graph.count("[h264-720p]") == 1
    assert encoders.description == "av1 vaapi, h264 software"


def test_quick_sync_keyframe_interval_fits_16_bits() -> None:
    qsv = Encoders(tuple(VideoEncoder(codec, "qsv", f"{codec}_qsv", NODE) for codec in ("av1", "h264")))

    argv = arguments(qsv)

    distances = [argv[at + 1] for at, word in enumerate(argv) if word == "-g"]
    assert distances == ["100000", "65535"] * 6  # the last one counts


def test_hls_and_dash_share_segments() -> None:
    argv = packager_arguments(Path("packager"), plan(), "/pipes/", "http://127.0.0.1:1/s/", 4.0)

    streams = [word for word in argv if word.startswith("in=")]
    assert len(streams) == 7
    assert "segment_template=http://127.0.0.1:1/s/media/av1-360p/$Number%05d$.m4s" in streams[0].split(",")
    assert "--event_to_vod_on_end_of_stream" in argv


def test_label_cannot_add_fields_to_the_packagers_descriptor() -> None:
    track = AudioInfo(0, "aac", 2, 48000, language="de", title='x,playlist_name=../../a="b')
    media = replace(MEDIA, audio=(track,))

    argv = packager_arguments(Path("packager"), plan(media), "/pipes/", "http://127.0.0.1:1/s/", 4.0)

    audio = next(word for word in argv if "stream=audio" in word).split(",")
    assert "hls_name=x playlist_name ../../a  b" in audio
    assert "language=de" in audio
    assert [word for word in audio if word.startswith("playlist_name=")] == ["playlist_name=aac.m3u8"]
