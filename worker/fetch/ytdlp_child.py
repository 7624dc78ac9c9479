"""Download one video with yt-dlp: `ytdlp_child.py REQUEST`, a JSON file with the fields of `Request`.

The worker runs this as a program of its own, so that nothing that yt-dlp parses runs inside the worker, and
kills it when it has had enough. It imports nothing of this project, needs no ffmpeg, and stores files named
`media.*` in its working directory and what it found in FOUND. It prints a JSON object a line: `received` and
`total` (bytes; null: unknown), `found`, at last `files` (names) or `failed` (a code of FAILURES) with `said`.

yt-dlp reads no settings file, plugins, netrc, cache or browser here. An audit hook (PEP 578) refuses every
connection except to the worker's proxy, and every program.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

FOUND = "found.json"
SHOWN_EVERY_SECONDS = 0.5
NETWORK_SECONDS = 60
TRIES = 5
MAX_CHAPTERS = 1000
MAX_TEXT = 20_000
HLS_OR_FILE = "[protocol~='^(https?|m3u8(_native)?|http_dash_segments)$']"
"""What yt-dlp downloads by itself; it would hand all else to other programs."""
FORMATS = f"bv*{HLS_OR_FILE}+ba{HLS_OR_FILE}/b*{HLS_OR_FILE}"
MAY_PASS = {408, 425, 429}
FAILURES = ("missing", "playlist", "unsupported", "unavailable", "live", "network", "broken")


class Request(TypedDict):
    """What to download, and how."""

    address: str
    proxy: str
    proxy_port: int
    cookies: str | None


class Refused(Exception):
    """This is not downloaded: `args` are the code and what there is to say."""


def main() -> None:
    request: Request = json.loads(Path(sys.argv[1]).read_text())
    _confine(request["proxy_port"])
    try:
        import yt_dlp  # type: ignore[import-untyped]  # the wheel carries no types
    except ImportError as error:
        say(failed="missing", said=str(error))
        return
    try:
        files = _download(yt_dlp, request)
    except Refused as refused:
        say(failed=refused.args[0], said=refused.args[1])
    except Exception as error:  # noqa: BLE001  # whatever goes wrong in there is told
        say(failed=code_of(yt_dlp, error), said=str(error)[:500])
    else:
        say(files=files)


def say(**fields: object) -> None:
    sys.__stdout__.write(json.dumps(fields) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _confine(proxy_port: int) -> None:
    """From here on, there are no connections but to the proxy, and no programs."""
    host = "127.0.0.1"

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"socket.connect", "socket.sendto", "socket.bind"}:
            allowed = tuple(arguments[1]) == (host, proxy_port)
        elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
            allowed = arguments[0] == host
        else:
            allowed = event not in {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}
        if not allowed:
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(check)


def _download(yt_dlp: Any, request: Request) -> list[str]:
    """Return the names of the files."""
    files = dict[str, None]()
    progress = _Progress()

    def on_progress(state: dict[str, Any]) -> None:
        progress.show(state)
        if state["status"] == "finished":
            files[Path(state["filename"]).name] = None

    with yt_dlp.YoutubeDL(_options(request, on_progress)) as downloader:
        info = _video(downloader, request["address"])
        chosen = info.pop("requested_formats", None) or [info]
        Path(FOUND).write_text(json.dumps(_found(info, chosen)))
        say(found=True)
        # one after the other: yt-dlp would look for ffmpeg to join them
        downloader.format_selector = lambda _: chosen
        downloader.process_ie_result(info, download=True)
    return list(files)


def _options(request: Request, on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    cookies = request["cookies"]
    return {
        "proxy": request["proxy"],
        # in memory: yt-dlp writes cookies back, and the operator's file is not its own
        "cookiefile": io.StringIO(Path(cookies).read_text()) if cookies else None,
        "cachedir": False,
        "usenetrc": False,
        "enable_file_urls": False,
        "external_downloader": {"default": "native"},
        "js_runtimes": {},
        "remote_components": (),
        "format": FORMATS,
        "outtmpl": "media.%(format_id)s.%(ext)s",
        "fixup": "never",
        # two entries tell a playlist from a page with one video
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "playlist_items": "1:2",
        # a piece that is missing is a failure
        "skip_unavailable_fragments": False,
        "retries": TRIES,
        "fragment_retries": TRIES,
        "extractor_retries": TRIES,
        "socket_timeout": NETWORK_SECONDS,
        "quiet": True,
        "noprogress": True,
        "no_warnings": True,
        "color": "never",
        "progress_hooks": [on_progress],
    }


def _video(downloader: Any, address: str) -> dict[str, Any]:
    """Return what yt-dlp knows about the one video there. Raises: Refused: it is none, several or live."""
    info = downloader.extract_info(address, download=False)
    if info and "entries" in info:
        entries = [entry for entry in info["entries"] if entry]
        if len(entries) > 1:
            raise Refused("playlist", "several videos")
        info = entries[0] if entries else None
        if info and info.get("_type", "video") != "video":
            info = downloader.extract_info(info["url"], download=False, ie_key=info.get("ie_key"))
    if not info:
        raise Refused("unsupported", "no video")
    if "entries" in info:
        raise Refused("playlist", "a playlist in a playlist")
    if info.get("is_live") or info.get("live_status") in {"is_live", "is_upcoming", "post_live"}:
        raise Refused("live", str(info.get("live_status")))
    return dict(info)


def _found(info: dict[str, Any], chosen: list[dict[str, Any]]) -> dict[str, Any]:
    sizes: list[float | None] = [one.get("filesize") or one.get("filesize_approx") for one in chosen]
    title = _text(info.get("title"))
    if title and info.get("extractor_key") == "HTML5MediaEmbed":
        title = title.removesuffix(" (1)")  # it numbers the videos of a page
    return {
        "title": title,
        "description": _text(info.get("description")),
        "total_bytes": int(sum(size or 0 for size in sizes)) if all(sizes) else None,
        "chapters": [
            {"start": one.get("start_time"), "end": one.get("end_time"), "title": _text(one.get("title"))}
            for one in (info.get("chapters") or ())[:MAX_CHAPTERS]
        ],
    }


def _text(value: object) -> str | None:
    return value[:MAX_TEXT].encode(errors="replace").decode() if isinstance(value, str) else None


class _Progress:
    """Adds up the files of a video."""

    def __init__(self) -> None:
        self._received = dict[str, int]()
        self._total = dict[str, int | None]()
        self._shown_at = 0.0

    def show(self, state: dict[str, Any]) -> None:
        name, received = state["filename"], state.get("downloaded_bytes")
        total = state.get("total_bytes") or state.get("total_bytes_estimate")
        self._received[name] = int(received or self._received.get(name, 0))
        self._total[name] = int(total) if total else None
        now = time.monotonic()
        if state["status"] == "finished" or now - self._shown_at >= SHOWN_EVERY_SECONDS:
            self._shown_at = now
            totals = self._total.values()
            say(
                received=sum(self._received.values()),
                total=sum(one or 0 for one in totals) if all(totals) else None,
            )


def code_of(yt_dlp: Any, error: BaseException) -> str:
    """Return which of FAILURES this is."""
    utils, network = yt_dlp.utils, yt_dlp.networking.exceptions
    causes = _causes(error)
    if any(isinstance(one, utils.UserNotLive) for one in causes):
        return "live"
    for one in causes:
        if isinstance(one, network.HTTPError):
            passing = one.status >= 500 or one.status in MAY_PASS
            return "network" if passing else "unavailable"
        if isinstance(one, (network.RequestError, utils.ContentTooShortError, TimeoutError)):
            return "network"
    if any(isinstance(one, utils.UnsupportedError) for one in causes):
        return "unsupported"
    expected = next((one for one in causes if isinstance(one, utils.ExtractorError)), None)
    if expected is None or not expected.expected:
        return "broken"
    said = expected.orig_msg.lower()
    return "unsupported" if "no video" in said or "requested format" in said else "unavailable"


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        wrapped = getattr(error, "exc_info", None)
        cause = getattr(error, "cause", None)
        error = (wrapped and wrapped[1]) or (cause if isinstance(cause, BaseException) else None)
        error = error or found[-1].__cause__
    return found


if __name__ == "__main__":
    main()
