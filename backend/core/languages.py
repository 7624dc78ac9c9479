"""Language tags (BCP 47) as people and media files write them: checked, in one spelling each, with a name."""

from babel import Locale, UnknownLocaleError
from langcodes import standardize_tag, tag_is_valid

UNDETERMINED = "und"
MAX_TAG_LENGTH = 35
"""Of a tag that a process must be able to hold (RFC 5646 section 4.4.1)."""


def standard_language(tag: str) -> str | None:
    """Return a tag in its canonical spelling (`EN_us` is `en-US`, `deu` is `de`), None when it is not valid.

    A tag is valid when each of its parts is in IANA's registry. What is returned holds only ASCII letters,
    digits and `-`, and begins with a letter.
    """
    if len(tag) > MAX_TAG_LENGTH or not tag_is_valid(tag):
        return None
    return standardize_tag(tag)


def language_name(tag: str) -> str:
    """Return the language's name in the language itself, else in English, else the tag.

    `tag` is a canonical one.
    """
    name = _own_name(tag) or Locale("en").languages.get(tag.partition("-")[0]) or tag
    return name[:1].upper() + name[1:]


def _own_name(tag: str) -> str | None:
    if tag == UNDETERMINED:
        return None  # Babel takes it for the language that most people speak
    try:
        return Locale.parse(tag, sep="-").get_display_name()
    except (UnknownLocaleError, ValueError):
        return None
