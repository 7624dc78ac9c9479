"""Language tags (BCP 47): validation, canonical spelling and display names."""

from babel import Locale, UnknownLocaleError
from langcodes import standardize_tag, tag_is_valid

UNDETERMINED = "und"
MAX_TAG_LENGTH = 35
"""The length that implementations must support (RFC 5646 section 4.4.1)."""


def standard_language(tag: str) -> str | None:
    """Return the canonical spelling of a tag (`en-US` for `EN_us`, `de` for `deu`), or None if it is invalid.

    A tag is valid if each of its parts is in IANA's registry. The result contains only ASCII letters, digits
    and `-`, and begins with a letter.
    """
    if len(tag) > MAX_TAG_LENGTH or not tag_is_valid(tag):
        return None
    return standardize_tag(tag)


def language_name(tag: str) -> str:
    """Return the language's name in that language, else in English, else the tag itself.

    `tag` must be canonical.
    """
    name = _own_name(tag) or Locale("en").languages.get(tag.partition("-")[0]) or tag
    return name[:1].upper() + name[1:]


def _own_name(tag: str) -> str | None:
    if tag == UNDETERMINED:
        return None  # Babel would guess a likely language
    try:
        return Locale.parse(tag, sep="-").get_display_name()
    except (UnknownLocaleError, ValueError):
        return None
