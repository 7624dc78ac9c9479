"""The commands that the worker's ffmpeg is measured against: the same encoders, another source, no files."""

from fractions import Fraction
from pathlib import Path

from backend.core.records import TranscodeOptions
from bench.media_ways import FfmpegCommand, one_by_one, one_pass, parse_command
from worker.encode.ffmpeg_arguments import encoder_arguments
from worker.encode.filter_graph import filter_graphs
from worker.encode.ladder import EncodingPlan, plan_encoding
from worker.encode.video_encoders import SOFTWARE
from worker.source.media import AudioInfo, MediaInfo, VideoInfo

HD = VideoInfo(0, 1920, 1080, "h264", "yuv420p", Fraction(24), Fraction(24), end_seconds=10.0)
MEDIA = MediaInfo("mov", 10.0, video=HD, audio=(AudioInfo(1, "aac", 6, end_seconds=10.0),))
SOURCE = Path("/films/clip.mp4")
ENCODERS = {"libsvtav1": 3, "libx264": 3, "libopus": 1, "aac": 1}


def plan() -> EncodingPlan:
    return plan_encoding(MEDIA, ("av1", "h264"), TranscodeOptions())


def command() -> FfmpegCommand:
    url = "http://127.0.0.1:1/secret/source"
    return parse_command(list(encoder_arguments(Path("ffmpeg"), plan(), MEDIA, url, 4.0, SOFTWARE)))


def test_the_one_pass_has_the_workers_graph_and_encoders_and_writes_nothing() -> None:
    found = command()
    argv = one_pass(found, SOURCE)

    graphs = [argv[at + 1] for at, word in enumerate(argv) if word == "-filter_complex"]
    assert tuple(graphs) == found.graphs == filter_graphs(plan(), MEDIA, SOFTWARE)
    assert {name: argv.count(name) for name in ENCODERS} == ENCODERS
    assert argv.count("-preset") == 6
    assert argv[argv.index("-i") + 1] == str(SOURCE)
    assert argv[argv.index("-protocol_whitelist") + 1] == "file"
    assert {argv[index + 1] for index, word in enumerate(argv) if word == "-f"} == {"null"}
    assert not any(".pipe" in word or word.endswith((".webm", ".jpg")) for word in argv)


def test_one_by_one_every_rendition_has_a_command_of_its_own_with_its_encoder_and_size() -> None:
    renditions = plan().renditions
    commands = one_by_one(command(), renditions, SOURCE)

    assert len(commands) == len(renditions) == 7
    for rendition, argv in zip(renditions, commands, strict=True):
        assert [argv.count(word) for word in ("-i", "-map", "-f")] == [1, 1, 1]
        if rendition.kind == "video":
            assert ("libsvtav1" if rendition.codec == "av1" else "libx264") in argv
            assert any(f"scale={rendition.width}:{rendition.height}:" in word for word in argv)
            assert "libopus" not in argv
        else:
            assert argv[argv.index("-c:a") + 1] == "aac"
