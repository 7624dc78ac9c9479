"""A conversion makes one file, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from backend.core.errors import TOO_LONG_TO_CONVERT, SourceRejected
from backend.core.records import Conversion, Download, TranscodeOptions
from tests.worker.media_lab import H264, RUN, SHORT_SEGMENTS, TOOLS, MediaLab, ffmpeg, picture, tone
from worker.sandbox.process import run
from worker.source.ffprobe_schema import Report

SOUND = ("-c:a", "aac")
CASES = [
    pytest.param("webm", (*picture(), *tone()), ["av1", "opus"], id="webm"),
    pytest.param("mp4", (*picture(), *tone()), ["h264", "aac"], id="mp4", marks=pytest.mark.heavy),
    pytest.param("webm", tone(), ["opus"], id="webm, only sound", marks=pytest.mark.heavy),
    pytest.param("mp4", tone(), ["aac"], id="mp4, only sound", marks=pytest.mark.heavy),
    pytest.param("webm", picture(), ["av1"], id="webm, only picture", marks=pytest.mark.heavy),
    pytest.param("mp4", picture(), ["h264"], id="mp4, only picture", marks=pytest.mark.heavy),
]


def _options(only: Download, max_seconds: float = 10) -> TranscodeOptions:
    return TranscodeOptions(convert=Conversion(format=only, max_seconds=max_seconds))


@pytest.mark.parametrize(("only", "inputs", "codecs"), CASES)
async def test_it_makes_only_the_file(
    tmp_path: Path, only: Download, inputs: tuple[str, ...], codecs: list[str]
) -> None:
    film, made = tmp_path / "film.mp4", tmp_path / f"made.{only}"
    ffmpeg(*inputs, *H264, *SOUND, str(film))
    lab = MediaLab(tmp_path)
    job = await lab.job(film.read_bytes(), _options(only))

    done = await lab.transcoder().run(job, RUN, lab.reports.append)

    path = f"download.{only}"
    made.write_bytes(await lab.output(path))
    probed = await run((TOOLS.ffprobe, "-v", "error", "-show_streams", "-show_format", "-of", "json", made))
    report = Report.model_validate_json(probed.stdout)
    assert [stream.codec_name for stream in report.streams] == codecs
    assert report.format.duration == pytest.approx(2, abs=0.1)
    assert await lab.paths() == [path] == [one.path for one in done.objects]
    assert (done.qualities, done.renditions, done.captions) == ((), (), ())
    assert not any(progress.playable for progress in lab.reports)


async def test_without_h264_there_is_no_mp4(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    ffmpeg(*picture(), *H264, str(film))
    lab = MediaLab(tmp_path, profile=replace(SHORT_SEGMENTS, codecs=("av1",)))
    job = await lab.job(film.read_bytes(), _options("mp4"))

    with pytest.raises(SourceRejected, match=r"makes no MP4"):
        await lab.transcoder().run(job, RUN, lab.reports.append)


async def test_a_file_that_is_too_long_is_not_converted(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    ffmpeg(*picture(), *H264, str(film))
    lab = MediaLab(tmp_path)
    job = await lab.job(film.read_bytes(), _options("webm", max_seconds=1.5))

    with pytest.raises(SourceRejected, match=r"longer than 1.5 s") as rejected:
        await lab.transcoder().run(job, RUN, lab.reports.append)

    assert rejected.value.failure_code == TOO_LONG_TO_CONVERT
    assert await lab.paths() == []
