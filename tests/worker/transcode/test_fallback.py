"""Hardware that fails in the middle of a job: the attempt restarts in software. The card is fake."""

import asyncio
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.store.interface import Buckets
from tests.worker.encode.graphics_card import tools_with_card
from tests.worker.media_lab import H264, RUN, MediaLab, ffmpeg, picture, tone
from worker.encode.video_encoders import SOFTWARE, SVT_AV1, Encoders, VideoEncoder
from worker.output.playlists import parse_playlist
from worker.transcode.fallback import Fallback
from worker.transcode.transcoder import EncodingProfile, Transcoder

ON_CARD = Encoders((SVT_AV1, VideoEncoder("h264", "nvenc", "h264_nvenc")), fallback=SOFTWARE)


SECONDS = 8
"""More than the card encodes before it hangs."""


async def test_falls_back_to_software_mid_job_without_mixing_segments(
    tmp_path: Path,
) -> None:
    broken, work_dir, clip = tmp_path / "broken", tmp_path / "work", tmp_path / "clip.mp4"
    work_dir.mkdir()
    ffmpeg(*picture(seconds=SECONDS), *tone(SECONDS), *H264, "-c:a", "aac", str(clip))
    lab = MediaLab(work_dir)
    profile = EncodingProfile(segment_seconds=1, encoders=ON_CARD)
    tools = tools_with_card(tmp_path, "h264_nvenc", breaks_when=broken)
    transcoder = Transcoder(Buckets(lab.memory, lab.video), tools, profile, work_dir)

    async def break_the_card_once_it_plays() -> None:
        while keys.MASTER_PLAYLIST not in await paths_below(lab, RUN):  # noqa: ASYNC110  # polls, as a viewer does
            await asyncio.sleep(0.05)
        broken.touch()

    job = await lab.job(clip.read_bytes())
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(break_the_card_once_it_plays())
        transcoding = group.create_task(transcoder.run(job, RUN, lab.reports.append))

    result = transcoding.result()
    assert result.fallback is not None
    assert result.encoder == "software"
    assert result.fallback.reason == "av1 software, h264 nvenc: ffmpeg exited with 1."
    assert result.duration_seconds == pytest.approx(SECONDS, abs=0.1)
    before = [report for report in lab.reports if report.fallback is None]
    after = [report for report in lab.reports if report.fallback is not None]
    assert before[-1].encoder == "av1 software, h264 nvenc"
    assert (after[0].encoder, after[0].playable, after[0].stage_progress) == ("software", False, 0)
    assert result.fallback.run == f"{RUN}s"
    assert {object_.path for object_ in result.objects} == await paths_below(lab, result.fallback.run)
    held = [path for path in await paths_below(lab, RUN) if path.startswith(("hls/h264-", "hls/av1-"))]
    assert {"hls/av1-180p.m3u8", "hls/h264-180p.m3u8"} <= set(held)
    for path in held:
        playlist = parse_playlist(path, await lab.output(path))
        assert playlist.segments
        assert not playlist.finished
    assert lab.left_in_work_dir() == []


async def paths_below(lab: MediaLab, run: str) -> set[str]:
    prefix = keys.run_prefix(lab.video_id, run)
    return {info.key.removeprefix(prefix) async for info in lab.video.list_all(prefix)}


def test_only_encode_failures_fall_back_to_software() -> None:
    lost = AttemptFailed("The encoder made no progress for 120 s.", code="stalled")

    assert Fallback.after(lost, ON_CARD, "r0-0-ab") == Fallback(
        SOFTWARE, "r0-0-abs", "av1 software, h264 nvenc: The encoder made no progress for 120 s."
    )
    assert Fallback.after(AttemptFailed("x", code="source_failed"), ON_CARD, "r0-0-ab") is None
    assert Fallback.after(lost, SOFTWARE, "r0-0-ab") is None
