"""Chunks of a film, encoded by themselves: they have the frames of one pass, and their streams can be joined.

No frame of these films is like another.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from backend.core.records import Codec, TranscodeOptions
from tests.lab.memory_store import MemoryStore
from tests.worker.media_lab import TOOLS, ffmpeg, picture, tone
from worker.encode.chunk_arguments import chunk_arguments
from worker.encode.ffmpeg_arguments import opened, pipe_name
from worker.encode.filter_graph import LOOKAHEAD_FRAMES, filter_graphs
from worker.encode.grid import Chunk, chunks_of, held_frames, total_frames
from worker.encode.ladder import EncodingPlan, plan_encoding
from worker.encode.video_encoders import SOFTWARE
from worker.output.fragments import FragmentReader, config_of
from worker.sandbox.background_errors import BackgroundErrors
from worker.source.feeder import SourceFeeder
from worker.source.index.read import read_index
from worker.source.media import MediaInfo
from worker.source.probe import probe

SEGMENT_SECONDS, CHUNK_SECONDS = 1.0, 3.0
SECONDS = 10
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-x265-params")
FILM = (*picture(seconds=SECONDS), *tone(SECONDS))
AAC = ("-c:a", "aac")
VARIABLE = ("-fps_mode", "vfr", "-vf")

FILMS: dict[str, tuple[str, ...]] = {
    "mp4": (*FILM, *X264, "-g", "60", *AAC, "a.mp4"),
    "one keyframe": (*FILM, *X264, *AAC, "a.mp4"),
    "clock from 100 s": (*FILM, *X264, "-g", "60", *AAC, "-output_ts_offset", "100", "a.mkv"),
    "frames missing": (
        *FILM,
        *X264,
        *VARIABLE,
        "select=not(eq(mod(n\\,7)\\,3))*not(between(n\\,65\\,140))",
        *("-g", "71", *AAC, "a.mkv"),
    ),
    # the next keyframe is decoded long before it is shown
    "a long hole": (*FILM, *X264, *VARIABLE, "select=lt(n\\,30)+gt(n\\,200)", "-g", "30", *AAC, "a.mp4"),
    "1 fps": (*picture(rate="1", seconds=40), *X264, "-g", "5", "a.mp4"),
    "slides": (*picture(rate="1/4", seconds=24), *tone(24), *X264, "-g", "3", *AAC, "a.mkv"),
    "slides in HEVC": (
        *(*picture(rate="1/2", seconds=40), *X265),
        *("log-level=none:open-gop=1:keyint=9:bframes=8:rc-lookahead=20", "a.mp4"),
    ),
    "open GOP": (
        *picture(seconds=SECONDS),
        *X264,
        "-x264-params",
        "open-gop=1:keyint=40",
        "-bf",
        "8",
        "a.mp4",
    ),
    "open GOP in HEVC": (
        *(*picture(seconds=SECONDS), *X265, "log-level=none:open-gop=1:keyint=40:bframes=4", "a.mkv"),
    ),
    "intra refresh": (*picture(seconds=SECONDS), *X264, "-x264-params", "intra-refresh=1:keyint=48", "a.mp4"),
    "interlaced": (
        *(*picture(rate="50", seconds=SECONDS), "-vf", "interlace", "-flags", "+ilme+ildct"),
        *(*X264, "-g", "60", "a.mkv"),
    ),
    "picture late": (*FILM, "-vf", "trim=start=1.2", *X264, "-g", "30", *AAC, "a.mkv"),
    "picture shorter": (*picture(seconds=6), *tone(SECONDS), *X264, "-g", "30", *AAC, "a.mp4"),
    "29.97 fps": (*picture(rate="30000/1001", seconds=SECONDS), *X264, "-g", "60", "a.mp4"),
    "copied": (*picture(seconds=SECONDS), *X264, "-g", "60", "-bf", "8", "a.mp4"),
    "copied, 5 fps": (*picture(rate="5", seconds=30), *X264, "-g", "20", "-bf", "8", "a.mp4"),
    "copied, all keyframes": (*picture(seconds=SECONDS), *X264, "-g", "1", "a.mp4"),
    "vp9": (*FILM, "-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-g", "60", "a.webm"),
}


@asynccontextmanager
async def divided(
    film: Path, codecs: tuple[Codec, ...], *, as_copied: bool = False
) -> AsyncIterator[tuple[str, MediaInfo, EncodingPlan, tuple[Chunk, ...]]]:
    """Yield the URL of a film, and what a job would know about it."""
    store = MemoryStore()
    await store.put("film", film.read_bytes())
    feeder = SourceFeeder(store, await store.head("film"), BackgroundErrors())
    async with feeder.serving() as url:
        media = await probe(TOOLS, url)
        plan = plan_encoding(media, codecs, TranscodeOptions())
        assert plan.fps is not None
        index = await read_index(feeder.read, media)
        frames, held = total_frames(media, plan.fps), held_frames(media, plan.fps)
        lengths = (plan.fps, frames, SEGMENT_SECONDS, CHUNK_SECONDS, held)
        yield url, media, plan, chunks_of(*lengths, index, as_copied=as_copied)


async def program(argv: Sequence[str], directory: Path) -> str:
    """Run ffmpeg and return what it logs."""
    done = await asyncio.to_thread(
        subprocess.run, argv, cwd=directory, env={"SVT_LOG": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return str(done.stderr)


async def frames_of(
    argv: Sequence[str], directory: Path, port: str, others: Sequence[str] = ()
) -> list[tuple[int, str]]:
    """Return the times and checksums of the frames at a port of the graph."""
    rest = (word for other in others for word in ("-map", other, "-f", "null", "-"))
    await program([*argv, "-map", port, "-f", "framemd5", "frames.md5", *rest], directory)
    lines = (directory / "frames.md5").read_text().splitlines()
    fields = [line.split(",") for line in lines if not line.startswith("#")]
    return [(int(one[2]), one[-1].strip()) for one in fields]


@pytest.mark.heavy
@pytest.mark.corpus("chunks")
@pytest.mark.parametrize("name", FILMS)
async def test_chunks_have_the_frames_of_one_pass(name: str, tmp_path: Path) -> None:
    *arguments, file = FILMS[name]
    ffmpeg(*arguments, str(tmp_path / file))
    copied = name.startswith("copied")
    async with divided(tmp_path / file, ("h264",), as_copied=copied) as (url, media, plan, chunks):
        plan = replace(plan, video=plan.video[:1])
        port = f"[{plan.video[0].name}]"
        graph = filter_graphs(plan, media, SOFTWARE)[0]
        whole = (*opened(TOOLS.ffmpeg, media, url, ()), "-filter_complex", graph)
        expected = await frames_of(whole, tmp_path, port, ["[poster]", "[board]"])
        made: list[tuple[int, str]] = []
        for chunk in chunks:
            argv = chunk_arguments(TOOLS.ffmpeg, plan, media, url, chunk, SOFTWARE)
            frames = await frames_of(argv[: argv.index("-map")], tmp_path, port)
            made += frames if chunk.is_last else frames[: chunk.frames]
            assert chunk.is_last or len(frames) == chunk.frames + LOOKAHEAD_FRAMES

    assert len(chunks) > 1
    assert made == expected
    assert abs(len(made) - sum(chunk.frames for chunk in chunks)) <= 2


@pytest.mark.heavy
async def test_chunks_are_joined_by_their_bytes(tmp_path: Path) -> None:
    """Of 64x64 pixels, so that the encoders have little to do."""
    ffmpeg(*picture("64x64", "30000/1001", SECONDS), *X264, str(tmp_path / "a.mp4"))
    streams: dict[str, list[bytes]] = {}
    async with divided(tmp_path / "a.mp4", ("av1", "h264")) as (url, media, plan, chunks):
        for chunk in chunks:
            await program(chunk_arguments(TOOLS.ffmpeg, plan, media, url, chunk, SOFTWARE), tmp_path)
            for stream in plan.video:
                body = (tmp_path / pipe_name(stream.name)).read_bytes()
                streams.setdefault(stream.name, []).append(body)

    assert len(chunks) > 2
    for bodies in streams.values():
        fragments = [FragmentReader().feed(body) for body in bodies]
        assert len({init.body for init, *_ in fragments}) == 1
        config = config_of(fragments[0][0].body)
        tick = config.timescale // Fraction(30000, 1001)
        for chunk, (_, *segments) in zip(chunks, fragments, strict=True):
            assert sum(segment.samples for segment in segments) == chunk.frames
            assert [segment.first_pts for segment in segments] == [
                (chunk.first_frame + keyframe) * tick for keyframe in chunk.keyframes
            ]
            keys = [[frame.is_key for frame in segment.frames] for segment in segments]
            assert all(first and not any(others) for first, *others in keys)
        rest = (segment.body for _, *segments in fragments for segment in segments)
        (tmp_path / "joined.mp4").write_bytes(fragments[0][0].body + b"".join(rest))
        argv = (TOOLS.ffmpeg, "-v", "error", "-y", "-copyts", "-i", "joined.mp4")
        frames = await frames_of(argv, tmp_path, "0:v")
        assert [time for time, _ in frames] == list(range(sum(chunk.frames for chunk in chunks)))
        alone: list[tuple[int, str]] = []
        for body in bodies:
            (tmp_path / "joined.mp4").write_bytes(body)
            alone += await frames_of(argv, tmp_path, "0:v")
        assert frames == alone
