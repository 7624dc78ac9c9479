"""A look in the making: real ffmpeg from any segment on, and a stand-in for it where the order counts."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.core.errors import AttemptFailed
from backend.core.keys import DASH_MANIFEST, MASTER_PLAYLIST
from backend.core.records import TranscodeOptions
from tests.formats.measuring import beeps_of, flashes_of, frames_of, stream_of, sync_error_ms
from tests.formats.picture import AAC, H264, HEVC, LUMA, RED, film, tone
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import TOOLS, ffmpeg
from worker.encode.ladder import plan_encoding
from worker.encode.look_arguments import LookSource
from worker.encode.look_plan import LookPlan, plan_look
from worker.output.vod_playlists import init_path, segment_path
from worker.sandbox.background_errors import BackgroundErrors
from worker.source.feeder import SourceFeeder
from worker.source.index.read import read_index
from worker.source.probe import probe
from worker.units import look as look_module
from worker.units.look import LookMaker

SECONDS = 6
GROUPS = ("-g", "25", "-sc_threshold", "0")
VARIABLE = ("-vf", "select=mod(n\\,7)", "-fps_mode", "vfr")
NOT_FOR_BROWSERS = ("-pix_fmt", "yuv444p", "-profile:v", "high444")
SOURCES = {
    "copy.mp4": (*H264, *GROUPS, *AAC),
    "copy.mkv": (*H264, *GROUPS, *VARIABLE, "-bf", "3", "-c:a", "ac3"),
    "quick.mp4": (*H264, *NOT_FOR_BROWSERS, *AAC),
    "quick.mkv": (*H264, *NOT_FOR_BROWSERS, *VARIABLE, "-c:a", "ac3"),
}
"""By name, which begins with the kind of the look: how they are encoded."""


@dataclass
class Made:
    """What was stored, in order. `hold` is awaited before each object."""

    files: dict[str, bytes] = field(default_factory=dict)
    playable_after: int = 0
    hold: Callable[[str], asyncio.Event | None] = lambda _: None

    async def put(self, path: str, body: bytes) -> None:
        if (event := self.hold(path)) is not None:
            await event.wait()
        self.files[path] = body

    def playable(self) -> None:
        self.playable_after = len(self.files)

    def joined(self, name: str, segments: int, directory: Path) -> Path:
        """Join a rendition's segments, as a player does."""
        path = directory / f"{name}.mp4"
        parts = (init_path(name), *(segment_path(name, number) for number in range(segments)))
        path.write_bytes(b"".join(self.files[part] for part in parts))
        return path


async def nothing_wanted() -> int | None:
    return None


async def make(path: Path, directory: Path, made: Made, stored: set[str] | None = None) -> LookPlan:
    store, body = MemoryStore(), path.read_bytes()
    await store.put("film", body)
    feeder = SourceFeeder(store, await store.head("film"), BackgroundErrors())
    async with feeder.serving() as url:
        media = await probe(TOOLS, url)
        plan = plan_encoding(media, ("h264",), TranscodeOptions())
        look = plan_look(media, await read_index(feeder.read, media), plan, len(body), 1.0, cores=2)
        assert look is not None
        assert media.video is not None
        source = LookSource(url, media, media.video, plan.audio)
        directory.mkdir()
        maker = LookMaker(TOOLS.ffmpeg)
        await maker.run(look, source, directory, made.put, made.playable, nothing_wanted, stored=stored or ())
    return look


def packets_of(path: Path) -> int:
    shown = (
        "-select_streams",
        "v",
        "-count_packets",
        "-show_entries",
        "stream=nb_read_packets",
        "-of",
        "csv=p=0",
    )
    return int(subprocess.check_output([TOOLS.ffprobe, "-v", "error", *shown, path], timeout=60))


def without_sequence(segment: bytes) -> bytes:
    """Leave out the number in `mfhd`, which counts what ffmpeg has written."""
    return segment[:20] + segment[24:]


@pytest.mark.parametrize("name", SOURCES)
async def test_look_is_the_whole_film_wherever_ffmpeg_begins(tmp_path: Path, name: str) -> None:
    kind, source = name.partition(".")[0], tmp_path / name
    ffmpeg(*film("160x90", seconds=SECONDS), *tone(SECONDS), *SOURCES[name], str(source))
    made = Made()
    look = await make(source, tmp_path / "first", made)
    assert look.kind == kind
    assert list(made.files)[made.playable_after - 1] == MASTER_PLAYLIST
    first = made.joined(look.picture.name, look.segments, tmp_path)
    expected = frames_of(first)
    assert packets_of(first) == (packets_of(source) if kind == "copy" else SECONDS * 25)

    for number in (2, look.segments - 2):
        again = [segment_path(one.name, number) for one in look.renditions]
        before = {path: made.files.pop(path) for path in again}
        await make(source, tmp_path / f"again-{number}", made, stored=set(made.files))
        if kind == "copy":
            assert without_sequence(made.files[again[0]]) == without_sequence(before[again[0]])
    picture = made.joined(look.picture.name, look.segments, tmp_path)
    found = frames_of(picture)
    assert len(found) == len(expected)
    assert [one.flashes for one in found] == [one.flashes for one in expected]
    flashes, beeps = flashes_of(picture), beeps_of(made.joined("aac", look.segments, tmp_path))
    assert len(flashes) == len(beeps) == SECONDS
    lag = sync_error_ms(flashes, beeps)
    assert lag is not None
    assert abs(lag) <= 40


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("codec", "turn", "turned"),
    [
        ((*H264, *GROUPS), ("-display_rotation", "90"), "transpose=clock"),
        ((*HEVC, *GROUPS), ("-display_rotation", "90"), "transpose=clock"),
        ((*H264, *GROUPS), ("-display_rotation", "180"), "hflip,vflip"),
        ((*H264, *GROUPS), ("-display_hflip",), "hflip"),
        ((*H264, *GROUPS), ("-display_vflip",), "vflip"),
    ],
    ids=["H.264, 90 degrees", "HEVC, 90 degrees", "upside down", "mirrored", "mirrored and upside down"],
)
async def test_look_is_upright_without_a_matrix(
    tmp_path: Path, codec: tuple[str, ...], turn: tuple[str, ...], turned: str
) -> None:
    """Not all players turn the picture, and those that do it must not turn what is upright."""
    flat, source = tmp_path / "flat.mp4", tmp_path / "film.mp4"
    ffmpeg(
        *film("160x90", seconds=3, turned=turned), *tone(3), *codec, "-pix_fmt", "yuv420p", *AAC, str(flat)
    )
    ffmpeg(*turn, "-i", str(flat), "-c", "copy", str(source))
    made = Made()

    look = await make(source, tmp_path / "work", made)

    joined = made.joined(look.picture.name, look.segments, tmp_path)
    assert "side_data_list" not in stream_of(joined)
    corners = [frames_of(joined)[0].colour(cell) for cell in (0, 3, 12, 15)]
    expected = [(LUMA["white"], 128, 128), (LUMA["grey"], 128, 128), (LUMA["black"], 128, 128), RED]
    assert corners == [pytest.approx(colour, abs=10) for colour in expected]


STAND_IN = """
import sys
from pathlib import Path
folder, first, *pipes = sys.argv[1:]
open_pipes = [(name, open(name + ".pipe", "wb", buffering=0)) for name in pipes]
for name, pipe in open_pipes:
    pipe.write(Path(folder, name, "init").read_bytes())
number = int(first)
while Path(folder, pipes[0], str(number)).exists():
    for name, pipe in open_pipes:
        pipe.write(Path(folder, name, str(number)).read_bytes())
    number += 1
"""


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> tuple[LookPlan, Path]:
    """A look of 12 segments, and a folder with what `STAND_IN` writes."""
    folder = tmp_path_factory.mktemp("stand-in")
    ffmpeg(*film("64x36", seconds=12), *tone(12), *H264, *GROUPS, *AAC, str(folder / "film.mp4"))
    made = Made()
    look = asyncio.run(make(folder / "film.mp4", folder / "work", made))
    for one in look.renditions:
        (folder / one.name).mkdir()
        (folder / one.name / "init").write_bytes(made.files[init_path(one.name)])
        for number in range(look.segments):
            (folder / one.name / str(number)).write_bytes(made.files[segment_path(one.name, number)])
    (folder / "program.py").write_text(STAND_IN)
    return look, folder


class Viewers:
    """What they want, and runs of the stand-in for ffmpeg: where each began."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, segments: tuple[LookPlan, Path], directory: Path
    ) -> None:
        self.look, self._folder = segments
        self._directory = directory
        self._runs = 0
        self.made = Made()
        self.wanted: int | None = None
        self.begins: list[int] = []
        monkeypatch.setattr(look_module, "look_arguments", self._arguments)
        monkeypatch.setattr(look_module, "WORTH_MOVING_SECONDS", 0)
        # what a test holds back must not keep the rest from being stored
        monkeypatch.setattr(look_module, "MAX_UPLOADS_IN_FLIGHT", 100)

    def _arguments(self, _ffmpeg: Path, look: LookPlan, _source: LookSource, segment: int) -> list[str]:
        self.begins.append(segment)
        names = [one.name for one in look.renditions]
        return [sys.executable, str(self._folder / "program.py"), str(self._folder), str(segment), *names]

    async def _newest(self) -> int | None:
        return self.wanted

    async def run(self, stored: set[str] | None = None) -> None:
        source = LookSource("", SimpleNamespace(duration_seconds=12), None, ())  # type: ignore[arg-type]
        self._runs += 1
        directory = self._directory / str(self._runs)
        directory.mkdir()
        maker = LookMaker(TOOLS.ffmpeg, wants_every_seconds=0.001)
        await maker.run(
            self.look,
            source,
            directory,
            self.made.put,
            self.made.playable,
            self._newest,
            stored=stored or (),
        )

    def order(self) -> list[int]:
        """Return the numbers of the picture's segments as they were stored."""
        names = [segment_path(self.look.picture.name, number) for number in range(self.look.segments)]
        return [names.index(path) for path in self.made.files if path in names]


@pytest.fixture
async def viewers(
    monkeypatch: pytest.MonkeyPatch, segments: tuple[LookPlan, Path], tmp_path: Path
) -> Viewers:
    return Viewers(monkeypatch, segments, tmp_path)


async def test_look_grows_from_the_start(viewers: Viewers) -> None:
    await viewers.run()

    assert viewers.begins == [0]
    assert sorted(viewers.order()) == list(range(12))
    assert MASTER_PLAYLIST in viewers.made.files
    assert DASH_MANIFEST in viewers.made.files


async def test_look_moves_to_the_wanted_segment_and_comes_back(viewers: Viewers) -> None:
    """The store takes only three segments of each rendition until ffmpeg begins elsewhere."""
    taken = [segment_path(one.name, number) for number in range(3) for one in viewers.look.renditions]
    viewers.made.hold = lambda path: (
        asyncio.Event() if path.endswith(".m4s") and path not in taken and len(viewers.begins) == 1 else None
    )
    viewers.made.playable = lambda: setattr(viewers, "wanted", 9)  # type: ignore[method-assign]

    await viewers.run()

    assert viewers.begins[:2] == [0, 8]
    assert sorted(viewers.order()) == list(range(12))
    # what is there is not made again
    assert all(begin < 8 for begin in viewers.begins[2:])


async def test_only_what_is_missing_is_made(viewers: Viewers) -> None:
    await viewers.run()
    lost = [segment_path(one.name, number) for number in (4, 5) for one in viewers.look.renditions]
    for path in lost:
        del viewers.made.files[path]
    stored = set(viewers.made.files)
    playlists = viewers.made.files[MASTER_PLAYLIST]

    await viewers.run(stored)

    assert viewers.begins == [0, 4]
    assert set(viewers.made.files) - stored == set(lost)
    assert viewers.made.files[MASTER_PLAYLIST] is playlists


async def test_playlists_that_were_not_stored_any_more_are_stored(viewers: Viewers) -> None:
    """A worker may be killed just after the last segment."""
    await viewers.run()
    master = viewers.made.files.pop(MASTER_PLAYLIST)

    await viewers.run(set(viewers.made.files))

    assert viewers.begins == [0, 0]
    assert viewers.made.files[MASTER_PLAYLIST] == master


async def test_film_that_ends_too_early_is_no_look(viewers: Viewers) -> None:
    viewers.look = replace(
        viewers.look,
        renditions=tuple(
            replace(one, starts=(*one.starts, one.end), end=one.end + one.timescale)
            for one in viewers.look.renditions
        ),
    )

    with pytest.raises(AttemptFailed, match="no segment 13"):
        await viewers.run()
