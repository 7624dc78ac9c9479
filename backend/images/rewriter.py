"""Rewrite the image on stdin in a process that can do nothing else: `python -I rewriter.py`.

Only the pixels survive: turned as the camera was held, in sRGB, with 8 bits. Metadata, colour profiles, and
what is hidden in the file or appended to it are gone. The answer on stdout is `READY`, which tells that a
failure before is not the file's fault, a line of JSON, the image, and a small WebP of it.

The kernel bounds memory, CPU time and the number of open files, which is zero: nothing can be opened or
connected to, and on Linux nothing executed. So all of Pillow that is needed is imported first. This program
imports nothing from this project, since it must start fast and holds no secrets.
"""

import ctypes
import json
import re
import resource
import struct
import sys
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import AvifImagePlugin, ExifTags, Image, ImageCms, JpegImagePlugin, MpoImagePlugin
from PIL import PngImagePlugin as PngImagePlugin
from PIL import WebPImagePlugin as WebPImagePlugin

READY = b"ready\n"
MAX_PIXELS = 50_000_000
"""What the largest sensors of telephones take. The costliest format, AVIF, took 1.5 GiB for them."""
MAX_MEMORY_BYTES = 3 * 1024**3
"""WebP without loss takes 52 bytes a pixel."""
MAX_KEPT_BYTES = 60 * 1024**2
"""The API reads little more (`backend.images.rewriting`)."""
MAX_CPU_SECONDS = 60
"""50 million pixels took 15 s (WebP)."""
THUMBNAIL_PIXELS = 640
"""Longest side: twice the width of a card in the list, for dense screens."""

_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp", "AVIF": "avif"}
"""MPO: a JPEG after which a camera has put others, such as a gain map. The first one is the photo."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation. `ImageOps.exif_transpose` also rewrites the EXIF, and fails if that is odd."""
_HDR = re.compile(rb"colrnclx..\x00[\x10\x12]", re.DOTALL)
"""An AVIF with the transfer characteristics PQ or HLG (ITU-T H.273), which no one would recognise in sRGB."""
_SRGB = ImageCms.createProfile("sRGB")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _SIGKILL = 1, 38, 9
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_RULES = (struct.pack("QQQ", 1, 0, 2), struct.pack("Q", 1))
"""Execute nothing and, on newer kernels, signal nobody outside; look into no other process either."""


class Refused(Exception):
    """The image is not accepted; the argument says why, in a word that `backend.images.rewriting` knows."""


def main() -> None:
    Image.preinit()
    confine()
    out = sys.stdout.buffer
    out.write(READY)
    out.flush()
    try:
        head, *bodies = rewrite(sys.stdin.buffer.read())
    except Refused as refusal:
        head, bodies = {"refused": str(refusal)}, []
    except (MemoryError, Image.DecompressionBombError):
        head, bodies = {"refused": "large"}, []
    except Exception as error:  # noqa: BLE001  # Pillow raises anything over a broken file
        sys.stderr.write(repr(error))
        head, bodies = {"refused": "unreadable"}, []
    out.write(json.dumps(head).encode() + b"\n")
    for body in bodies:
        out.write(body)


def confine() -> None:
    """Give up whatever the rest does not need. Where the kernel lacks something, the rest still holds."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for rules in _LANDLOCK_RULES:
            ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, rules, len(rules), 0)
            if ruleset >= 0 and libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0:
                break
        # when memory runs out, the kernel kills this process first (proc(5))
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    # At the hard limit of CPU time the kernel sends SIGKILL, as when memory runs out.
    _limit(resource.RLIMIT_CPU, MAX_CPU_SECONDS, MAX_CPU_SECONDS + 5)
    _limit(resource.RLIMIT_DATA, MAX_MEMORY_BYTES)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        _limit(kind, 0)


def _limit(kind: int, most: int, hard_most: int | None = None) -> None:
    hard = resource.getrlimit(kind)[1]
    wanted = (most, most if hard_most is None else hard_most)
    soft, hard = (one if hard == resource.RLIM_INFINITY else min(one, hard) for one in wanted)
    resource.setrlimit(kind, (soft, hard))


def rewrite(body: bytes) -> tuple[dict[str, object], bytes, bytes]:
    """Return what is said about the image, the image and its thumbnail. Raises: Refused, and much else."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        image: Image.Image = Image.open(BytesIO(body), formats=["JPEG", "PNG", "WEBP", "AVIF"])
    except Image.DecompressionBombWarning:
        raise Refused("large") from None
    format_ = str(image.format)
    if image.width * image.height > MAX_PIXELS:
        raise Refused("large")
    if format_ != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Refused("animated")
    if format_ == "AVIF" and _HDR.search(body):
        raise Refused("hdr")
    options = _options(image, format_, body)
    image.load()
    image = _in_srgb(_turned(image))
    # What is left here, savers would copy into the file.
    image.info = {name: value for name, value in image.info.items() if name == "transparency"}
    kept, small = BytesIO(), BytesIO()
    image.save(kept, "JPEG" if format_ == "MPO" else format_, **options)
    if kept.tell() > MAX_KEPT_BYTES:
        raise Refused("large")
    thumbnail = image.convert("RGBA" if image.has_transparency_data else "RGB")
    thumbnail.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), reducing_gap=2)
    thumbnail.save(small, "WEBP", quality=75, method=2)
    head: dict[str, object] = {
        "format": _FORMATS[format_],
        "width": image.width,
        "height": image.height,
        "size_bytes": kept.tell(),
    }
    return head, kept.getvalue(), small.getvalue()


def _options(image: Image.Image, format_: str, body: bytes) -> dict[str, int]:
    """Return how to save it: nobody sees the difference, and it takes less than `MAX_CPU_SECONDS`."""
    if isinstance(image, (JpegImagePlugin.JpegImageFile, MpoImagePlugin.MpoImageFile)):
        return {"quality": 92, "subsampling": JpegImagePlugin.get_sampling(image)}
    if format_ == "WEBP" and body.find(b"VP8L", 12, 4096) != -1:
        return {"lossless": True, "quality": 20, "method": 1}
    return {"WEBP": {"quality": 90}, "AVIF": {"quality": 80, "speed": 9, "max_threads": 1}}.get(format_, {})


def _turned(image: Image.Image) -> Image.Image:
    orientation = None
    with suppress(Exception):  # EXIF that cannot be read turns nothing
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _in_srgb(image: Image.Image) -> Image.Image:
    """Return the image with the colours that its profile means, in a mode that all formats know."""
    if image.mode.startswith("I"):  # 16 bits
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        image.info.pop("transparency", None)  # a value of 16 bits
    profile = image.info.get("icc_profile")
    if not profile and image.mode == "CMYK":
        return image.convert("RGB")
    if not profile:
        return image
    if image.has_transparency_data:  # perhaps by a colour, which will be another one
        image = image.convert("RGBA")
    elif image.mode not in ("L", "CMYK", "RGB"):
        image = image.convert("RGB")
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        converted = ImageCms.profileToProfile(image, BytesIO(profile), _SRGB, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):  # a broken profile, or of another kind of colours
        return image.convert(mode)
    return image if converted is None else converted


if __name__ == "__main__":
    main()
