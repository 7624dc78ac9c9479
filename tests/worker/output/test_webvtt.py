"""Subtitles become WebVTT that shows their text, all of it and nothing else."""

import pytest

from worker.output.webvtt import webvtt_of
from worker.source.media import SubtitleInfo

TIMES = "00:00:00,500 --> 00:00:01,250"


def of_srt(text: str, times: str = TIMES, duration: float = 10.0) -> str | None:
    return webvtt_of(f"1\n{times}\n{text}\n\n".encode(), SubtitleInfo(0, "subrip"), duration)


def of_ass(text: str, codec: str = "ass") -> str | None:
    event = f"Dialogue: 0,0:00:00.50,0:00:01.25,Default,,0,0,0,,{text}\n"
    return webvtt_of(f"[Events]\nFormat: Layer\n{event}".encode(), SubtitleInfo(0, codec), 10.0)


def cue(text: str) -> str:
    return f"WEBVTT\n\n00:00.500 --> 00:01.250\n{text}\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1 < 2 & 3 > 2", "1 &lt; 2 &amp; 3 &gt; 2"),
        ("I <3 you", "I &lt;3 you"),
        ("a <b & c> d", "a &lt;b &amp; c&gt; d"),
        ("R&amp;D &lt;x&gt;", "R&amp;D &lt;x&gt;"),
        ("<i>it</i> <B>bold</B>", "<i>it</i> <b>bold</b>"),
        ('<font color="red">red</font>', "red"),
        ("{\\an8}top {left}", "top {left}"),
        ("one\n\n\ntwo", "one\ntwo"),
        ("--> not a cue", "--&gt; not a cue"),
        ("<i>\nnot closed", "<i>not closed</i>"),
    ],
)
def test_srt_text_is_shown_as_it_is(text: str, shown: str) -> None:
    assert of_srt(text) == cue(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1 < 2 & 3", "1 &lt; 2 &amp; 3"),
        ("{\\an7\\pos(0,0)\\p1}m 0 0 l 100 0{\\p0}words", "words"),
        ("{\\p1}m 0 0 l 9 9{\\p0\\i1}it{\\i0} no", "<i>it</i> no"),
        ("{\\k20}Ka{\\k30}ra{\\k40}oke", "Karaoke"),
        ("{\\b700}a{\\r}b{\\blur2\\bord3}c", "<b>a</b>bc"),
        ("one\\Ntwo\\hthree", "one\ntwo\u00a0three"),
        ("{a comment}words", "words"),
        ("\\{{}y} \\\u2060N", "{y} \\N"),
    ],
)
def test_ass_shows_text_without_drawings_and_commands(text: str, shown: str) -> None:
    assert of_ass(text) == cue(shown)


def test_braces_are_text_where_they_are_no_commands() -> None:
    assert of_ass("a {brace} {\\i1}b", "mov_text") == cue("a {brace} <i>b</i>")


def test_a_drawing_alone_is_no_cue() -> None:
    assert of_ass("{\\p1}m 0 0 l 100 0 100 100{\\p0}") is None


def test_cues_beyond_the_end_are_cut() -> None:
    assert of_srt("late", "00:00:30,000 --> 00:00:40,000") is None
    assert of_srt("long", "00:00:00,500 --> 00:00:40,000", 1.25) == cue("long")
    assert of_srt("never", "00:00:02,000 --> 00:00:01,000") is None


def test_shows_hours_and_sorts_by_time() -> None:
    body = (
        b"1\n01:00:00,000 --> 01:00:01,000\nlast\n\n2\n00:00:01,000 --> 00:00:02,000\n12\n34\n\n"
        b"3\n00:00:02,000 --> 00:00:03,000 X1:10\nplaced\n"
    )

    assert webvtt_of(body, SubtitleInfo(0, "subrip"), 7200.0) == (
        "WEBVTT\n\n00:01.000 --> 00:02.000\n12\n34\n\n00:02.000 --> 00:03.000\nplaced\n\n"
        "01:00:00.000 --> 01:00:01.000\nlast\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_reads_legacy_encodings(encoding: str) -> None:
    body = f"1\r\n{TIMES}\r\nSchöne Grüße.\r\n".encode(encoding)

    assert webvtt_of(body, SubtitleInfo(0, "subrip"), 10.0) == cue("Schöne Grüße.")


@pytest.mark.parametrize("digits", [400, 5000])
def test_survives_numbers_that_are_too_large(digits: int) -> None:
    huge = "9" * digits

    assert of_srt(f"text\n{huge}:00:00,000 --> {huge}:00:01,000\nmore") is not None
    assert of_ass(f"{{\\b{huge}}}text") is not None


def test_takes_linear_time_for_what_is_never_closed() -> None:
    """With quadratic time this would take minutes."""
    times = 100_000

    assert of_ass("{" * times) == cue("{" * times)
    assert of_srt("{\\" * times) == cue("{\\" * times)
    assert of_ass("x" + "\nDialogue:" + " " * times + "\nDialogue: " * times) == cue("x")
