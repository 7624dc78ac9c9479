"""Language tags have one spelling for each language, and invalid tags are rejected."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.languages import language_name, standard_language


@pytest.mark.parametrize(
    ("tag", "standard"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("eng", "en"),
        ("en_us", "en-US"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("iw", "he"),
        ("i-klingon", "tlh"),
        ("und", "und"),
    ],
)
def test_each_language_has_one_spelling(tag: str, standard: str) -> None:
    assert standard_language(tag) == standard


@pytest.mark.parametrize(
    "tag",
    ["", "a", "xx", "english", "en-", "en-AB", "../en", "en/../de", "en.json", "ёё", "en\n", "en-" * 30],
)
def test_rejects_invalid_language_tags(tag: str) -> None:
    assert standard_language(tag) is None


@given(st.one_of(st.text(), st.from_regex(r"[a-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,4}", fullmatch=True)))
def test_standard_tags_are_stable_and_safe_in_keys(tag: str) -> None:
    standard = standard_language(tag)
    if standard is not None:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", standard)
        assert standard_language(standard) == standard


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("en", "English"),
        ("de", "Deutsch"),
        ("de-AT", "Deutsch (Österreich)"),
        ("sr-Latn", "Srpski (latinica)"),
        ("pt-BR", "Português (Brasil)"),
        ("tlh", "Klingon"),
        ("und", "Unknown language"),
        ("qaa", "Qaa"),
        ("x-ours", "X-ours"),
    ],
)
def test_languages_are_named_in_their_own_language(tag: str, name: str) -> None:
    assert language_name(tag) == name
