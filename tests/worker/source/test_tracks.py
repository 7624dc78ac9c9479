"""A film with two languages, subtitles, chapters and a location: what is offered, and what is removed."""

import asyncio
import json
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from backend.core import keys
from backend.core.store.interface import StoredObject
from tests.formats.inputs import INPUTS
from tests.worker.media_lab import RUN, SHORT_SEGMENTS, TOOLS, MediaLab, ffmpeg
from tests.worker.output.webm_file import index_of
from worker.output.playlists import MPD
from worker.output.sink import headers_of
from worker.transcode.transcoder import Transcoded


@dataclass(frozen=True, slots=True)
class Film:
    """What the job returned and stored."""

    result: Transcoded
    stored: dict[str, StoredObject]

    def text(self, path: str) -> str:
        return self.stored[path].body.decode()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    directory = tmp_path_factory.mktemp("film")
    one = next(one for one in INPUTS if one.id == "mkv-languages")
    one.make(directory / one.file)
    (directory / "work").mkdir()
    profile = replace(SHORT_SEGMENTS, downloads=("webm", "mp4"))
    return asyncio.run(_transcoded(MediaLab(directory / "work", profile), directory / one.file))


async def _transcoded(lab: MediaLab, source: Path) -> Film:
    result = await lab.transcode(source)
    prefix = keys.run_prefix(lab.video_id, RUN)
    return Film(result, {path: await lab.video.get(prefix + path) for path in await lab.paths()})


def test_each_language_is_a_track_in_one_group_with_one_default(film: Film) -> None:
    master = film.text(keys.MASTER_PLAYLIST)

    tracks = [line for line in master.splitlines() if line.startswith("#EXT-X-MEDIA:TYPE=AUDIO")]
    assert [re.findall(r'(?:LANGUAGE|NAME|URI|GROUP-ID)="([^"]*)"', line) for line in tracks] == [
        ["aac.m3u8", "audio", "en", "English"],
        ["aac-2.m3u8", "audio", "de", "Deutsch"],
    ]
    assert ["DEFAULT=YES" in line for line in tracks] == [True, False]
    variants = [line for line in master.splitlines() if line.startswith("#EXT-X-STREAM-INF")]
    assert len(variants) == 2
    for line in variants:
        assert 'AUDIO="audio"' in line
        assert "RESOLUTION=320x180" in line
        assert "FRAME-RATE=25.000" in line
        assert re.search(r'CODECS="(av01|avc1)\.[^"]*,mp4a\.40\.2"', line)
        assert "VIDEO-RANGE=SDR" in line


def test_dash_lists_the_languages_too(film: Film) -> None:
    manifest = ElementTree.fromstring(film.stored[keys.DASH_MANIFEST].body)

    sets = [one for one in manifest.iter(f"{MPD}AdaptationSet") if one.get("contentType") == "audio"]
    assert [(one.get("lang"), one.findtext(f"{MPD}Label")) for one in sets] == [
        ("en", "English"),
        ("de", "Deutsch"),
    ]


def test_text_subtitles_become_webvtt(film: Film) -> None:
    assert [(track.path, track.language) for track in film.result.captions] == [
        ("captions/1-fr.vtt", "fr"),
        ("captions/2-es.vtt", "es"),
    ]
    for track in film.result.captions:
        text = film.text(track.path)
        assert text.startswith("WEBVTT\n")
        assert "00:00.500 --> 00:01.500" in text
        assert "Good <i>morning</i>." in text
        assert headers_of(track.path).content_type == "text/vtt; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "codecs", "languages"),
    [
        (keys.DOWNLOAD, ["av1", "opus", "opus"], [None, "eng", "ger"]),
        (keys.DOWNLOAD_MP4, ["h264", "aac", "aac"], ["und", "eng", "deu"]),
    ],
)
def test_downloads_contain_every_language_and_the_chapters(
    film: Film, tmp_path: Path, path: str, codecs: list[str], languages: list[str | None]
) -> None:
    download = tmp_path / path
    download.write_bytes(film.stored[path].body)

    shown = ("-show_streams", "-show_chapters", "-of", "json")
    done = subprocess.run(
        [TOOLS.ffprobe, "-v", "error", *shown, download], check=True, capture_output=True, timeout=60
    )

    found = json.loads(done.stdout)
    assert [stream["codec_name"] for stream in found["streams"]] == codecs
    assert [stream.get("tags", {}).get("language") for stream in found["streams"]] == languages
    assert [stream["disposition"]["default"] for stream in found["streams"]][1:] == [1, 0]
    assert [one["tags"]["title"] for one in found["chapters"]] == ["One", "Two"]
    assert [one.title for one in film.result.chapters] == ["One", "Two"]


def test_webm_index_lists_every_keyframe(film: Film) -> None:
    index = index_of(film.stored[keys.DOWNLOAD].body)

    keyframes = [
        (time, position) for position, blocks in index.clusters.items() for time, is_key in blocks if is_key
    ]
    assert index.cues == keyframes
    assert len(keyframes) > 1


@pytest.mark.parametrize("path", [keys.DOWNLOAD, keys.DOWNLOAD_MP4])
def test_downloads_decode_without_errors(film: Film, tmp_path: Path, path: str) -> None:
    download = tmp_path / path
    download.write_bytes(film.stored[path].body)

    ffmpeg("-xerror", "-i", str(download), "-map", "0", "-f", "null", "-")


def test_the_mp4_has_its_index_first_and_is_served_as_one(film: Film) -> None:
    mp4 = film.stored[keys.DOWNLOAD_MP4].body

    assert mp4.index(b"moov") < mp4.index(b"mdat")
    assert headers_of(keys.DOWNLOAD_MP4).content_type == "video/mp4"


def test_record_describes_the_source_file(film: Film) -> None:
    source = film.result.source

    assert source is not None
    assert source.video is not None
    assert (source.container, source.video.codec, source.video.fps) == ("matroska", "h264", 25)
    assert [(track.codec, track.language) for track in source.audio] == [("aac", "en"), ("aac", "de")]


def test_no_output_reveals_where_it_was_filmed(film: Film) -> None:
    assert [path for path, stored in film.stored.items() if b"+52.52" in stored.body] == []
