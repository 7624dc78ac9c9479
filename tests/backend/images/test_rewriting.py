"""Images are rewritten without metadata; hostile ones are refused, and cannot harm the process that asks."""

import asyncio
import os
import signal
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from backend.core.errors import VodbucketError
from backend.core.image_records import ImageFormat
from backend.images.rewriter import MAX_PIXELS
from backend.images.rewriting import (
    MAX_ANSWER_BYTES,
    AnimatedImage,
    ImagesUnavailable,
    ImageTooLarge,
    Rewriter,
    Rewritten,
    UnsupportedImage,
)

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF")
ORIENTATION, MAKE, GPS = 0x0112, 0x010F, 0x8825
SECRET = "Secret Street 5"
RED, GREEN, BLUE, WHITE = (250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 250)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def quarters(width: int = 64, height: int = 32) -> Image.Image:
    """Red, green / blue, white."""
    image = Image.new("RGB", (width, height), WHITE)
    half = (width // 2, height // 2)
    image.paste(RED, (0, 0, *half))
    image.paste(GREEN, (half[0], 0, width, half[1]))
    image.paste(BLUE, (0, half[1], half[0], height))
    return image


def opened(rewritten: Rewritten) -> Image.Image:
    image = Image.open(BytesIO(rewritten.picture))
    image.load()
    return image


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def png_of(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png([(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")])


def secret_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, SECRET
    exif[GPS] = {1: "N", 2: (48.0, 8.0, 14.5), 3: "E", 4: (11.0, 34.0, 32.0)}
    return exif


@pytest.mark.parametrize("format_", FORMATS)
async def test_the_image_keeps_its_format_size_and_colours(format_: str) -> None:
    rewritten = await Rewriter().rewrite(encoded(quarters(), format_))

    assert (rewritten.head.format, rewritten.head.width, rewritten.head.height) == (format_.lower(), 64, 32)
    assert rewritten.head.size_bytes == len(rewritten.picture)
    assert opened(rewritten).format == format_
    assert_quarters(opened(rewritten), RED, GREEN, BLUE, WHITE)
    assert Image.open(BytesIO(rewritten.thumbnail)).format == "WEBP"


def assert_quarters(image: Image.Image, *colours: tuple[int, ...]) -> None:
    """Compare the colours in the quarters: upper left and right, lower left and right."""
    width, height = image.size
    seen = image.convert("RGB")
    places = [(width // 4, height // 4), (width * 3 // 4, height // 4)]
    places += [(x, height * 3 // 4) for x, _ in places]
    for place, colour in zip(places, colours, strict=True):
        found = seen.getpixel(place)
        assert isinstance(found, tuple)
        assert all(abs(one - other) < 40 for one, other in zip(found, colour, strict=True)), (place, found)


@pytest.mark.parametrize("format_", FORMATS)
async def test_no_metadata_survives(format_: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": secret_exif(), "icc_profile": profile, "xmp": SECRET.encode()}
    if format_ == "JPEG":
        options["comment"] = SECRET
    body = encoded(quarters(), format_, **options)
    assert SECRET.encode() in body

    rewritten = await Rewriter().rewrite(body + SECRET.encode())

    image = opened(rewritten)
    for stored in (rewritten.picture, rewritten.thumbnail):
        assert SECRET.encode() not in stored
        assert b"Exif" not in stored
    assert not image.getexif()
    assert not {"exif", "xmp", "icc_profile", "comment", "photoshop", "dpi"} & image.info.keys()


@pytest.mark.parametrize(
    ("orientation", "colours"),
    [
        (2, (GREEN, RED, WHITE, BLUE)),
        (3, (WHITE, BLUE, GREEN, RED)),
        (6, (BLUE, RED, WHITE, GREEN)),
        (8, (GREEN, WHITE, RED, BLUE)),
    ],
)
async def test_the_image_is_turned_as_the_camera_was_held(
    orientation: int, colours: tuple[tuple[int, ...], ...]
) -> None:
    rewritten = await Rewriter().rewrite(encoded(quarters(), "JPEG", exif=secret_exif(orientation)))

    assert opened(rewritten).size == ((32, 64) if orientation >= 5 else (64, 32))
    assert (rewritten.head.width, rewritten.head.height) == opened(rewritten).size
    assert_quarters(opened(rewritten), *colours)


def swapped_profile() -> bytes:
    """sRGB, but red and blue have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


async def test_colours_of_a_profile_become_those_of_srgb() -> None:
    rewritten = await Rewriter().rewrite(encoded(quarters(), "PNG", icc_profile=swapped_profile()))

    assert_quarters(opened(rewritten), BLUE, GREEN, RED, WHITE)


async def test_a_broken_profile_is_ignored() -> None:
    rewritten = await Rewriter().rewrite(encoded(quarters(), "PNG", icc_profile=b"broken" * 30))

    assert_quarters(opened(rewritten), RED, GREEN, BLUE, WHITE)


async def test_exif_that_cannot_be_read_is_ignored() -> None:
    rewritten = await Rewriter().rewrite(encoded(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))

    assert_quarters(opened(rewritten), RED, GREEN, BLUE, WHITE)


@pytest.mark.parametrize(
    ("mode", "format_"),
    [("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")],
)
async def test_every_mode_of_colours_is_kept_or_made_one_that_browsers_know(mode: str, format_: str) -> None:
    image = quarters().quantize() if mode == "P" else quarters().convert(mode)

    rewritten = await Rewriter().rewrite(encoded(image, format_))

    seen, wanted = opened(rewritten), image.convert("RGB")
    assert seen.mode in ("1", "L", "LA", "P", "RGB", "RGBA")
    assert_quarters(seen, *(wanted.getpixel(xy) for xy in ((9, 5), (40, 5), (9, 20), (40, 20))))  # type: ignore[arg-type]  # RGB


async def test_16_bits_become_8() -> None:
    rewritten = await Rewriter().rewrite(encoded(Image.new("I;16", (4, 4), 40_000), "PNG"))

    assert opened(rewritten).getpixel((1, 1)) == 40_000 // 256


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "AVIF"])
async def test_transparency_is_kept(format_: str) -> None:
    image = quarters().convert("RGBA")
    image.putalpha(100)

    alpha = opened(await Rewriter().rewrite(encoded(image, format_))).convert("RGBA").getpixel((9, 5))

    assert isinstance(alpha, tuple)
    assert abs(alpha[3] - 100) < 3


async def test_what_a_colour_makes_transparent_stays_so_when_colours_are_converted() -> None:
    body = encoded(quarters(), "PNG", icc_profile=swapped_profile(), transparency=GREEN)

    image = opened(await Rewriter().rewrite(body)).convert("RGBA")

    assert [image.getpixel(xy)[3] for xy in ((9, 5), (40, 5))] == [255, 0]  # type: ignore[index]  # RGBA


async def test_webp_without_loss_stays_so() -> None:
    image = Image.effect_noise((64, 64), 90).convert("RGB")

    rewritten = await Rewriter().rewrite(encoded(image, "WEBP", lossless=True))

    assert opened(rewritten).convert("RGB").tobytes() == image.tobytes()


async def test_of_a_photo_with_a_gain_map_the_photo_is_stored() -> None:
    body = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("L", (16, 8))])

    rewritten = await Rewriter().rewrite(body)

    assert (rewritten.head.format, opened(rewritten).format) == (ImageFormat.JPEG, "JPEG")
    assert_quarters(opened(rewritten), RED, GREEN, BLUE, WHITE)


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "AVIF"])
async def test_animations_are_refused(format_: str) -> None:
    body = encoded(quarters(), format_, save_all=True, append_images=[quarters().rotate(180)])

    with pytest.raises(AnimatedImage):
        await Rewriter().rewrite(body)


async def test_hdr_is_refused_instead_of_shown_in_wrong_colours() -> None:
    body = encoded(quarters(), "AVIF")
    place = body.index(b"colrnclx") + 8
    pq = body[: place + 2] + b"\0\x10" + body[place + 4 :]

    with pytest.raises(UnsupportedImage, match="HDR"):
        await Rewriter().rewrite(pq)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        SVG,
        b"%PDF-1.7\n" * 100,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        encoded(quarters(), "GIF"),
        encoded(quarters(), "BMP"),
        encoded(quarters(), "TIFF"),
        encoded(quarters(), "JPEG2000"),
        b"II*\0" + encoded(quarters(), "JPEG"),
        png([(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)), (b"IEND", b"")]),
        png([(b"IEND", b"")]),
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf\xff\xff\xff\xffmeta" + bytes(99),
        b"\xff\xd8\xff\xe0" + b"\xff" * 1000,
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_other_files_are_refused(body: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        await Rewriter().rewrite(body)


@pytest.mark.parametrize("format_", FORMATS)
async def test_truncated_images_are_refused(format_: str) -> None:
    body = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), format_)

    with pytest.raises(UnsupportedImage):
        await Rewriter().rewrite(body[: len(body) * 3 // 4])


BOMB = png_of(20_000, 20_000, zlib.compress(bytes(1_000_000)))


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        png_of(MAX_PIXELS + 1, 1, b""),
        png_of(2**31 - 1, 2**31 - 1, b""),
        encoded(Image.new("1", (8000, 7000)), "PNG"),
        b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0" + b"\xff" * 10,
    ],
    ids=["bomb", "one more", "overflow", "small file", "webp"],
)
async def test_images_with_too_many_pixels_are_refused_before_they_are_decoded(body: bytes) -> None:
    with pytest.raises(ImageTooLarge):
        await Rewriter().rewrite(body)


async def test_text_that_expands_without_end_is_refused() -> None:
    text = b"Comment\0\0" + zlib.compress(bytes(5_000_000))
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    body = png([(b"IHDR", header), (b"zTXt", text), (b"IDAT", zlib.compress(bytes(4))), (b"IEND", b"")])

    with pytest.raises(UnsupportedImage):
        await Rewriter().rewrite(body)


@pytest.mark.parametrize("hidden", [b"PK\x03\x04" + b"payload" * 20, b"<script>alert(1)</script>", SVG])
async def test_what_is_hidden_in_an_image_is_gone(hidden: bytes) -> None:
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tEXt", b"a\0" + hidden), (b"IDAT", zlib.compress(bytes(4)) + hidden)]

    rewritten = await Rewriter().rewrite(png([*chunks, (b"raNd", hidden), (b"IEND", b"")]) + hidden)

    assert hidden not in rewritten.picture + rewritten.thumbnail


SAID = b'{"format": "%s", "width": 1, "height": 1, "size_bytes": %d}\n'


def program(tmp_path: Path, code: str) -> Path:
    """A program that is confined like the rewriter, and then does this."""
    path = tmp_path / "program.py"
    rewriter = Path(__file__).parents[3] / "backend/images"
    path.write_text(
        f"import os, socket, sys, time\nsys.path.insert(0, {str(rewriter)!r})\nimport rewriter\n"
        f"def say(text): sys.stdout.buffer.write(text); sys.stdout.buffer.flush()\n{code}\n"
    )
    return path


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/proc/self/environ')",
        "open(f'/proc/{os.getppid()}/environ')",
        "open('/tmp/written-by-an-image', 'w')",
        "os.close(0); open('/dev/null')",
        "socket.socket()",
        "os.close(0); os.close(2); socket.socketpair()",
        "os.pipe()",
        "bytearray(4 * 1024 ** 3)",
    ],
)
async def test_a_hijacked_program_can_open_nothing(tmp_path: Path, attempt: str) -> None:
    """If the attempt fails, as it must, the program says that the image is an animation."""
    code = (
        "rewriter.confine()\nsay(rewriter.READY)\nsys.stdin.buffer.read()\n"
        f'try:\n    {attempt}\nexcept (OSError, MemoryError):\n    say(b\'{{"refused": "animated"}}\\n\')'
    )

    with pytest.raises(AnimatedImage):
        await Rewriter(program(tmp_path, code)).rewrite(b"x")


async def test_a_hijacked_program_can_execute_nothing(tmp_path: Path) -> None:
    """`echo` would say that the image is too large. Without Landlock it could not load its libraries."""
    code = (
        "rewriter.confine()\nsay(rewriter.READY)\nsys.stdin.buffer.read()\n"
        "os.execv('/bin/echo', ['echo', '{\"refused\": \"large\"}'])"
    )

    with pytest.raises(UnsupportedImage):
        await Rewriter(program(tmp_path, code)).rewrite(b"x")


async def test_the_program_inherits_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = (
        "say(rewriter.READY)\nsys.stdin.buffer.read()\n"
        "say(b'{\"refused\": \"animated\"}\\n' if os.environ.keys() <= {'LC_CTYPE'} else b'leaked')"
    )

    with pytest.raises(AnimatedImage):
        await Rewriter(program(tmp_path, code)).rewrite(b"x")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("sys.exit(3)", ImagesUnavailable),
        ("os.kill(os.getpid(), 9)", ImagesUnavailable),
        ("say(rewriter.READY); os.kill(os.getpid(), 9)", ImagesUnavailable),
        ("say(rewriter.READY); os.abort()", UnsupportedImage),
        ("say(rewriter.READY); os.kill(os.getpid(), 24)", ImageTooLarge),
        ("say(rewriter.READY); say(b'{')", UnsupportedImage),
        (f"say(rewriter.READY); say({SAID % (b'svg', 1)} + b'xx')", UnsupportedImage),
        (f"say(rewriter.READY); say({SAID % (b'png', 9)} + b'xx')", UnsupportedImage),
        (f"say(rewriter.READY); say(bytes({MAX_ANSWER_BYTES} + 1))", UnsupportedImage),
        ("say(rewriter.READY); sys.stderr.write('x' * 10 ** 6)", UnsupportedImage),
    ],
)  # fmt: skip
async def test_nothing_that_the_program_does_is_trusted(
    tmp_path: Path, code: str, error: type[VodbucketError]
) -> None:
    rewriter = Rewriter(program(tmp_path, code))

    with pytest.raises(error):
        await rewriter.rewrite(b"x" * 1_000_000)
    with pytest.raises(error):  # and the next one gets its turn
        await rewriter.rewrite(b"x")


async def test_a_program_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*argv: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*argv, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)

    with pytest.raises(ImagesUnavailable):
        await Rewriter(program(tmp_path, "time.sleep(99)"), max_seconds=0.1).rewrite(b"x" * 1_000_000)

    assert started[0].returncode == -signal.SIGKILL


async def test_a_request_that_ends_kills_the_program(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    os.mkfifo(pids)
    code = f"file = open({str(pids)!r}, 'w')\nfile.write(str(os.getpid()))\nfile.close()\ntime.sleep(99)"
    task = asyncio.create_task(Rewriter(program(tmp_path, code)).rewrite(b"x"))
    pid = int(await asyncio.to_thread(pids.read_text))

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_images_are_rewritten_one_at_a_time(tmp_path: Path) -> None:
    """The program refuses what it finds another one at work on."""
    lock = tmp_path / "lock"
    code = (
        f"os.mkdir({str(lock)!r})\nsay(rewriter.READY)\nsys.stdin.buffer.read()\n"
        f'os.rmdir({str(lock)!r})\nsay(b\'{{"refused": "animated"}}\\n\')'
    )
    rewriter = Rewriter(program(tmp_path, code))

    ended = await asyncio.gather(*(rewriter.rewrite(b"x") for _ in range(4)), return_exceptions=True)

    assert [type(one) for one in ended] == [AnimatedImage] * 4


def test_kill_9_of_the_api_kills_the_program(tmp_path: Path) -> None:
    """The program holds a pipe open, which ends with it."""
    held = tmp_path / "held"
    os.mkfifo(held)
    child = program(
        tmp_path,
        f"held = open({str(held)!r}, 'wb', buffering=0)\nrewriter.confine()\nheld.write(b'.')\n"
        "time.sleep(99)",
    )
    code = (
        "import asyncio\nfrom pathlib import Path\nfrom backend.images.rewriting import Rewriter\n"
        f"asyncio.run(Rewriter(Path({str(child)!r})).rewrite(b'x'))"
    )
    api = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    with held.open("rb", buffering=0) as pipe:
        assert pipe.read(1) == b"."
        api.kill()
        api.wait()

        assert pipe.read(1) == b""
