"""What `vodbucket encode` makes of a real film plays from a plain file server."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.e2e.test_captions import SHOW, SHOWN
from tests.e2e.viewer import PLAYERS, Viewer, page_file
from tests.lab.product import REPOSITORY
from tests.worker.media_lab import TOOLS, ffmpeg

pytestmark = pytest.mark.heavy

SECONDS = 15
FRAMES = 363
"""The last ones are held until the sound ends."""
SIZES = {180: 320, 360: 640}
STREAMS = {"aac": "aac", **{f"{codec}-{side}p": codec for codec in ("av1", "h264") for side in SIZES}}


class _Quiet(SimpleHTTPRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@pytest.fixture(scope="module")
def root(short_film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a file server: `film`, encoded, and beside it a page for each player."""
    root = tmp_path_factory.mktemp("root")
    captions, film = root / "film.srt", root.parent / "film.mp4"
    captions.write_text(f"1\n00:00:00,000 --> 00:00:{SECONDS},000\nA rabbit & birds\n")
    text = ("-i", str(captions), "-map", "0", "-map", "1", "-c", "copy", "-c:s", "mov_text")
    ffmpeg("-i", str(short_film), *text, "-metadata:s:s:0", "language=eng", str(film))
    captions.unlink()
    command = (sys.executable, "-m", "vodbucket", "encode", str(film), str(root / "film"))
    options = ("--rungs", "180,360", "--cpu-used", "8")
    subprocess.run(
        [*command, *options], cwd=REPOSITORY, env={"DOWNLOADS": "webm,mp4"}, check=True, timeout=300
    )
    for player in PLAYERS:
        page = root / player
        page.mkdir()
        for name in ("", "player.js", "verbs.js"):
            (page / (name or "index.html")).write_bytes(page_file(player, name))
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_folder_holds_the_outputs_and_nothing_else(root: Path) -> None:
    film = root / "film"
    found = {path.relative_to(film).as_posix() for path in film.rglob("*") if path.is_file()}
    segments = {path for path in found if path.startswith("media/") and path.endswith(".m4s")}

    assert {path.parent.name for path in (film / "media").rglob("init.mp4")} == set(STREAMS)
    assert found - segments == {
        *(f"media/{name}/init.mp4" for name in STREAMS),
        *(f"hls/{name}.m3u8" for name in ("master", *STREAMS)),
        *(f"hls/{name}-iframes.m3u8" for name in STREAMS if name != "aac"),
        *("dash/manifest.mpd", "download.webm", "download.mp4", "poster.jpg"),
        *("storyboard/storyboard.vtt", "storyboard/001.jpg", "captions/1-en.vtt", "captions/1-en.m3u8"),
    }
    assert {path.name for path in root.iterdir()} == {"film", *PLAYERS}


@pytest.mark.parametrize("name", [*STREAMS, "download.webm", "download.mp4"])
def test_ffprobe_finds_every_rendition_whole(root: Path, tmp_path: Path, name: str) -> None:
    film, whole = root / "film", tmp_path / "whole.mp4"
    if name in STREAMS:
        parts = sorted((film / "media" / name).glob("*.m4s"))
        whole.write_bytes(
            b"".join(path.read_bytes() for path in (film / "media" / name / "init.mp4", *parts))
        )
    else:
        whole = film / name
    shown = ("-v", "error", "-count_packets", "-of", "csv=p=0", "-show_entries")
    probed = subprocess.run(
        [TOOLS.ffprobe, *shown, "stream=codec_name,width,height,nb_read_packets", whole],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )

    streams = [line.split(",") for line in probed.stdout.split()]
    assert probed.stderr == ""
    pictures = [line for line in streams if len(line) == 4]
    if name == "aac":
        ((codec, packets),) = streams
        assert (codec, int(packets) * 1024 / 48_000) == ("aac", pytest.approx(SECONDS, abs=0.2))
    else:
        ((codec, width, height, packets),) = pictures
        assert codec == STREAMS.get(name) or name.startswith("download.")
        assert SIZES[int(height)] == int(width)
        assert int(packets) == FRAMES


@pytest.mark.parametrize("codec", ["av1", "h264"])
@pytest.mark.parametrize(
    ("player", "manifest"),
    [("shaka", "hls/master.m3u8"), ("shaka", "dash/manifest.mpd"), ("hlsjs", "hls/master.m3u8")],
)
def test_it_plays_from_a_plain_file_server(
    server: str, context: BrowserContext, player: str, manifest: str, codec: str
) -> None:
    viewer = Viewer(context, server, player)
    viewer.open(f"{server}/film/{manifest}", codec)

    viewer.until_it_advances(0.5)
    assert sorted(viewer.heights(codec)) == sorted(SIZES)
    viewer.page.evaluate(SHOW[player], "English")
    viewer.until(lambda: viewer.page.evaluate(SHOWN) == ["A rabbit & birds"])
    viewer.jump(SECONDS - 3)
    viewer.until(viewer.ended)
    assert viewer.decoded_sound_bytes() > 0
    assert viewer.problems() == []
