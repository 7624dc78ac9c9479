"""Stores the files that the encoder wrote to the attempt's directory: poster, storyboard, captions."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from backend.core import keys
from backend.core.records import CaptionTrack
from worker.encode.ffmpeg_arguments import MAX_CAPTION_BYTES, POSTER_NAME, caption_name, sheet_file
from worker.encode.ladder import EncodingPlan
from worker.encode.storyboard import Storyboard, sheet_name
from worker.output.webvtt import webvtt_of

Put = Callable[[str, bytes], Awaitable[None]]


async def store_side_files(
    put: Put, directory: Path, plan: EncodingPlan, storyboard: Storyboard | None, duration_seconds: float
) -> tuple[CaptionTrack, ...]:
    """Return the caption tracks that have a cue.

    Raises:
        StoreError.
    """
    poster = directory / POSTER_NAME
    if _has_content(poster):
        await put(keys.POSTER, poster.read_bytes())
    if storyboard is not None:
        await _store_storyboard(put, directory, storyboard, duration_seconds)
    captions: list[CaptionTrack] = []
    for stream in plan.captions:
        path = directory / caption_name(stream)
        body = path.read_bytes()[:MAX_CAPTION_BYTES] if path.exists() else b""
        text = await asyncio.to_thread(webvtt_of, body, stream.source, duration_seconds)
        if text is not None:
            await put(stream.track.path, text.encode())
            captions.append(stream.track)
    return tuple(captions)


async def _store_storyboard(
    put: Put, directory: Path, storyboard: Storyboard, duration_seconds: float
) -> None:
    folder = keys.STORYBOARD.rpartition("/")[0]
    sheets = 0
    while _has_content(sheet := directory / sheet_file(sheets + 1)):
        sheets += 1
        await put(f"{folder}/{sheet_name(sheets)}", sheet.read_bytes())
    if sheets:
        await put(keys.STORYBOARD, storyboard.webvtt(duration_seconds, sheets).encode())


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
