"""The look beside an attempt: viewers see it and nothing else until the outputs are published."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.records import Job
from backend.core.store.interface import Buckets
from tests.worker.media_lab import H264, RUN, TOOLS, MediaLab, ffmpeg, picture, tone
from worker.encode import ladder
from worker.encode.ladder import plan_encoding
from worker.encode.look_arguments import LookSource
from worker.encode.look_plan import LookPlan
from worker.sandbox.background_errors import BackgroundErrors
from worker.source.feeder import SourceFeeder
from worker.source.probe import probe
from worker.transcode.early_look import EarlyLook, MakeLook, Put
from worker.transcode.transcoder import Transcoder
from worker.units.look import LookMaker

SUBTITLES = "1\n00:00:00,500 --> 00:00:01,000\nHello\n"
CHAPTERS = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MediaLab:
    monkeypatch.setattr(ladder, "SMALL_PIXELS", 0)
    (tmp_path / "work").mkdir()
    return MediaLab(tmp_path / "work")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound, chapters, and captions in two languages, one of them without a word."""
    folder = tmp_path_factory.mktemp("clips")
    silent = SUBTITLES.replace("Hello", "<i></i>")
    for name, text in (("en.srt", SUBTITLES), ("de.srt", silent), ("chapters", CHAPTERS)):
        (folder / name).write_text(text)
    inputs = (word for name in ("en.srt", "de.srt", "chapters") for word in ("-i", str(folder / name)))
    maps = (word for number in range(4) for word in ("-map", str(number)))
    ffmpeg(
        *(*picture("64x36"), *tone(), *inputs, *maps, "-map_metadata", "4"),
        *(*H264, "-g", "24", "-c:a", "aac", "-c:s", "srt", "-metadata:s:s:1", "language=ger"),
        str(folder / "clip.mkv"),
    )
    return folder / "clip.mkv"


async def test_viewers_see_the_look_until_the_outputs_are_there(lab: MediaLab, clip: Path) -> None:
    job = await lab.job(clip.read_bytes())
    buckets = Buckets(lab.memory, lab.video)
    look = LookMaker(TOOLS.ffmpeg).run

    done = await Transcoder(buckets, TOOLS, lab.profile, lab.work_dir, look).run(job, RUN, lab.reports.append)

    shown = [report.look for report in lab.reports]
    assert None not in shown[shown.index(next(filter(None, shown))) :]
    assert {report.playable for report in lab.reports if report.look} == {True}
    assert not any(report.playable for report in lab.reports if not report.look)
    last = shown[-1]
    assert last is not None
    assert last.run == keys.look_of_run(RUN)
    assert [one.name for one in last.renditions] == ["h264-36p", "aac"]
    assert [one.path for one in last.captions] == ["captions/1-und.vtt", "captions/2-de.vtt"]
    assert [chapter.title for chapter in lab.reports[0].chapters] == ["One"]
    prefix = keys.run_prefix(lab.video_id, last.run)
    files = {info.key.removeprefix(prefix) async for info in lab.video.list_all(prefix)}
    assert {"hls/master.m3u8", "dash/manifest.mpd", "poster.jpg", "media/aac/00002.m4s"} <= files
    assert b"Hello" in (await lab.video.get(f"{prefix}captions/1-und.vtt")).body
    assert (await lab.video.get(f"{prefix}captions/2-de.vtt")).body == b"WEBVTT\n"
    assert [track.language for track in done.captions] == ["und"]
    assert lab.left_in_work_dir() == []


async def beside(lab: MediaLab, path: Path, make: MakeLook, request: str | None = None) -> EarlyLook:
    """Run a look to its end, without a ladder."""
    job = await lab.job(path.read_bytes())
    job = job.replace(request=request) if request else job
    return await _beside(lab, job, make)


async def _beside(lab: MediaLab, job: Job, make: MakeLook) -> EarlyLook:
    buckets, info = Buckets(lab.memory, lab.video), await lab.memory.head(job.source)
    feeder = SourceFeeder(buckets.raw, info, BackgroundErrors())
    look = EarlyLook(make, buckets, TOOLS.ffmpeg, job, info, keys.look_of_run(RUN), 60, 5, 1.0, lab.work_dir)
    async with feeder.serving() as url:
        media = await probe(TOOLS, url)
        plan = plan_encoding(media, ("h264",), job.options)
        async with look.beside(feeder.read, media, plan):
            await look.begun()
            await look.finish()
    return look


class Maker:
    """A stand-in: the look can be played at once, and then fails."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.was_shown = False

    async def __call__(
        self,
        look: LookPlan,
        source: LookSource,
        directory: Path,
        put: Put,
        playable: Callable[[], None],
        wanted: Callable[[], Awaitable[int | None]],
        *,
        progress: Callable[[], None],
    ) -> None:
        self.kinds.append(look.kind)
        playable()
        raise AttemptFailed("It broke.", code="look_failed")


async def test_look_that_fails_is_no_longer_shown(lab: MediaLab, clip: Path) -> None:
    maker = Maker()

    look = await beside(lab, clip, maker)

    assert maker.kinds == ["copy"]
    assert look.shown is None
    assert not look.is_coming


async def test_small_videos_have_no_look(lab: MediaLab, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "SMALL_PIXELS", 10_000_000)
    maker = Maker()

    await beside(lab, clip, maker)

    assert maker.kinds == []


@pytest.mark.parametrize("name", ["film.ts", "sound.m4a"])
async def test_sources_without_an_index_or_a_picture_have_no_look(
    lab: MediaLab, tmp_path: Path, name: str
) -> None:
    streams = (*picture("64x36"), *H264) if name == "film.ts" else (*tone(), "-c:a", "aac")
    ffmpeg(*streams, str(tmp_path / name))
    maker = Maker()

    await beside(lab, tmp_path / name, maker)

    assert maker.kinds == []
