"""A first look whose segments reach the bucket one after another, first those that viewers wait for.

Stands in for a worker whose speed a test sets: the look is packaged beforehand, and only uploaded late.
"""

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import boto3

from backend.core import keys
from backend.core.ids import new_id
from backend.core.records import OutputObject, Outputs, Stage, Status, Video
from backend.core.unit_records import Wanted
from tests.lab.product import Product
from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture, tone

SECONDS = 100
SEGMENT_SECONDS = 4
SEGMENTS = SECONDS // SEGMENT_SECONDS
PICTURE, SOUND = "h264-180p", "aac"
LOOK_TOKEN, RUN = "00ff", "r0-0-ff00"


def package(directory: Path) -> dict[str, bytes]:
    """Return the files of a look of `SECONDS` by their paths."""
    film = directory / "film.mp4"
    keyframes = ("-g", str(24 * SEGMENT_SECONDS), "-sc_threshold", "0")
    ffmpeg(*picture(seconds=SECONDS), *tone(SECONDS), *H264, *keyframes, "-c:a", "aac", str(film))
    made = directory / "look"
    made.mkdir()
    streams = [
        f"in={film},stream={kind},init_segment=media/{name}/init.mp4,playlist_name={name}.m3u8"
        f",segment_template=media/{name}/$Number%05d$.m4s"
        for kind, name in (("video", PICTURE), ("audio", SOUND))
    ]
    subprocess.run(
        [
            *(TOOLS.packager, "--quiet", *streams, "--segment_duration", str(SEGMENT_SECONDS)),
            *("--hls_playlist_type", "VOD", "--hls_master_playlist_output", keys.MASTER_PLAYLIST),
            *("--generate_static_live_mpd", "--mpd_output", keys.DASH_MANIFEST),
        ],
        cwd=made,
        check=True,
        timeout=60,
    )
    files = {str(path.relative_to(made)): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    # The packager takes these paths for relative to its own directory.
    manifests = (path for path in files if path.endswith((".m3u8", ".mpd")))
    return files | {path: _MEDIA.sub(rb"\1../media/", files[path]) for path in manifests}


_MEDIA = re.compile(rb'(["\n])media/')


class SlowLook:
    """A public video of which only the look's beginning is stored. `made` lists segments in their order."""

    def __init__(self, product: Product, files: dict[str, bytes], segment_pause: float) -> None:
        environment = product.environment
        self._client = boto3.client(
            "s3",
            endpoint_url=environment["S3_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_REGION"],
        )
        self._buckets = {
            "raw": environment["S3_RAW_BUCKET"],
            "video": environment["S3_VIDEO_BUCKET"],
        }
        self._files = files
        self._pause = segment_pause
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._make)
        self.video_id = new_id()
        self.made: list[int] = []

    def start(self) -> None:
        now = datetime.now(UTC)
        video = Video(id=self.video_id, title="A slow look", filename="f.mp4", size_bytes=1, created_at=now)
        prefix = keys.run_prefix(self.video_id, keys.look_name(self.video_id, LOOK_TOKEN))
        self._put(keys.video_record(self.video_id), video.to_json())
        for path, body in self._files.items():
            if not path.endswith(".m4s"):
                self._put(prefix + path, body)
        self._put_segment(1)
        status = Status.queued(self.video_id, now).at_stage(
            Stage.TRANSCODING,
            now,
            playable=True,
            outputs=prefix,
            qualities=("180p",),
            duration_seconds=SECONDS,
            progress=0.1,
        )
        self._put(keys.status(self.video_id), status.to_json())
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def publish(self) -> None:
        """Publish the same files as the video's outputs."""
        for path, body in self._files.items():
            self._put(keys.run_prefix(self.video_id, RUN) + path, body)
        now = datetime.now(UTC)
        outputs = Outputs(
            id=self.video_id,
            request=self.video_id,
            run=RUN,
            requested_at=now,
            published_at=now,
            duration_seconds=SECONDS,
            qualities=("180p",),
            renditions=(),
            objects=tuple(
                OutputObject(path=path, size_bytes=len(body)) for path, body in self._files.items()
            ),
            encoder="software",
        )
        self._put(keys.result(self.video_id, self.video_id), outputs.to_json())

    def _make(self) -> None:
        while not self._stopped.wait(self._pause) and len(self.made) < SEGMENTS:
            begin = self._wanted()
            ahead = (*range(begin, SEGMENTS + 1), *range(1, begin))
            self._put_segment(next(number for number in ahead if number not in self.made))

    def _put_segment(self, number: int) -> None:
        prefix = keys.run_prefix(self.video_id, keys.look_name(self.video_id, LOOK_TOKEN))
        for name in (SOUND, PICTURE):
            path = f"media/{name}/{number:05}.m4s"
            # The sound may be a segment longer or shorter than the picture.
            if path in self._files:
                self._put(prefix + path, self._files[path])
        self.made.append(number)

    def _wanted(self) -> int:
        try:
            found = self._client.get_object(Bucket=self._buckets["raw"], Key=keys.wanted(self.video_id))
        except self._client.exceptions.NoSuchKey:
            return 1
        return Wanted.from_json(found["Body"].read()).segment

    def _put(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self._buckets["video"], Key=key, Body=body)


@contextmanager
def slow_look(product: Product, files: dict[str, bytes], segment_pause: float) -> Iterator[SlowLook]:
    """Yield the look of a new video. Each segment takes its worker so many seconds."""
    look = SlowLook(product, files, segment_pause)
    look.start()
    try:
        yield look
    finally:
        look.stop()
        with product.client() as client:
            client.delete(f"/api/videos/{look.video_id}")
