"""Rewrites images, one at a time, each in a process that can do nothing else (`backend.images.rewriter`).

Nothing that such a process says is trusted, as it has read a hostile file. It does not inherit the
environment, which holds the store's credentials. No other module of the API starts processes.
"""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, Field, ValidationError

from backend.core.concurrency import gather_pair, run_shielded
from backend.core.errors import VodbucketError
from backend.core.image_records import ImageFormat

log = structlog.get_logger(__name__)

MAX_IMAGE_BYTES = 32 * 1024**2
MAX_ANSWER_BYTES = 2 * MAX_IMAGE_BYTES
"""Of an image and its thumbnail: what was compressed harder than we do may grow."""
MAX_SECONDS = 300.0
"""Five times the CPU time that the process may take, for a machine that is busy."""
_READY = b"ready\n"
MAX_RECEIVED = 4
"""How many images may be in memory: those that arrive, wait for their turn or are being stored."""
_STDERR_BYTES = 4096
_PROGRAM = Path(__file__).with_name("rewriter.py")


class UnsupportedImage(VodbucketError):
    """This isn't a JPEG, PNG, WebP or AVIF image, or it is damaged."""

    code = "unsupported_image"


class AnimatedImage(UnsupportedImage):
    """Animations can't be stored as images. Upload a video instead."""

    code = "animated_image"


class ImageTooLarge(VodbucketError):
    """This image is too large. Images can have up to 32 MiB and 50 million pixels."""

    code = "image_too_large"


class ImagesUnavailable(VodbucketError):
    """This server cannot process images at the moment. Try again later."""

    code = "images_unavailable"


_REFUSALS = {
    b'{"refused": "unreadable"}': (UnsupportedImage, None),
    b'{"refused": "animated"}': (AnimatedImage, None),
    b'{"refused": "large"}': (ImageTooLarge, None),
    b'{"refused": "hdr"}': (UnsupportedImage, "HDR images can't be stored. Convert it to SDR first."),
}


class Head(BaseModel):
    """What the process says about the image that it has written."""

    format: ImageFormat
    width: int = Field(ge=1, lt=2**31)
    height: int = Field(ge=1, lt=2**31)
    size_bytes: int = Field(ge=1, le=MAX_ANSWER_BYTES)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """An image without metadata, and a small WebP of it."""

    head: Head
    picture: bytes
    thumbnail: bytes


class Rewriter:
    """Rewrites one image at a time. Before reading one from a client, take one of the `places`."""

    def __init__(self, program: Path = _PROGRAM, max_seconds: float = MAX_SECONDS) -> None:
        self.places = asyncio.Semaphore(MAX_RECEIVED)
        self._program = program
        self._max_seconds = max_seconds
        self._turn = asyncio.Semaphore(1)

    async def rewrite(self, body: bytes) -> Rewritten:
        """Return the image, upright and without metadata, in its own format.

        Raises:
            UnsupportedImage: it is none, or damaged, or crashes what reads it.
            AnimatedImage
            ImageTooLarge: it has too many pixels, or takes too much memory or CPU time.
            ImagesUnavailable: the process failed, was killed or got too little of the machine, for which the
                image is not to blame.
        """
        async with self._turn:
            exit_code, answer, stderr = await self._run(body)
        if not answer.startswith(_READY) or exit_code == -signal.SIGKILL:
            log.error("images_unavailable", exit_code=exit_code, stderr=stderr)
            raise ImagesUnavailable
        try:
            return _read(answer.removeprefix(_READY))
        except VodbucketError as refusal:
            log.info("image_refused", code=refusal.code, exit_code=exit_code, stderr=stderr)
            if exit_code == -signal.SIGXCPU:
                raise ImageTooLarge from None
            raise

    async def _run(self, body: bytes) -> tuple[int, bytes, str]:
        """Return the exit code, stdout and what is kept of stderr. Raises: ImagesUnavailable."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(self._program)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._max_seconds):
                (answer, stderr), _ = await gather_pair(
                    gather_pair(
                        _start_of(process.stdout, MAX_ANSWER_BYTES), _start_of(process.stderr, _STDERR_BYTES)
                    ),
                    _feed(process.stdin, body),
                )
                return await process.wait(), answer, stderr.decode(errors="replace")
        except TimeoutError:
            log.error("images_unavailable", seconds=self._max_seconds)
            raise ImagesUnavailable from None
        finally:
            await run_shielded(_end(process))


def _read(answer: bytes) -> Rewritten:
    """Raises: UnsupportedImage, AnimatedImage, ImageTooLarge."""
    line, _, bodies = answer.partition(b"\n")
    if line in _REFUSALS:
        kind, message = _REFUSALS[line]
        raise kind(message)
    try:
        head = Head.model_validate_json(line)
    except ValidationError:
        raise UnsupportedImage from None
    picture, thumbnail = bodies[: head.size_bytes], bodies[head.size_bytes :]
    if not thumbnail:  # it has crashed meanwhile
        raise UnsupportedImage
    return Rewritten(head, picture, thumbnail)


async def _start_of(stream: asyncio.StreamReader | None, limit_bytes: int) -> bytes:
    """Read to the end and drop what exceeds the limit."""
    kept = bytearray()
    while stream is not None and (chunk := await stream.read(65536)):
        kept += chunk[: limit_bytes - len(kept)]
    return bytes(kept)


async def _feed(stream: asyncio.StreamWriter | None, body: bytes) -> None:
    if stream is not None:
        with suppress(ConnectionError):  # it has ended: its exit code says why
            stream.write(body)
            await stream.drain()
        stream.close()


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
