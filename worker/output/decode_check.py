"""Reads the first and last stored segment of every rendition: their sizes alone prove nothing.

Each must be whole, and its first seconds are decoded: only that finds a driver that writes garbage.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from backend.core.concurrency import gather_or_cancel
from backend.core.errors import AttemptFailed, StoreError
from backend.core.store.interface import Store
from worker.output.fragments import FragmentError, FragmentReader
from worker.sandbox.background_errors import BackgroundErrors
from worker.sandbox.loopback import serve
from worker.sandbox.process import run
from worker.sandbox.tools import Tools

DECODED_SECONDS = 4
"""Of each segment. Where a rung is copied, they last up to three times as long."""
MAX_DECODERS = 2
"""At a time. Each keeps some frames of its rendition in memory."""
SMALL_PIXELS = 640 * 360
"""Of the largest picture. Up to this size one process decodes all: starting it takes the most."""


async def check_decoding(
    tools: Tools,
    store: Store,
    prefix: str,
    edges: Sequence[tuple[str, ...]],
    touch: Callable[[], None],
    largest_pixels: int | None = None,
) -> None:
    """Read from the store: each of `edges` is an init segment and the segments to decode with it.

    `touch` is called after each.

    Raises:
        AttemptFailed: one of them is not whole, cannot be decoded, or is empty.
        StoreError: one cannot be read.
    """
    errors = BackgroundErrors()
    inits: dict[str, bytes] = {}

    async def answer(request: web.BaseRequest, path: str) -> web.StreamResponse:
        number, _, segment = path.partition("/")
        try:
            if number not in inits:
                inits[number] = (await store.get(prefix + edges[int(number)][0])).body
            body = inits[number] + (await store.get(prefix + segment)).body
        except StoreError as error:
            errors.report(error)
            return web.Response(status=503)
        try:
            reader = FragmentReader(len(body))
            reader.feed(body)
            reader.finish()
        except FragmentError as error:
            errors.report(_broken(f"{segment} is not whole ({error})"))
        return web.Response(body=body)

    free, options = asyncio.Semaphore(MAX_DECODERS), tuple[str, ...]()
    async with serve(answer) as base:

        async def check(paths: Sequence[str]) -> None:
            async with free:
                try:
                    urls = [base + path for path in paths]
                    done = await run(decoder_arguments(tools.ffmpeg, urls, options))
                finally:
                    errors.check()
                if done.exit_code != 0:
                    names = ", ".join(path.partition("/")[2] for path in paths)
                    raise _broken(f"{names} cannot be decoded ({done.stderr[-200:]})")
                touch()

        renditions = [
            [f"{number}/{segment}" for segment in segments] for number, (_, *segments) in enumerate(edges)
        ]
        if largest_pixels is not None and largest_pixels <= SMALL_PIXELS:
            renditions, options = [[path for paths in renditions for path in paths]], ("-threads", "1")
        await gather_or_cancel(map(check, renditions))


def decoder_arguments(ffmpeg: Path, urls: Sequence[str], options: Sequence[str]) -> Sequence[str]:
    inputs = (
        (
            *options,
            *("-err_detect", "explode", "-protocol_whitelist", "http,tcp"),
            # the init segment's edit list applies to the first packet of the stream, not of this segment
            *("-ignore_editlist", "1", "-f", "mp4", "-t", str(DECODED_SECONDS), "-i", url),
        )
        for url in urls
    )
    maps = (("-map", str(number)) for number in range(len(urls)))
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "error"),
        # fail on decoding errors, and on a segment without a frame
        *("-xerror", "-abort_on", "empty_output_stream"),
        *(word for words in (*inputs, *maps) for word in words),
        # to pass on every frame, from thread to thread, would cost as much as to decode it
        *("-filter:v", "select=eq(n\\,0)", "-filter:a", "aselect=eq(n\\,0)", "-f", "null", "-"),
    )


def file_arguments(ffmpeg: Path, url: str, demuxer: str, *, has_picture: bool) -> Sequence[str]:
    """Return argv that reads a whole file, and decodes its sound and the keyframes of its picture."""
    return (
        *(str(ffmpeg), "-hide_banner", "-nostdin", "-v", "error", "-xerror", "-err_detect", "explode"),
        *("-protocol_whitelist", "http,tcp", "-threads", "1"),
        *(("-skip_frame:v", "nokey") if has_picture else ()),
        *("-f", demuxer, "-i", url, "-map", "0", "-f", "null", "-"),
    )


def _broken(what: str) -> AttemptFailed:
    return AttemptFailed(f"The outputs are broken: {what}.", code="outputs_broken")
