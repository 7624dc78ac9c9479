"""Uploaded captions are converted to WebVTT that all players read alike, or rejected with a reason."""

import time
from contextlib import suppress

import pytest

from backend.core.errors import EmptyUpload, InvalidCaptions
from backend.web.caption_conversion import MAX_CAPTIONS_BYTES, to_webvtt

SRT = "1\n00:00:01,000 --> 00:00:02,500\n"
VTT = "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n"


@pytest.mark.parametrize(
    ("srt", "vtt"),
    [
        ("Hello", "Hello"),
        ("<i>two</i>\n<b>lines</b>", "<i>two</i>\n<b>lines</b>"),
        ("Q&A: 1 < 2 --> 3", "Q&amp;A: 1 &lt; 2 --&gt; 3"),
        ('<font color="#ff0000">red</font>', "red"),
        ("an\n\n\nempty line", "an\nempty line"),
    ],
)
def test_converts_srt_text(srt: str, vtt: str) -> None:
    assert to_webvtt((SRT + srt).encode()).decode() == f"{VTT}{vtt}\n"


def test_keeps_cues_at_the_top() -> None:
    at_the_top = to_webvtt((SRT + r"{\an8}Above").encode()).decode()

    assert "00:00:02.500 line:0\nAbove\n" in at_the_top


@pytest.mark.parametrize(
    "body",
    [
        (SRT + "Grüße").encode(),
        (SRT + "Grüße").encode("utf-8-sig"),
        (SRT + "Grüße").encode("utf-16"),
        ("\r\n\r\n" + SRT.replace("\n", "\r\n") + "Grüße\r\n").encode(),
        SRT.removeprefix("1\n").encode() + "Grüße".encode(),
        f"{VTT}Grüße".encode(),
        VTT.replace("\n", "\r").encode("utf-8-sig") + "Grüße".encode(),
        f"{VTT}Grüße\n\n00:xx --> 00:yy\nunreadable".encode(),
    ],
    ids=["srt", "bom", "utf-16", "windows lines", "no numbers", "vtt", "mac lines", "a broken cue"],
)
def test_reads_files_from_common_editors(body: bytes) -> None:
    assert to_webvtt(body).decode() == f"{VTT}Grüße\n"


def test_webvtt_keeps_its_styles_regions_notes_and_settings() -> None:
    written = (
        "WEBVTT\n\nREGION\nid:low\n\nSTYLE\n::cue(b) { color: red }\n\nNOTE by hand\n\n"
        "first\n00:00:01.000 --> 00:00:02.000 align:left region:low\n<v Ann><b>Hello</b> &amp; bye\n"
    )
    assert to_webvtt(written.encode()).decode() == written


def test_removes_the_timestamp_map_of_another_stream() -> None:
    written = VTT.replace("WEBVTT\n", "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n")

    assert to_webvtt(f"{written}Hello".encode()).decode() == f"{VTT}Hello\n"


@pytest.mark.parametrize("body", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_rejects_blank_files(body: bytes) -> None:
    with pytest.raises(EmptyUpload):
        to_webvtt(body)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"WEBVTT\n",
        b"WEBVTTX\n\n00:01.000 --> 00:02.000\nHello",
        b"[Script Info]\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,Hello",
        b"<?xml version='1.0'?><tt xmlns='http://www.w3.org/ns/ttml'/>",
        b"\x1a\x45\xdf\xa3" + bytes(60),
        b"\x00\x00\x00\x18ftypmp42" + bytes(60),
        SRT.encode() + b"text\0",
        f"{SRT}Grüße".encode("latin-1"),
        SRT.encode(),
        SRT.encode("utf-16")[:-1],
    ],
    ids=[
        "prose",
        "no cue",
        "signature",
        "ass",
        "ttml",
        "matroska",
        "mp4",
        "nul",
        "latin-1",
        "no text",
        "half",
    ],
)
def test_rejects_files_that_are_not_captions(body: bytes) -> None:
    with pytest.raises(InvalidCaptions):
        to_webvtt(body)


@pytest.mark.parametrize(
    "piece", ["<", "\n", "{\\an", "<font ", "-->", "1\n", "&", "NOTE\n\n", "00:00.000 --> 00:01.000\n"]
)
@pytest.mark.parametrize("begin", [SRT, VTT])
def test_conversion_time_is_proportional_to_file_size(begin: str, piece: str) -> None:
    def seconds(size: int) -> float:
        body = (begin + piece * (size // len(piece))).encode()
        began = time.process_time()
        with suppress(InvalidCaptions):
            to_webvtt(body)
        return time.process_time() - began

    little = MAX_CAPTIONS_BYTES // 64
    assert seconds(8 * little) < 0.1 + 24 * seconds(little)
