"""Which streams of an MPEG-TS belong together, and whether they are the same from beginning to end. Pure."""

import re

from worker.source.ffprobe_schema import Program, Report, Stream

_MPEG_VERSION = re.compile(r"^(mp|mpeg)[123]")
"""One decoder takes them all, and a few packets may not tell which it is."""


def of_one_programme(report: Report) -> Report:
    """Return the report with the streams of one programme, the one with the largest picture."""
    programmes = [one for one in report.programs if any(stream.is_media for stream in one.streams)]
    if len(programmes) < 2:
        return report

    def largest_picture(programme: Program) -> int:
        return max(stream.width * stream.height for stream in programme.streams)

    chosen = max(programmes, key=largest_picture)
    kept = {stream.index for stream in chosen.streams}
    return report.model_copy(
        update={"streams": tuple(stream for stream in report.streams if stream.index in kept)}
    )


def changes_midway(beginning: Report, end: Report) -> bool:
    """Whether `end`, which is about the last part of the file, lacks a picture or the first sound.

    Then the file was joined from several recordings, and a stream that stops midway continues as another. The
    other tracks of a broadcast come and go.
    """
    at_the_end = {_identity(stream) for stream in end.streams if stream.is_media and stream.codec_name}
    if not at_the_end:
        return False
    pictures = [stream for stream in beginning.streams if stream.codec_type == "video"]
    sound = [stream for stream in of_one_programme(beginning).streams if stream.codec_type == "audio"]
    lacking = {_identity(stream) for stream in (*pictures, *sound[:1])} - at_the_end
    if _has_tables(beginning) and _has_tables(end):
        return bool(lacking)
    # segmenters may write the tables only once: without them codecs are guessed, and silent streams unknown
    ids_at_the_end = {pid for pid, _ in at_the_end}
    missing = {pid for pid, _ in lacking} - ids_at_the_end
    return bool(missing) and not ids_at_the_end <= {stream.id for stream in beginning.streams}


def _has_tables(report: Report) -> bool:
    return any(programme.streams for programme in report.programs)


def _identity(stream: Stream) -> tuple[str, str]:
    """Return the PID and the kind of codec."""
    return stream.id, _MPEG_VERSION.sub(r"\1", stream.codec_name)
