"""What commands print: durations, sizes, tables in narrow terminals, and text that must not control one."""

import json
from datetime import UTC, datetime

import pytest

from backend.core.ids import new_id
from backend.core.records import Status
from backend.core.sweep.retention import CleanReport, Reduction
from vodbucket.client.responses import VideoWithStatus
from vodbucket.output.messages import print_error, print_json, print_line
from vodbucket.output.tables import duration, show_clean, show_video, show_videos, size

HOSTILE = "a\x1b[31m\x9b2J\r\n\u202egnp\x00[bold]é"
ESCAPED = "a\\x1b[31m\\x9b2J\\r\\n\\u202egnp\\x00[bold]é"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3 * 86_400 + 4 * 3600 + 59, "3 d 4 h"),
        (86_400 + 30, "1 d"),
    ],
)
def test_duration_has_at_most_two_units(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@pytest.mark.parametrize(
    ("size_bytes", "written"),
    [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 kB"), (5 * 10**9, "5.0 GB"), (3 * 10**12, "3.0 TB")],
)
def test_size_has_decimal_units(size_bytes: int, written: str) -> None:
    assert size(size_bytes) == written


def test_a_clean_names_what_goes_and_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    video_id = new_id()
    report = CleanReport(7_000_000, 1_000_000, (Reduction(video_id, 8 * 86_400, 5_000_000),), dry_run=True)

    show_clean(report)

    *_, row, _, last = capsys.readouterr().out.splitlines()
    assert row.split() == ["8", "d", "5.0", "MB", video_id]
    assert last == "5.0 MB of 7.0 MB would be removed, 1.0 MB more are being made again"


def _video(title: str) -> VideoWithStatus:
    video_id, now = new_id(), datetime(2026, 3, 1, 12, tzinfo=UTC)
    status = Status.queued(video_id, now, video_id)
    return VideoWithStatus(
        id=video_id, title=title, filename="a.mp4", size_bytes=3_000_000, created_at=now, status=status
    )


def test_a_list_in_80_columns_has_whole_ids_and_titles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich believe in a terminal
    monkeypatch.setenv("COLUMNS", "80")
    video = _video("Harbour, six o'clock")
    show_videos([video])
    lines = capsys.readouterr().out.splitlines()
    assert any(video.id in line for line in lines)
    assert any(video.title in line for line in lines)


def test_nothing_printed_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    video = _video(HOSTILE)
    show_videos([video])
    show_video(video, "")
    print_line(HOSTILE)
    print_error(HOSTILE)
    printed = capsys.readouterr()
    assert printed.out.count(ESCAPED) == 3
    assert printed.err == f"vodbucket: {ESCAPED}\n"
    assert all(char.isprintable() or char == "\n" for char in printed.out)


def test_json_has_the_text_and_nothing_that_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([HOSTILE])
    printed = capsys.readouterr().out
    assert json.loads(printed) == [HOSTILE]
    assert all(char.isprintable() or char == "\n" for char in printed)
