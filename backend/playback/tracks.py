"""The captions that a viewer can choose from, uploaded ones and the source's, each with a name of its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from backend.core import keys
from backend.core.languages import UNDETERMINED, language_name, standard_language
from backend.core.names import clean_text
from backend.core.records import MAX_LABEL_LENGTH, Captions, CaptionTrack


class Source(StrEnum):
    UPLOAD = "upload"
    """Somebody uploaded them to the video."""
    VIDEO = "video"
    """They were in the video's file."""


@dataclass(frozen=True, slots=True)
class Track:
    """`path` is that of the WebVTT, below the grant."""

    path: str
    language: str
    label: str
    forced: bool
    source: Source


def tracks_of(uploaded: Iterable[Captions], extracted: Iterable[CaptionTrack]) -> tuple[Track, ...]:
    """Return the tracks, uploaded ones first.

    Labels differ, as players show nothing else; languages are canonical. The source's own may say anything.
    """
    taken: set[str] = set()
    tracks = []
    for captions in uploaded:
        label = _label(captions.label, captions.language, taken)
        path = keys.captions_path(captions.language)
        tracks.append(Track(path, captions.language, label, forced=False, source=Source.UPLOAD))
    for track in extracted:
        language = standard_language(track.language) or UNDETERMINED
        label = _label(track.label, language, taken)
        tracks.append(Track(track.path, language, label, track.forced, Source.VIDEO))
    return tuple(tracks)


def _label(wanted: str | None, language: str, taken: set[str]) -> str:
    """Choose a label that is not taken, and take it."""
    name = clean_text(wanted)[:MAX_LABEL_LENGTH] or language_name(language)
    label, number = name, 2
    while label in taken:
        label, number = f"{name} ({number})", number + 1
    taken.add(label)
    return label
