"""How the frames around the seams of chunks look, beside the same frames of one pass: VMAF at 1080p."""

import asyncio
import tempfile
from pathlib import Path
from statistics import fmean

from bench.table import print_table
from bench.vmaf import vmaf_of_frames
from tests.formats.measuring import rendition_file
from tests.lab.clips import big_buck_bunny
from tests.worker.media_lab import MediaLab, ffmpeg
from tests.worker.units.unit_lab import UnitLab
from worker.transcode.transcoder import EncodingProfile

FILM_SECONDS, CHUNK_SECONDS = 16, 4.0
SEAMS = (4, 8, 12)
"""Where the chunks of the film meet, in seconds."""
FPS, WIDTH, HEIGHT = 24, 1920, 1080
AROUND_FRAMES = 12


def bench_seams() -> None:
    rows = asyncio.run(_measure())
    header = ("rendition", "seam", "one pass", "chunks", "worst frame, one pass", "worst frame, chunks")
    print_table(f"VMAF of the {2 * AROUND_FRAMES} frames around each seam", header, rows)


async def _measure() -> list[list[str]]:
    profile = EncodingProfile(rungs=(HEIGHT,), copies_source=False)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        film = directory / "film.mp4"
        ffmpeg("-i", str(big_buck_bunny()), "-t", str(FILM_SECONDS), "-c", "copy", str(film))
        one_pass = MediaLab(_new(directory / "one-pass"), profile)
        chunks = UnitLab(_new(directory / "chunks"), profile, chunk_seconds=CHUNK_SECONDS)
        await one_pass.transcode(film)
        job = await chunks.job(film.read_bytes())
        plan = await chunks.plan(job)
        assert plan.chunks == len(SEAMS) + 1
        await chunks.do_all(job, plan)
        await chunks.join(job, plan)
        for rendition in (f"av1-{HEIGHT}p", f"h264-{HEIGHT}p"):
            files = [await rendition_file(lab, rendition, lab.work_dir) for lab in (one_pass, chunks)]
            for seam in SEAMS:
                frames = range(seam * FPS - AROUND_FRAMES, seam * FPS + AROUND_FRAMES)
                found = [vmaf_of_frames(file, film, WIDTH, HEIGHT, frames) for file in files]
                figures = (*map(fmean, found), *map(min, found))
                rows.append([rendition, f"{seam} s", *(f"{figure:.1f}" for figure in figures)])
    return rows


def _new(directory: Path) -> Path:
    directory.mkdir()
    return directory
