"""Videos that workers have published with all that players and downloads need."""

from backend.core import keys
from backend.core.jobs.job_queue import JobQueue
from backend.core.jobs.leases import Claim
from backend.core.records import Job, OutputObject, Outputs, Retention
from tests.core.jobs.queue_lab import Lab

SEGMENTS = {keys.MASTER_PLAYLIST: b"#EXTM3U", "media/av1/1.m4s": b"s" * 1000, "media/av1/2.m4s": b"s" * 1000}
KEPT = {
    keys.DOWNLOAD: b"w" * 100,
    keys.POSTER: b"jpeg",
    keys.STORYBOARD: b"WEBVTT",
    "captions/1-en.vtt": b"WEBVTT",
}
SEGMENT_BYTES = sum(map(len, SEGMENTS.values()))


async def add(lab: Lab, original: Retention | None = None) -> Job:
    job = await lab.add_job(original)
    assert await work(lab, lab.worker("one"))
    return job


async def work(lab: Lab, queue: JobQueue) -> Claim | None:
    """Do a job, if there is one that nobody else takes. Like a real worker, read the whole source."""
    claim = await lab.claim(queue)
    if claim is not None:
        outputs = await store_outputs(lab, claim)
        await queue.publish(claim, outputs)
    return claim


async def store_outputs(lab: Lab, claim: Claim) -> Outputs:
    job = claim.lease.job
    store = lab.buckets.video if job.is_from_download else lab.buckets.raw
    assert len((await store.get(job.source)).body) == job.stored_bytes
    outputs, bodies = await lab.write_outputs(claim), SEGMENTS | KEPT
    await lab.buckets.video.delete_many([outputs_key(outputs, output.path) for output in outputs.objects])
    for path, body in bodies.items():
        await lab.buckets.video.put(outputs_key(outputs, path), body)
    objects = [OutputObject(path=path, size_bytes=len(body)) for path, body in bodies.items()]
    return outputs.replace(objects=tuple(objects))


def outputs_key(outputs: Outputs, path: str) -> str:
    return keys.run_prefix(outputs.id, outputs.run) + path


async def paths_of(lab: Lab, job: Job) -> set[str]:
    """Return what is left of all runs of the video, without the runs' names."""
    found = [keys.split_run(key.removeprefix(keys.video_prefix(job.id))) for key in await lab.video_keys()]
    return {path for run, path in found if run is not None}
