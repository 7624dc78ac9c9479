"""Chapters in the WebM: other programs read them, and nothing else of the file changes."""

import json
import subprocess
from pathlib import Path

import pytest

from backend.core.errors import AttemptFailed
from backend.core.records import Chapter
from tests.worker.media_lab import TOOLS, ffmpeg, picture
from worker.chapters import add_chapters
from worker.verify import cues_come_first

CHAPTERS = (
    Chapter(start_seconds=0, end_seconds=0.25, title="Anfang"),
    Chapter(start_seconds=0.25, end_seconds=1, title="Größe & <Ende>"),
)


@pytest.fixture
def webm(tmp_path: Path) -> Path:
    path = tmp_path / "film.webm"
    ffmpeg(*picture(seconds=1), "-c:v", "libvpx-vp9", "-cpu-used", "8", "-cues_to_front", "1", str(path))
    return path


def asked(path: Path, *shown: str) -> dict[str, list[dict[str, object]]]:
    command = [TOOLS.ffprobe, "-v", "warning", *shown, "-of", "json", path]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert done.stderr == b""
    found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return found


def test_chapters_are_found_by_who_reads_the_file(webm: Path) -> None:
    packets = asked(webm, "-show_packets")

    add_chapters(webm, CHAPTERS)

    found = asked(webm, "-show_chapters")["chapters"]
    assert [(one["start_time"], one["end_time"], one["tags"]) for one in found] == [
        ("0.000000", "0.250000", {"title": "Anfang"}),
        ("0.250000", "1.000000", {"title": "Größe & <Ende>"}),
    ]
    assert asked(webm, "-show_packets") == packets
    assert cues_come_first(webm.read_bytes())


def test_a_file_without_room_is_not_touched(webm: Path) -> None:
    body = webm.read_bytes()
    void = body.index(b"\xec")
    webm.write_bytes(body[:void] + b"\xbf" + body[void + 1 :])

    with pytest.raises(AttemptFailed, match="no room"):
        add_chapters(webm, CHAPTERS)

    assert webm.read_bytes() == body[:void] + b"\xbf" + body[void + 1 :]
