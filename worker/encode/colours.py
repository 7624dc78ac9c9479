"""Filters that convert any picture to SDR, BT.709, limited range, 8 bit, 4:2:0, as every rung is. Pure."""

from worker.source.media import VideoInfo

SD_WIDTH, SD_HEIGHT = 1280, 576
"""Up to this size, untagged pictures are treated as BT.601, as players do."""
HDR_WHITE_NITS = 203
"""Diffuse white of HDR10 and HLG (ITU-R BT.2408), mapped to SDR white."""
HDR_PEAK = 1000 / HDR_WHITE_NITS
"""Highlights of 1000 nits, relative to white: nearly everything is graded for that."""

BT709 = "setparams=range=limited:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
"""Tags the frames, and so every stream and file made from them."""
_TO_BT709 = "zscale=matrix=709:range=limited:primaries=709:transfer=709"

_MATRICES = frozenset({"bt709", "bt470bg", "smpte170m", "bt2020nc", "fcc", "smpte240m", "ycgco"})
_PRIMARIES = frozenset(
    {"bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "bt2020", "smpte431", "smpte432"}
)
_RGB = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr", "mono")


def to_bt709(video: VideoInfo, width: int, height: int) -> str:
    """Return filters that end in BT.709 yuv420p. `width` and `height` are those of the largest rung."""
    colour = video.colour
    if colour.hdr is not None:
        matrix = colour.matrix if colour.matrix in _MATRICES else "bt2020nc"
        primaries = colour.primaries if colour.primaries in _PRIMARIES else "bt2020"
        source = _tagged(matrix, primaries, colour.transfer, full_range=colour.full_range)
        return f"{_tone_mapped(source, width, height)},format=yuv420p,{BT709}"
    primaries = _primaries(video)
    if video.pixel_format.startswith(_RGB):
        # zimg only takes planar RGB
        source = f"format=gbrp,{_tagged('gbr', primaries, 'bt709', full_range=True)}"
        return f"{source},{_TO_BT709},format=yuv420p,{BT709}"
    matrix = _matrix(video)
    if is_bt709(video):
        return f"format=yuv420p,{BT709}"
    # SDR gamma curves are so similar that players treat them alike
    source = _tagged(matrix, primaries, "bt709", full_range=colour.full_range)
    return f"{source},{_TO_BT709},format=yuv420p,{BT709}"


def is_bt709(video: VideoInfo) -> bool:
    """Return whether the colours of an SDR picture, which is no RGB, need no conversion."""
    return (_matrix(video), _primaries(video), video.colour.full_range) == ("bt709", "bt709", False)


def on_black(video: VideoInfo) -> tuple[str, ...]:
    """Return filters that put a transparent picture on black, which else would show what it hides."""
    pixels = video.pixel_format
    if not video.has_alpha:
        return ()
    if pixels.startswith("yuva"):
        return f"format={pixels}", "premultiply=inplace=1", f"format={pixels.replace('yuva', 'yuv')}"
    deep = "16" if "64" in pixels or "16" in pixels else ""
    if pixels.startswith(("ayuv", "vuya")):
        return "format=yuva444p16", "premultiply=inplace=1", "format=yuv444p16"
    return f"format=gbrap{deep}", "premultiply=inplace=1", f"format=gbrp{deep}"


def _primaries(video: VideoInfo) -> str:
    return video.colour.primaries if video.colour.primaries in _PRIMARIES else "bt709"


def _matrix(video: VideoInfo) -> str:
    if video.colour.matrix in _MATRICES:
        return video.colour.matrix
    if video.codec == "mjpeg":
        return "bt470bg"  # JPEG is BT.601 at any size (JFIF)
    long, short = sorted((video.display_width, video.display_height), reverse=True)
    return "smpte170m" if long < SD_WIDTH and short <= SD_HEIGHT else "bt709"


def _tagged(matrix: str, primaries: str, transfer: str, *, full_range: bool) -> str:
    """Tag frames whose file has no tags, or wrong ones."""
    amount = "full" if full_range else "limited"
    return f"setparams=range={amount}:color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}"


def _tone_mapped(tagged: str, width: int, height: int) -> str:
    return (
        # scale down first: the filters after it work in floating point
        f"scale={width}:{height}:flags=bicubic,{tagged},"
        f"zscale=transfer=linear:npl={HDR_WHITE_NITS},format=gbrpf32le,zscale=primaries=709,"
        # linear up to half of white, so faces and skies do not change; only highlights are compressed
        f"tonemap=tonemap=mobius:param=0.5:desat=0:peak={HDR_PEAK:.2f},"
        "zscale=transfer=709:matrix=709:range=limited"
    )
