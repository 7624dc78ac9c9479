"""The caption tracks that viewers can choose: uploaded ones and those from the source, with unique labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from backend.core import keys
from backend.core.languages import UNDETERMINED, language_name, standard_language
from backend.core.names import clean_text
from backend.core.records import MAX_LABEL_LENGTH, Captions, CaptionTrack


class Source(StrEnum):
    UPLOAD = "upload"
    """Uploaded separately."""
    VIDEO = "video"
    """Contained in the video file."""


@dataclass(frozen=True, slots=True)
class Track:
    """A caption track. `path` is the path of its WebVTT file below the grant."""

    path: str
    language: str
    label: str
    forced: bool
    source: Source


def tracks_of(uploaded: Iterable[Captions], extracted: Iterable[CaptionTrack]) -> tuple[Track, ...]:
    """Return the tracks, uploaded ones first.

    Labels are unique, because players show nothing else. Languages are normalized, because a source may
    contain any text.
    """
    taken: set[str] = set()
    tracks = []
    for captions in uploaded:
        label = _label(captions.label, captions.language, taken)
        path = keys.captions_path(captions.language, captions.token)
        tracks.append(Track(path, captions.language, label, forced=False, source=Source.UPLOAD))
    for track in extracted:
        language = standard_language(track.language) or UNDETERMINED
        label = _label(track.label, language, taken)
        tracks.append(Track(track.path, language, label, track.forced, Source.VIDEO))
    return tuple(tracks)


def _label(wanted: str | None, language: str, taken: set[str]) -> str:
    """Return a label that is not in `taken`, and add it."""
    name = clean_text(wanted)[:MAX_LABEL_LENGTH] or language_name(language)
    label, number = name, 2
    while label in taken:
        label, number = f"{name} ({number})", number + 1
    taken.add(label)
    return label
