"""What a script written for VRS does, given a token: nothing here knows vodbucket.

`python -m tests.clients.with_vrs SERVER TOKEN FILE LINK` uploads FILE as a form, has the server fetch LINK,
follows both jobs until they are complete, plays HLS and DASH as far as their first segments, and downloads in
ranges. It prints a JSON object of what it saw. urllib follows redirects with all headers, the token included.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

BOUNDARY = "a-boundary-that-no-video-contains"
STAGES = ("queued", "uploading", "downloading", "transcoding", "finalizing", "complete", "failed")
FIELDS = (
    *("id", "stage", "progress", "stage_progress", "current_stage_index", "total_stages", "elapsed_seconds"),
    *("estimated_remaining_seconds", "error", "started_at_unix_ms", "last_update_unix_ms"),
)
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 240


class Client:
    """One server."""

    def __init__(self, server: str, token: str) -> None:
        self._server = server
        self._token = token

    def request(
        self, path: str, body: bytes | None = None, kind: str = "", **headers: str
    ) -> tuple[int, str, bytes]:
        """Return the status, the address after redirects, and the body."""
        sent = {"Authorization": f"Bearer {self._token}", **headers} | (
            {"Content-Type": kind} if kind else {}
        )
        try:
            with urlopen(Request(urljoin(self._server, path), body, sent), timeout=60) as answer:
                return answer.status, answer.url, answer.read()
        except HTTPError as error:
            return error.code, error.url, error.read()

    def upload(self, file: Path) -> str:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
        body = f"{head}Content-Type: video/mp4\r\n\r\n".encode() + file.read_bytes()
        body += f"\r\n--{BOUNDARY}--\r\n".encode()
        return self._id(self.request("/upload/multipart", body, f"multipart/form-data; boundary={BOUNDARY}"))

    def fetch(self, link: str) -> str:
        wish = {"url": link, "title": "From elsewhere", "transcode": {"crf": 50, "cpu_used": 8}}
        return self._id(self.request("/upload/remote", json.dumps(wish).encode(), "application/json"))

    def follow(self, job: str) -> list[str]:
        """Return the stages of a job in order, until it is complete."""
        stages: list[str] = []
        progress = 0.0
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            seen = json.loads(self.request(f"/jobs/{job}")[2])
            assert set(seen) == set(FIELDS), seen
            assert seen["stage"] in STAGES, seen
            assert seen["stage"] != "failed", seen["error"]
            assert progress <= seen["progress"] <= 1, seen
            progress = seen["progress"]
            if seen["stage"] not in stages:
                stages.append(seen["stage"])
            if seen["stage"] == "complete":
                return stages
            assert time.monotonic() < give_up, seen
            time.sleep(POLL_SECONDS)

    def play_hls(self, video: str) -> int:
        """Return the size of a segment."""
        _, master_url, master = self.request(f"/videos/{video}/hls/master.m3u8")
        playlist = next(line for line in master.decode().splitlines() if line and line[0] != "#")
        _, playlist_url, media = self.request(urljoin(master_url, playlist))
        segment = next(line for line in media.decode().splitlines() if line and line[0] != "#")
        return self._media(urljoin(playlist_url, segment))

    def play_dash(self, video: str) -> int:
        """Return the size of an initialisation segment."""
        _, url, manifest = self.request(f"/videos/{video}/dash/manifest.mpd")
        named = re.search(rb'(?:initialization|sourceURL)="([^"]+)"', manifest)
        base = re.search(rb"<BaseURL>([^<]+)</BaseURL>", manifest)
        assert named or base, manifest
        path = named[1] if named else base[1]  # type: ignore[index]
        return self._media(urljoin(url, path.decode()))

    def download(self, path: str) -> int:
        """Fetch a file whole and in two ranges, and return its size."""
        status, _, whole = self.request(path)
        begin = self.request(path, Range="bytes=0-999")
        rest = self.request(path, Range="bytes=1000-")
        assert (status, begin[0], rest[0]) == (200, 206, 206)
        assert begin[2] + rest[2] == whole
        return len(whole)

    def _media(self, url: str) -> int:
        status, _, body = self.request(url)
        assert status == 200, body
        return len(body)

    @staticmethod
    def _id(answer: tuple[int, str, bytes]) -> str:
        assert 200 <= answer[0] < 300, answer
        job: str = json.loads(answer[2])["id"]
        return job


def main(server: str, token: str, file: str, link: str) -> None:
    client = Client(server, token)
    uploaded, fetched = client.upload(Path(file)), client.fetch(link)
    seen: dict[str, Any] = {"stages": [client.follow(uploaded), client.follow(fetched)]}
    seen["ids"] = [uploaded, fetched]
    seen["segments"] = [play(video) for play in (client.play_hls, client.play_dash) for video in seen["ids"]]
    seen["downloads"] = [client.download(f"/videos/{uploaded}{tail}") for tail in ("", "/download")]
    missing = client.request("/jobs/01900000-0000-7000-8000-000000000000")
    seen["missing"] = [missing[0], json.loads(missing[2])["error"]]
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
