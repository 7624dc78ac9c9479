"""The format matrix: what each kind of input becomes. docs/formats.md is generated from the results."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from backend.core import keys
from backend.core.uploads.sniff import SNIFF_BYTES, foreign_type
from tests.formats.inputs import INPUTS, Input
from tests.formats.kinds import KIND_OF
from tests.formats.measuring import (
    beeps_of,
    colours_of,
    flashes_of,
    frames_of,
    level_of,
    rendition_file,
    stream_of,
    sync_error_ms,
)
from tests.formats.picture import LUMA, RED
from tests.formats.table import PAGE, Found, forget, written
from tests.lab.clips import REAL_CLIPS
from tests.lab.missing import missing
from tests.worker.media_lab import MediaLab
from worker.output.playlists import parse_playlist
from worker.transcode.transcoder import Transcoded

SYNC_TOLERANCE_MS = 40
DURATION_TOLERANCE_SECONDS = 0.1
"""A video frame, two AAC frames, and the rounding of containers."""
QUIETEST = 9_000
"""Of 32768: the tone is at half of full scale, 3 dB less if only in the centre."""
COLOUR_TOLERANCE = 8
"""Of 255, after two lossy encoders."""
pytestmark = pytest.mark.spread
LIGHT = frozenset({"mp4-hdr10", "rotated-90"})
"""Those in every test run; the others take minutes together."""
WITH_MP4 = LIGHT | {"sound-late", "picture-late", "no-sound", "variable-rate", "sound-longer"}
TAGS = "bt709 tv yuv420p"


def _case(one: Input) -> object:
    marks = (pytest.mark.heavy, pytest.mark.corpus(KIND_OF[one.id]))
    return pytest.param(one, id=one.id, marks=() if one.id in LIGHT else marks)


@pytest.fixture
def lab(tmp_path: Path) -> MediaLab:
    (tmp_path / "work").mkdir()
    return MediaLab(tmp_path / "work")


@pytest.mark.parametrize("one", [_case(one) for one in INPUTS])
async def test_input_is_transcoded_as_documented(lab: MediaLab, tmp_path: Path, one: Input) -> None:
    if one.id.startswith("film-") and not REAL_CLIPS.is_dir():
        missing("the test film is not installed: make test-heavy")
    forget(one.id)
    if one.id in WITH_MP4:
        lab.profile = replace(lab.profile, downloads=("webm", "mp4"))
    source = tmp_path / one.file
    one.make(source)
    with source.open("rb") as beginning:
        assert foreign_type(beginning.read(SNIFF_BYTES)) is None

    result = await lab.transcode(source)

    files = {name: await rendition_file(lab, name, tmp_path) for name in _names(result)}
    top = files.get(next((name for name in reversed(files) if name.startswith("h264")), ""))
    webm = tmp_path / "download.webm"
    webm.write_bytes(await lab.output(keys.DOWNLOAD))
    shown = [(webm, webm)]
    if one.id in WITH_MP4:
        mp4 = tmp_path / "download.mp4"
        mp4.write_bytes(await lab.output(keys.DOWNLOAD_MP4))
        shown.append((mp4, mp4))
    sync = _sync(one, (top, files["aac"]), *shown) if one.synchronous and top else None
    error = await _duration_error(lab, one, result)
    assert abs(error) < DURATION_TOLERANCE_SECONDS
    assert sync is None or abs(sync) <= SYNC_TOLERANCE_MS
    assert [name for name in files if name.startswith("aac")] == ["aac", "aac-2"][: one.tracks]
    assert len(result.captions) == one.captions
    assert {keys.POSTER, keys.DOWNLOAD, keys.MASTER_PLAYLIST} <= set(await lab.paths())
    if one.size is not None:
        _check_picture(one, files)
        assert keys.STORYBOARD in await lab.paths()
    Found(
        id=one.id,
        what=one.what,
        tracks=f"{one.tracks}, {one.captions} captions" if one.captions else str(one.tracks),
        duration_error=f"{error * 1000:+.0f}",
        sync_error="" if sync is None else f"{sync:+.0f}",
        size=_shown_as(one, result),
    ).keep()


def _shown_as(one: Input, result: Transcoded) -> str:
    video = [rendition for rendition in result.renditions if rendition.kind == "video"]
    if not video:
        return "audio"
    turned = f", turned {one.rotation}°" if one.rotation else ""
    rungs = f", rungs {' '.join(result.qualities)}" if len(result.qualities) > 1 else ""
    return f"{video[-1].width}x{video[-1].height}{turned}{rungs}"


def _names(result: Transcoded) -> list[str]:
    return [rendition.name for rendition in result.renditions]


def _sync(one: Input, *shown: tuple[Path, Path]) -> float:
    """Return the largest delay of audio after video among all playable outputs."""
    errors = []
    for picture, sound in shown:
        flashes, beeps = flashes_of(picture), beeps_of(sound)
        assert len(flashes) == one.flashes, (picture, flashes)
        assert len(beeps) == one.beeps, (sound, beeps)
        assert level_of(sound) > QUIETEST
        error = sync_error_ms(flashes, beeps)
        assert error is not None
        errors.append(error)
    return max(errors, key=abs)


async def _duration_error(lab: MediaLab, one: Input, result: Transcoded) -> float:
    """Return the largest error among the renditions and the record."""
    playlists = [
        parse_playlist(path, await lab.output(path))
        for path in (f"hls/{name}.m3u8" for name in _names(result))
    ]
    seconds = [result.duration_seconds, *(playlist.duration_seconds for playlist in playlists)]
    return max((found - one.seconds for found in seconds), key=abs)


def _check_picture(one: Input, files: dict[str, Path]) -> None:
    for name in (
        next(name for name in reversed(files) if name.startswith(codec)) for codec in ("av1", "h264")
    ):
        stream = stream_of(files[name])
        assert (stream["width"], stream["height"]) == one.size, name
        assert stream.get("sample_aspect_ratio", "1:1") == "1:1", name
        assert colours_of(files[name]) == TAGS, name
        assert not [data for data in stream.get("side_data_list", ()) if "rotation" in data], name
        if one.fps is not None:
            assert stream["r_frame_rate"] == one.fps, name
        frame = next(frame for frame in frames_of(files[name]))
        if one.id.startswith("film-"):
            continue
        # corners: white at top left, black at bottom left, red at bottom right
        assert abs(frame.luma[0] - LUMA["white"]) < (40 if one.hdr else COLOUR_TOLERANCE), name
        assert abs(frame.luma[3] - LUMA["grey"]) < 40, name
        assert abs(frame.luma[12] - LUMA["black"]) < COLOUR_TOLERANCE, name
        assert frame.red[15] > 160, name
        if one.coloured:
            assert all(
                abs(found - wanted) <= COLOUR_TOLERANCE
                for found, wanted in zip(frame.colour(15), RED, strict=True)
            ), (name, frame.colour(15))


def test_table_lists_every_input() -> None:
    found = [(row.id, row.what) for row in written()]

    assert found == [(one.id, one.what) for one in INPUTS]
    assert len(found) >= 40


def test_table_shows_audio_in_sync_and_nothing_lost() -> None:
    for row in written():
        sync = re.fullmatch(r"([+-]\d+)", row.sync_error)
        assert sync is None or abs(int(sync[1])) <= SYNC_TOLERANCE_MS, row
        error = re.fullmatch(r"([+-]\d+)", row.duration_error)
        assert error is not None, row
        assert abs(int(error[1])) < DURATION_TOLERANCE_SECONDS * 1000, row
    assert f"`{TAGS}`" in PAGE.read_text()  # of every picture, as `_check_picture` asserts
