"""Chooses which streams of a file are used: one picture, and every audio track that can be decoded. Pure.

A stream that is not used decides nothing. But a picture, or sound, is never dropped altogether because its
codec is unknown here: the file is rejected instead, and kept.
"""

from collections.abc import Sequence

from backend.core.errors import SourceRejected
from worker.sandbox.guards import CODECS
from worker.source.ffprobe_schema import FILE_END_ONLY_CONTAINERS, Report, Stream

NOT_A_VIDEO = "This file is not a video: it has no video or audio stream."
MAX_AUDIO_TRACKS = 8
"""Every track takes two encoders."""


def unsupported_codec(what: str, codec: str) -> SourceRejected:
    """`what` is "the picture" or "the audio"."""
    return SourceRejected(
        f"In this file, {what} cannot be decoded (codec: {codec or 'unknown'}). "
        "Convert the file to MP4 with H.264 and AAC, for example with HandBrake, and upload that.",
        code="unsupported_codec",
    )


def choose_picture(streams: Sequence[Stream]) -> Stream | None:
    """Return the default picture, else the largest one.

    Raises: SourceRejected: there are only pictures that cannot be decoded, or smaller ones than those.
    """
    pictures = [stream for stream in streams if stream.is_picture]
    if not pictures:
        return None
    usable = [stream for stream in pictures if _is_usable(stream)]
    lost = max((stream.area for stream in pictures if stream not in usable), default=0)
    chosen = max(usable, key=lambda one: (one.disposition.default, not one.is_still, one.area), default=None)
    # not a preview instead of the film
    if chosen is None or chosen.area < lost:
        raise unsupported_codec("the picture", next(one for one in pictures if one not in usable).codec_words)
    return chosen


def choose_audio(streams: Sequence[Stream]) -> list[Stream]:
    """Return the audio tracks to use. Raises: SourceRejected: none of them can be decoded."""
    tracks = [stream for stream in streams if stream.codec_type == "audio"]
    usable = [stream for stream in tracks if _is_usable(stream)]
    if tracks and not usable:
        raise unsupported_codec("the audio", tracks[0].codec_words)
    return usable[:MAX_AUDIO_TRACKS]


def unseen_streams(report: Report) -> list[int]:
    """Return pictures and tracks that the file announces, but of which ffprobe has seen nothing yet."""
    guesses = report.container in FILE_END_ONLY_CONTAINERS
    return [
        stream.index
        for stream in report.streams
        if (stream.is_picture or stream.codec_type == "audio")
        and stream.codec_name in CODECS
        and not (stream.is_described and (stream.duration is None or not guesses))
    ]


def _is_usable(stream: Stream) -> bool:
    return stream.codec_name in CODECS and stream.is_described
