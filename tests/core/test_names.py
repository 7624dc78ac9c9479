"""Titles and file names: what remains can be seen, written in any script, and put into XML."""

import sys
from xml.etree import ElementTree

import pytest

from backend.core.names import clean_filename, clean_text

INVISIBLE = (
    *("\u200b", "\ufeff", "\u2060", "\u00ad", "\u180e", "\u202e", "\u2066\u2069", "\u200e", "\u3164"),
    *("\u2800", "\uffa0", "\u115f", "\u034f", "\ufe0f", "\u200d", "\u3000 \u00a0", "\u2028", "\ufffe"),
    *("\ud800", "\x00", "\x1b\x9b", "\t\n", "\U0001ffff", "\ufdd0", "\U000e0041"),
)
NAMES = (
    *("Größe 1", "日本語", "עברית", "العربية \u06dd", "नमस्ते", "می\u200cخواهم", "👩\u200d👧", "❤\ufe0f"),
    *("e\u0301", "\uf8ff"),
)


@pytest.mark.parametrize("invisible", INVISIBLE, ids=ascii)
def test_text_without_anything_visible_is_empty(invisible: str) -> None:
    assert clean_text(invisible * 3) == ""
    assert clean_text(f"a{invisible}b").startswith("a")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_script_and_emoji_stays_as_it_is(name: str) -> None:
    assert clean_text(name) == name


def test_whatever_remains_is_allowed_in_xml() -> None:
    for start in range(0, sys.maxunicode + 1, 200):
        text = (
            clean_text("".join(map(chr, range(start, min(start + 200, sys.maxunicode + 1)))))
            .replace("&", "")
            .replace("<", "")
        )
        assert (ElementTree.fromstring(f"<a>{text}</a>").text or "") == text


def test_long_names_are_cut_and_folders_dropped() -> None:
    assert clean_text("x" * 400) == "x" * 300
    assert clean_filename("C:\\videos\\a\u202eb.mp4") == "ab.mp4"
    assert clean_filename("folder/\u200b") == "video"
