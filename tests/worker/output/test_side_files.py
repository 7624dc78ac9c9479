"""Files in the attempt's directory are stored if they have content."""

from pathlib import Path

from backend.core import keys
from worker.encode.ladder import EncodingPlan, caption_streams
from worker.output.side_files import store_side_files
from worker.source.media import SubtitleInfo

PLAN = EncodingPlan(
    (), None, captions=caption_streams((SubtitleInfo(2, "subrip", "de"), SubtitleInfo(3, "ass")))
)


async def stored_from(directory: Path) -> tuple[dict[str, bytes], list[str]]:
    stored: dict[str, bytes] = {}

    async def put(path: str, body: bytes) -> None:
        stored[path] = body

    captions = await store_side_files(put, directory, PLAN, None, 1.0)
    return stored, [track.path for track in captions]


async def test_skips_captions_without_a_cue(tmp_path: Path) -> None:
    (tmp_path / "caption-2.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHallo.\n")
    (tmp_path / "caption-3.ass").write_text("[Script Info]\n\n[Events]\n")

    stored, captions = await stored_from(tmp_path)

    assert captions == list(stored) == ["captions/1-de.vtt"]


async def test_missing_poster_is_not_an_output(tmp_path: Path) -> None:
    (tmp_path / "poster.jpg").touch()
    assert (await stored_from(tmp_path))[0] == {}

    (tmp_path / "poster.jpg").write_bytes(b"picture")
    assert (await stored_from(tmp_path))[0] == {keys.POSTER: b"picture"}
