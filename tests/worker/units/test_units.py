"""Units that are done with the real programs make what one pass makes, or report what they cannot make."""

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed, SourceRejected
from backend.core.unit_records import UnitObject, UnitOutputs
from tests.worker.media_lab import H264, RUN, TOOLS, MediaLab, ffmpeg, picture, tone
from tests.worker.units.unit_lab import UnitLab
from worker.encode import ladder
from worker.output.webm import cues_come_first
from worker.units.planner import Planner, Whole

pytestmark = pytest.mark.heavy

SECONDS = 8
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nHello\n"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnitLab:
    monkeypatch.setattr(ladder, "SMALL_PIXELS", 0)
    (tmp_path / "work").mkdir()
    return UnitLab(tmp_path / "work", chunk_seconds=3)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two audio tracks, subtitles, B-frames, and a picture that ends half a second before the sound."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "subtitles.srt").write_text(SUBTITLES)
    path = folder / "film.mkv"
    inputs = (*picture(seconds=SECONDS - 0.5), *tone(SECONDS), *tone(SECONDS), "-i", folder / "subtitles.srt")
    maps = ("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-metadata:s:a:1", "language=fra")
    encoded = ("-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac")
    ffmpeg(*map(str, inputs), *maps, *encoded, "-c:s", "srt", str(path))
    return path


def packets(body: bytes, path: Path) -> list[str]:
    """Time, length and kind of each packet of each stream."""
    path.write_bytes(body)
    shown = ("-show_entries", "packet=stream_index,pts,dts,duration,flags", "-of", "csv=p=0")
    done = subprocess.run(
        [TOOLS.ffprobe, "-v", "error", *shown, str(path)], check=True, capture_output=True, timeout=60
    )
    assert done.stderr == b""
    return done.stdout.decode().split()


async def joined(lab: MediaLab, name: str) -> bytes:
    segments = [path for path in await lab.paths() if path.startswith(f"media/{name}/0")]
    return b"".join([await lab.output(path) for path in (f"media/{name}/init.mp4", *sorted(segments))])


async def test_units_make_the_frames_of_one_pass(lab: UnitLab, film: Path, tmp_path: Path) -> None:
    lab.profile = replace(lab.profile, downloads=("webm", "mp4"))
    one_pass = MediaLab(lab.work_dir, lab.profile)

    result = await lab.transcode_in_units(film)
    expected = await one_pass.transcode(film)

    assert len(lab.ends) == 2 + 3
    assert lab.playable == ["l0-1007"]
    assert [one.path for one in result.objects] == [one.path for one in expected.objects]
    assert sorted(one.path for one in result.objects) == await lab.paths()
    for name in ("av1-180p", "h264-180p", "aac", "aac-2"):
        found, wanted = [packets(await joined(one, name), tmp_path / name) for one in (lab, one_pass)]
        assert found == wanted
        assert await lab.output(f"hls/{name}.m3u8") == await one_pass.output(f"hls/{name}.m3u8")
    found, wanted = [await one.output("download.webm") for one in (lab, one_pass)]
    assert cues_come_first(found)
    assert sorted(packets(found, tmp_path / "webm")) == sorted(packets(wanted, tmp_path / "webm"))
    mp4s = [await one.output("download.mp4") for one in (lab, one_pass)]
    assert len({tuple(sorted(packets(mp4, tmp_path / "mp4"))) for mp4 in mp4s}) == 1
    assert [one.language for one in result.captions] == ["und"]
    assert result.renditions == expected.renditions
    assert (result.duration_seconds, result.source) == (expected.duration_seconds, expected.source)
    assert lab.left_in_work_dir() == []
    assert lab.reports[-1].stage_progress == 1


async def test_join_begins_before_the_last_chunk_has_ended(lab: UnitLab, film: Path) -> None:
    job = await lab.job(film.read_bytes())
    plan = await lab.plan(job)
    *first, last = plan.units
    for unit in first:
        await lab.do(lab.claim(job, plan, unit))
    joining = asyncio.create_task(lab.join(job, plan))

    await lab.do(lab.claim(job, plan, last))
    result = await joining

    assert sorted(one.path for one in result.objects) == await lab.paths()


async def test_join_refuses_chunks_of_another_encoder_or_with_missing_frames(
    lab: UnitLab, film: Path
) -> None:
    job = await lab.job(film.read_bytes())
    plan = await lab.plan(job)
    await lab.do_all(job, plan)
    end = lab.ends["c0001"]
    assert isinstance(end, UnitOutputs)

    def changed(**changes: object) -> UnitOutputs:
        first, *others = end.objects
        return end.replace(objects=(UnitObject(**{**first.model_dump(), **changes}), *others))

    for lab.ends["c0001"], code in (
        (changed(config="another"), "unlike_chunks"),
        (changed(frames=1), "unit_unreadable"),
        (changed(name="missing"), "unit_unreadable"),
    ):
        with pytest.raises(AttemptFailed) as failure:
            await lab.join(job, plan)
        assert failure.value.failure_code == code


@pytest.mark.parametrize(
    ("begin", "share", "keyframes", "code"),
    [
        pytest.param(0.45, 0.05, 24, None, id="little"),
        pytest.param(0.45, 0.4, 24, "source_damaged", id="much"),
        pytest.param(0.2, 0.05, 999, None, id="little, decoded three times"),
        pytest.param(0.91, 0.09, 24, "duration_mismatch", id="the end"),
    ],
)
async def test_damage_is_judged_by_the_whole_picture(
    lab: UnitLab, tmp_path: Path, begin: float, share: float, keyframes: int, code: str | None
) -> None:
    source = tmp_path / "film.mp4"
    shape = ("-bf", "0", "-g", str(keyframes), "-movflags", "+faststart")
    ffmpeg(*picture(seconds=SECONDS), *H264, *shape, str(source))
    body = bytearray(source.read_bytes())
    first = int(len(body) * begin)
    end = first + int(len(body) * share)
    body[first:end] = bytes(value ^ 0x5A for value in body[first:end])
    source.write_bytes(body)

    if code:
        with pytest.raises(SourceRejected) as rejection:
            await lab.transcode_in_units(source)
        assert rejection.value.failure_code == code
    else:
        assert (await lab.transcode_in_units(source)).duration_seconds == SECONDS
    assert lab.left_in_work_dir() == []


async def test_source_that_was_replaced_is_not_mixed_with_the_old_one(lab: UnitLab, film: Path) -> None:
    job = await lab.job(film.read_bytes())
    plan = await lab.plan(job)
    await lab.memory.put(job.source, film.read_bytes()[:-1] + b"x")

    with pytest.raises(AttemptFailed, match="replaced"):
        await lab.do(lab.claim(job, plan, keys.SIDES))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        pytest.param("film.ts", (*picture(seconds=4), *tone(4), *H264), id="no-index"),
        pytest.param(
            "film.mp4",
            (*picture(seconds=4), *H264, "-movflags", "+frag_keyframe+empty_moov"),
            id="fragmented",
        ),
        pytest.param("film.mkv", (*picture(seconds=4), *H264, "-live", "1"), id="no-cues"),
        pytest.param("film.mp4", tone(4), id="no-picture"),
        pytest.param(
            "film.mp4",
            (*picture(seconds=30, rate="2"), *H264, "-g", "999"),
            id="one-keyframe",
        ),
    ],
)
async def test_what_cannot_be_divided_is_done_as_a_whole(
    lab: UnitLab, tmp_path: Path, name: str, made: tuple[str, ...]
) -> None:
    ffmpeg(*made, str(tmp_path / name))
    job = await lab.job((tmp_path / name).read_bytes())

    planned = await Planner(lab.workshop, "", 3).run(job, 0, RUN, "3092")

    assert isinstance(planned, Whole)
    assert not planned.is_small
