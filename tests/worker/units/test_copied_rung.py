"""A rung that is the source's own picture: as it was, in time with the others, and never a damaged one."""

import struct
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.unit_records import UnitOutputs
from tests.worker.media_lab import TOOLS, MediaLab, ffmpeg, picture, tone
from tests.worker.units.test_units import joined, packets
from tests.worker.units.unit_lab import UnitLab
from worker.encode import ladder
from worker.units import planner
from worker.units.details import PlanDetails

pytestmark = pytest.mark.heavy

SECONDS = 8
RATE = 24
KEYFRAMES = "0,1.5,3.6666,6.125"
"""The third is at 3 2/3 s: in microseconds, it is easily rounded up."""
SEGMENTS = ["#EXTINF:1.500,", "#EXTINF:2.167,", "#EXTINF:2.458,", "#EXTINF:1.875,"]
NAME = "h264-180p"
H264 = ("-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", "-maxrate", "150k", "-bufsize", "150k")
BT709 = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnitLab:
    monkeypatch.setattr(ladder, "SMALL_PIXELS", 0)
    (tmp_path / "work").mkdir()
    lab = UnitLab(tmp_path / "work", chunk_seconds=3)
    lab.profile = replace(lab.profile, downloads=("webm", "mp4"), rungs=(90, 180))
    return lab


def film(path: Path, *options: str) -> Path:
    """B-frames, and keyframes that lie on no grid."""
    inputs = (*picture(seconds=SECONDS, rate=str(RATE)), *tone(SECONDS))
    placed = ("-g", "999", "-sc_threshold", "0", "-force_key_frames", KEYFRAMES)
    ffmpeg(*inputs, *H264, *placed, *BT709, *options, "-c:a", "aac", str(path))
    return path


def stream_hash(path: Path) -> bytes:
    """Hash of the picture's packets, without what is removed from a copy."""
    copied = ("-map", "0:v", "-c", "copy", "-bsf:v", "filter_units=remove_types=6", "-f", "streamhash", "-")
    done = subprocess.run(
        [TOOLS.ffmpeg, "-v", "error", "-i", str(path), *copied], check=True, capture_output=True, timeout=60
    )
    return done.stdout


def shown(body: bytes, path: Path) -> list[Fraction]:
    """When frames are shown."""
    path.write_bytes(body)
    entries = ("-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0")
    done = subprocess.run(
        [TOOLS.ffprobe, "-v", "error", *entries, str(path)], check=True, capture_output=True, timeout=60
    )
    return sorted(Fraction(time.strip(",")) for time in done.stdout.decode().split())


async def test_copied_rung_is_the_sources_picture_in_time_with_the_others(
    lab: UnitLab, tmp_path: Path
) -> None:
    source = film(tmp_path / "film.mp4")
    encoded = MediaLab(lab.work_dir, lab.profile)

    result = await lab.transcode_in_units(source)
    expected = await encoded.transcode(source)

    for chunk in ("c0000", "c0001"):
        end = lab.ends[chunk]
        assert isinstance(end, UnitOutputs)
        assert {one.name for one in end.objects} == {"av1-90p.mp4", "h264-90p.mp4", "av1-180p.mp4"}
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(await joined(lab, NAME))
    assert stream_hash(copy) == stream_hash(source)
    times = shown(copy.read_bytes(), copy)
    assert len(times) == SECONDS * RATE
    for other in ("h264-90p", "av1-180p"):
        others = shown(await joined(lab, other), tmp_path / other)
        assert max(abs(one - two) for one, two in zip(times, others, strict=True)) < Fraction(1, 2 * RATE)
    assert packets(await joined(lab, "aac"), tmp_path / "a") == packets(
        await joined(encoded, "aac"), tmp_path / "a"
    )
    assert result.renditions == expected.renditions

    for name in ("av1-90p", "h264-90p", "av1-180p", NAME):
        playlist = (await lab.output(f"hls/{name}.m3u8")).decode().split()
        assert [line for line in playlist if line.startswith("#EXTINF")] == SEGMENTS
    manifest = (await lab.output("dash/manifest.mpd")).decode()
    # AV1, H.264 and sound
    assert manifest.count("<AdaptationSet") == manifest.count('segmentAlignment="true"') == 3
    mp4 = tmp_path / "download.mp4"
    mp4.write_bytes(await lab.output("download.mp4"))
    assert stream_hash(mp4) == stream_hash(source)


async def test_damaged_picture_is_encoded_instead(lab: UnitLab, tmp_path: Path) -> None:
    source = film(tmp_path / "film.mp4", "-movflags", "+faststart")
    body = bytearray(source.read_bytes())
    for at in range(len(body) * 9 // 20, len(body) * 9 // 20 + 1500):
        body[at] ^= 0x5A
    job = await lab.job(bytes(body))
    plan = await lab.plan(job)
    await lab.do_all(job, plan)

    with pytest.raises(AttemptFailed) as failure:
        await lab.join(job, plan)

    assert failure.value.failure_code == "unlike_copy"


async def test_picture_whose_keyframes_need_other_frames_is_not_copied(lab: UnitLab, tmp_path: Path) -> None:
    body = film(tmp_path / "film.mp4").read_bytes()
    numbers, wrong = (struct.pack(">4I", 1, second, 89, 148) for second in (37, 40))
    assert numbers in body
    job = await lab.job(body.replace(numbers, wrong))
    plan = await lab.plan(job)
    assert PlanDetails.of(plan).encoding.copied_video

    end = await lab.do(lab.claim(job, plan, keys.SIDES))

    assert f"{NAME}.mp4" not in {one.name for one in end.objects}


async def test_nothing_is_copied_when_the_operator_or_an_earlier_plan_says_so(
    lab: UnitLab, tmp_path: Path
) -> None:
    job = await lab.job(film(tmp_path / "film.mp4").read_bytes())
    again = await planner.Planner(lab.workshop, "", 3).run(job, 1, "l0-1007", "3092")
    lab.profile = replace(lab.profile, copies_source=False)

    for plan in (again, await lab.plan(job)):
        assert not isinstance(plan, planner.Whole)
        assert PlanDetails.of(plan).encoding.copied_video is None
