"""ffmpeg's and the packager's command lines."""

from fractions import Fraction
from pathlib import Path

from backend.core.records import TranscodeOptions
from worker.devices import SOFTWARE, X264, Encoders, VideoEncoder
from worker.encode import encoder_arguments, filter_graph
from worker.ladder import EncodingPlan, plan_encoding
from worker.package import packager_arguments
from worker.probe import AudioInfo, MediaInfo, VideoInfo

MEDIA = MediaInfo(
    10.0,
    VideoInfo(1920, 1080, "h264", "yuv420p", Fraction(24), Fraction(24), interlaced=False),
    1,
    AudioInfo("aac", 6, 48000),
    0,
)
URL = "http://127.0.0.1:1/secret/source"
NODE = Path("/dev/dri/renderD128")


def plan() -> EncodingPlan:
    return plan_encoding(MEDIA, ("av1", "h264"), TranscodeOptions(crf=28, cpu_used=4))


def arguments(encoders: Encoders = SOFTWARE) -> list[str]:
    return list(encoder_arguments(Path("ffmpeg"), plan(), MEDIA, URL, 4.0, encoders))


def test_the_guards_stand_before_the_source() -> None:
    argv = arguments()

    for guard in ("-protocol_whitelist", "-format_whitelist", "-codec_whitelist", "-max_pixels"):
        assert argv.index(guard) < argv.index("-i")


def test_the_source_is_decoded_once_and_scaled_once_per_rung() -> None:
    graph = filter_graph(plan(), MEDIA, SOFTWARE)

    assert arguments().count("-i") == 1
    assert graph.count("[0:1]") == graph.count("[0:0]") == 1
    assert graph.count("scale=") == 3 + 1  # the rungs and the poster


def test_every_encoder_forces_keyframes_at_segment_boundaries() -> None:
    argv = arguments()

    assert argv.count("-force_key_frames") == argv.count("expr:gte(t,n_forced*4)") == 6
    assert argv.count("libsvtav1") == argv.count("libx264") == 3


def test_options_of_the_job_become_arguments() -> None:
    argv = arguments()
    av1 = argv.index("libsvtav1")

    assert argv[av1 + 1 : av1 + 5] == ["-preset", "4", "-crf", "28"]


def test_interlaced_pictures_are_deinterlaced() -> None:
    video = VideoInfo(1920, 1080, "h264", "yuv420p", Fraction(25), Fraction(25), interlaced=True)
    media = MediaInfo(10.0, video, 0, None, None)

    assert "bwdif" in filter_graph(plan_encoding(media, ("h264",), TranscodeOptions()), media, SOFTWARE)


def test_the_poster_is_looked_for_in_the_picture_and_its_first_frame_always_counts() -> None:
    video = VideoInfo(320, 180, "h264", "yuv420p", Fraction(25), Fraction(25), False, duration_seconds=2)
    media = MediaInfo(30.0, video, 0, None, None)

    graph = filter_graph(plan_encoding(media, ("h264",), TranscodeOptions()), media, SOFTWARE)

    assert "select=gte(t\\,0.200)+eq(n\\,0)," in graph


VAAPI_AV1 = VideoEncoder("av1", "vaapi", "av1_vaapi", NODE)


def test_hardware_takes_the_place_of_every_software_encoder() -> None:
    argv = arguments(Encoders((VAAPI_AV1, VideoEncoder("h264", "vaapi", "h264_vaapi", NODE))))

    assert argv.count("h264_vaapi") == argv.count("av1_vaapi") == 3
    assert not {"libsvtav1", "libx264"} & set(argv)
    assert argv.count("-vaapi_device") == 1
    assert argv.index("-vaapi_device") < argv.index("-i")


def test_one_codec_may_be_encoded_in_hardware_and_the_other_in_software() -> None:
    encoders = Encoders((VAAPI_AV1, X264))

    argv, graph = arguments(encoders), filter_graph(plan(), MEDIA, encoders)

    assert argv.count("av1_vaapi") == argv.count("libx264") == 3
    assert graph.count("hwupload") == graph.count("]format=nv12,hwupload[av1-") == 3
    assert graph.count("[h264-720p]") == 1
    assert encoders.description == "av1 vaapi, h264 software"


def test_quick_sync_is_told_of_an_endless_distance_between_keyframes_in_16_bits() -> None:
    qsv = Encoders(tuple(VideoEncoder(codec, "qsv", f"{codec}_qsv", NODE) for codec in ("av1", "h264")))

    argv = arguments(qsv)

    distances = [argv[at + 1] for at, word in enumerate(argv) if word == "-g"]
    assert distances == ["100000", "65535"] * 6  # the last one counts


def test_the_packager_shares_segments_between_hls_and_dash() -> None:
    argv = packager_arguments(Path("packager"), plan(), Path("/pipes"), "http://127.0.0.1:1/s/", 4.0)

    streams = [word for word in argv if word.startswith("in=")]
    assert len(streams) == 7
    assert "segment_template=http://127.0.0.1:1/s/media/av1-360p/$Number%05d$.m4s" in streams[0].split(",")
    assert "--event_to_vod_on_end_of_stream" in argv
