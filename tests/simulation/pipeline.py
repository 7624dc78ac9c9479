"""Replaces the transcoder: reads the source, then writes and verifies a run's objects. It may fail."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from backend.core import keys
from backend.core.errors import AttemptFailed
from backend.core.records import Job, OutputObject
from tests.simulation.attempts import find_source, ride_out, work_a_while
from tests.simulation.invariants import output_body
from tests.simulation.stage import Stage
from tests.simulation.unit_invariants import JOINED
from worker.encode.video_encoders import SOFTWARE
from worker.transcode.fallback import Fallback
from worker.transcode.progress import Progress
from worker.transcode.transcoder import Transcoded

OUTPUTS = ("hls/master.m3u8", JOINED)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Half of the failures count as hardware failures: the attempt starts over in a second run."""

    stage: Stage

    async def run(
        self, job: Job, run: str, report: Callable[[Progress], None], _source: object = None
    ) -> Transcoded:
        await find_source(self.stage, job.source)
        try:
            return await self.write(job, run)
        except AttemptFailed as error:
            if self.stage.rng.random() < 0.5:
                raise
            fallback = Fallback(SOFTWARE, keys.fallback_run(run), error.message)
        return replace(await self.write(job, fallback.run), fallback=fallback)

    async def write(self, job: Job, run: str, joined: bytes = b"") -> Transcoded:
        """Write a run. `joined` is what the units stored, if they made it."""
        prefix, video = keys.run_prefix(job.id, run), self.stage.buckets.video
        bodies = {path: output_body(run, path) for path in OUTPUTS}
        bodies[JOINED] += joined
        for path, body in bodies.items():
            await work_a_while(self.stage)
            write = self._in_parts if self.stage.rng.random() < 0.15 else video.put
            await ride_out(partial(write, prefix + path, body))
        objects = tuple(
            OutputObject(path=path, size_bytes=len(body)) for path, body in sorted(bodies.items())
        )
        stored = [(info.key, info.size_bytes) async for info in video.list_all(prefix)]
        if stored != [(prefix + one.path, one.size_bytes) for one in objects]:
            raise AttemptFailed("Outputs are missing.")
        return Transcoded(
            duration_seconds=1, qualities=("360p",), renditions=(), objects=objects, encoder="simulated"
        )

    async def _in_parts(self, key: str, body: bytes) -> None:
        video = self.stage.buckets.video
        upload_id = await video.open_upload(key)
        part = await video.put_part(key, upload_id, 1, body)
        await video.complete_upload(key, upload_id, [part])
