"""Keeps what a video lost nothing in, when its renditions are made again from the file for download.

That file was encoded once. One made from it would have been encoded twice, and after the next removal three
times, so the new run gets copies of the files for download, and what only the upload's own file contained.
"""

from dataclasses import replace

from backend.core import keys
from backend.core.errors import AttemptFailed, ObjectNotFound, UploadNotFound
from backend.core.records import Job, OutputObject, Outputs
from backend.core.store.interface import Store
from backend.core.uploads.buffers import PartBuffers
from backend.core.uploads.part_writer import BYTES_IN_FLIGHT
from backend.core.uploads.resumable.concatenation import Span, compose
from worker.output.sink import headers_of
from worker.transcode.transcoder import Transcoded


async def with_first_generation(video: Store, job: Job, run: str, made: Transcoded) -> Transcoded:
    """Copy what stays from the run that the job's source belongs to, and return the outputs with it.

    Raises: AttemptFailed: it is gone. StoreError.
    """
    earlier = keys.run_of_key(job.id, job.source) or ""
    try:
        stored = await video.get(keys.result(job.id, keys.request_of_run(job.id, earlier)))
        kept = Outputs.from_json(stored.body)
        sizes = {output.path: output.size_bytes for output in made.objects}
        for output in kept.objects:
            if output.path in (keys.DOWNLOAD, keys.DOWNLOAD_MP4) or output.path.startswith(keys.CAPTIONS):
                source = keys.run_prefix(job.id, earlier) + output.path
                await _copy(video, source, keys.run_prefix(job.id, run) + output.path, output)
                sizes[output.path] = output.size_bytes
    except (ObjectNotFound, UploadNotFound):
        raise AttemptFailed("The file for download no longer exists.", code="source_missing") from None
    objects = tuple(OutputObject(path=path, size_bytes=size) for path, size in sizes.items())
    return replace(made, objects=objects, captions=kept.captions, chapters=kept.chapters, source=kept.source)


async def _copy(store: Store, source: str, target: str, output: OutputObject) -> None:
    """Copy an object within the store, which no request does for those beyond 5 GiB."""
    span = Span(source, 0, output.size_bytes)
    await compose(store, target, [span], PartBuffers(BYTES_IN_FLIGHT), headers_of(output.path))
