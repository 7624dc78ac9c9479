"""Divided jobs: every rendition shows each frame of the source once, in its place, and with its sound."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest

from backend.core import keys
from tests.formats.measuring import beeps_of, rendition_file
from tests.formats.picture import TAGGED_709
from tests.worker.media_lab import SHORT_SEGMENTS, ffmpeg
from tests.worker.units.numbered import beeps, lags, pictures, shown_by, write_pictures
from tests.worker.units.unit_lab import UnitLab
from worker.encode import ladder

FRAMES = 240
MAX_LAG_SECONDS = 0.04
SOUNDS = ("aac", keys.DOWNLOAD, keys.DOWNLOAD_MP4)
FEWEST_BEEPS = 3
"""At the beginning, in the middle and at the end."""
FRAMES_TO_THE_END_OF_SOUND = 2
"""The last frame may be shown for longer than the others."""
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params")
VP9 = ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-pix_fmt", "yuv420p")
VP8 = ("-c:v", "libvpx", "-cpu-used", "8", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac")
LEFT_OUT = frozenset(n for n in range(FRAMES) if n % 7 == 3 or 65 <= n <= 140)
SELECTED = ("-fps_mode", "vfr", "-vf", "select=not(eq(mod(n\\,7)\\,3))*not(between(n\\,65\\,140))")


@dataclass(frozen=True, slots=True)
class Film:
    """A way to make a film, and the numbers it shows. Before the arguments come pictures and sound."""

    file: str
    arguments: tuple[str, ...]
    shows: Sequence[int] = range(FRAMES)
    rate: str = "24"
    picture_late: float = 0.0
    sound_late: float = 0.0
    cut_at: float = 0.0
    """Where a copy of it begins, between keyframes."""


FILMS = {
    "MP4, B-frames": Film("a.mp4", (*X264, "-g", "60", *AAC)),
    "MP4, copied as its top rung": Film(
        "a.mp4", (*X264, *TAGGED_709, "-x264-params", "keyint=48:min-keyint=48:scenecut=0:open-gop=0", *AAC)
    ),
    "MP4, edit list": Film("a.mp4", (*X264, "-g", "60", *AAC), range(30, FRAMES), cut_at=1.25),
    "MP4, open GOP, index first": Film(
        "a.mp4", (*X264, "-x264-params", "open-gop=1:keyint=40", "-bf", "8", *AAC, "-movflags", "+faststart")
    ),
    "MP4, 29.97 fps, one keyframe": Film("a.mp4", (*X264, "-g", "999", *AAC), rate="30000/1001"),
    "MP4, variable rate": Film(
        "a.mp4",
        (*X264, *SELECTED, "-g", "71", *AAC),
        [max(m for m in range(n + 1) if m not in LEFT_OUT) for n in range(FRAMES)],
    ),
    "MP4, AV1": Film("a.mp4", ("-c:v", "libsvtav1", "-preset", "12", "-g", "60", *AAC)),
    "M4V, MPEG-4": Film("a.m4v", ("-c:v", "mpeg4", "-bf", "2", "-g", "48", "-q:v", "4", *AAC)),
    "MOV, picture late": Film(
        "a.mov",
        (*X264, "-g", "30", "-c:a", "pcm_s16le"),
        [*[0] * 12, *range(FRAMES - 12)],
        picture_late=0.5,
    ),
    "MOV, HEVC": Film(
        "a.mov", (*X265, "log-level=none:open-gop=1:keyint=40:bframes=4", "-tag:v", "hvc1", *AAC)
    ),
    "MOV, ProRes": Film("a.mov", ("-c:v", "prores_ks", "-profile:v", "0", "-c:a", "pcm_s24le")),
    "MKV, sound late": Film("a.mkv", (*X264, "-g", "60", *AAC), sound_late=1.2),
    "MKV, clock from 100 s": Film("a.mkv", (*X264, "-g", "60", *AAC, "-output_ts_offset", "100")),
    "MKV, variable rate, sparse keyframes": Film(
        "a.mkv",
        (*X264, *SELECTED, "-g", "999", "-c:a", "flac"),
        [max(m for m in range(n + 1) if m not in LEFT_OUT) for n in range(FRAMES)],
    ),
    "MKV, intra refresh": Film("a.mkv", (*X264, "-x264-params", "intra-refresh=1:keyint=48", *AAC)),
    "WebM, VP9": Film("a.webm", (*VP9, "-g", "60", "-c:a", "libopus")),
    "WebM, hidden frames, sparse keyframes": Film(
        "a.webm", (*VP8, "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "150", "-c:a", "libvorbis")
    ),
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnitLab:
    monkeypatch.setattr(ladder, "SMALL_PIXELS", 0)
    (tmp_path / "work").mkdir()
    profile = replace(SHORT_SEGMENTS, rungs=(90, 180), downloads=("webm", "mp4"))
    return UnitLab(tmp_path / "work", profile, chunk_seconds=3)


def make(film: Film, directory: Path) -> Path:
    path, raw, rate = directory / film.file, directory / "pictures", Fraction(film.rate)
    write_pictures(raw, FRAMES)
    sound = beeps(float(FRAMES / rate) - film.sound_late)
    late = (("-itsoffset", str(film.picture_late)), ("-itsoffset", str(film.sound_late)))
    end = ("-t", str(float(FRAMES / rate)), str(path))
    ffmpeg(*late[0], *pictures(raw, film.rate), *late[1], *sound, *film.arguments, *end)
    if film.cut_at:
        ffmpeg("-ss", str(film.cut_at), "-i", str(path), "-c", "copy", str(path.with_stem("cut")))
        return path.with_stem("cut")
    return path


@pytest.mark.heavy
@pytest.mark.spread
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.corpus(name.partition(",")[0])) for name in FILMS]
)
async def test_every_rendition_shows_every_frame_in_its_place(
    lab: UnitLab, tmp_path: Path, name: str
) -> None:
    film = FILMS[name]
    fps = Fraction(film.rate)

    result = await lab.transcode_in_units(make(film, tmp_path))

    sides = lab.ends[keys.SIDES]
    is_copied = any(one.name == "h264-180p.mp4" for one in sides.objects)
    assert is_copied == ("copied" in name)
    assert len(lab.ends) >= 2 + 3
    files = {one.name: await rendition_file(lab, one.name, tmp_path) for one in result.renditions}
    for path in (keys.DOWNLOAD, keys.DOWNLOAD_MP4):
        files[path] = tmp_path / path
        files[path].write_bytes(await lab.output(path))
    heard = [beeps_of(files[name]) for name in SOUNDS]
    assert len(files) == 4 + len(SOUNDS)
    for name, file in files.items():
        if name == "aac":
            continue
        frames = shown_by(file, tmp_path / "times")
        numbers = [frame.number for frame in frames]
        shows = list(film.shows)
        more = len(numbers) - len(shows)
        assert numbers == shows + shows[-1:] * more, name
        assert more <= FRAMES_TO_THE_END_OF_SOUND, name
        times = [float(n / fps) for n in range(len(frames))]
        assert [frame.seconds for frame in frames] == pytest.approx(times, abs=0.001), name
        for onsets in heard:
            found = lags(frames, onsets, fps, film.sound_late - film.picture_late)
            assert len(found) >= FEWEST_BEEPS, name
            assert max(map(abs, found)) <= MAX_LAG_SECONDS, (name, found)
