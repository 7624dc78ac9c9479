"""The progress that a running job reports."""

import re
from pathlib import Path

from backend.core.records import Stage
from tests.worker.media_lab import H264, MediaLab, ffmpeg, picture, tone


async def test_progress_follows_bytes_if_the_duration_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    lab, recording = MediaLab(tmp_path / "work"), tmp_path / "recording.mkv"
    ffmpeg(*picture(seconds=2), *H264, "-f", "matroska", "-live", "1", str(recording))
    # browsers write no duration: replace it with a void element
    without = re.sub(rb"\x44\x89\x88.{8}", b"\xec\x89" + bytes(9), recording.read_bytes(), flags=re.DOTALL)
    recording.write_bytes(without)

    await lab.transcode(recording)

    encoding = [progress for progress in lab.reports if progress.stage == Stage.TRANSCODING]
    assert all(progress.duration_seconds is None for progress in encoding)
    assert encoding[0].stage_progress == 0
    assert encoding[-1].stage_progress == 1


async def test_reports_playable_long_before_encoding_ends(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    ffmpeg(*picture(seconds=20), *tone(20), *H264, "-c:a", "aac", "-shortest", str(clip))
    lab = MediaLab(tmp_path / "work")
    lab.work_dir.mkdir()

    await lab.transcode(clip)

    encoding = [report for report in lab.reports if report.stage is Stage.TRANSCODING]
    first = next(report for report in encoding if report.playable)
    assert 0 < first.stage_progress < 0.6
    assert [report.stage_progress for report in encoding] == sorted(
        report.stage_progress for report in encoding
    )
    assert lab.reports[-1].stage is Stage.FINALIZING
