"""Versions of growing playlists: only what was appended is read, and what is missing is never overlooked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.output import playlists
from worker.output.growing_playlist import GrowingPlaylist
from worker.output.playlists import NewNames, parse_playlist

HLS, MPD = "hls/a.m3u8", "dash/manifest.mpd"


def _hls(segments: int, target: int = 4) -> bytes:
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{target}", '#EXT-X-MAP:URI="../media/a/init.mp4"']
    lines += [line for number in range(segments) for line in ("#EXTINF:4.0,", f"../media/a/{number:05}.m4s")]
    return "\n".join([*lines, ""]).encode()


def _mpd(segments: int, others: int = 0) -> bytes:
    def template(name: str, count: int) -> str:
        entries = "".join(f'<S t="{number}" d="1"/>' for number in range(count))
        media = f'media="../media/{name}/$Number%05d$.m4s" initialization="../media/{name}/init.mp4"'
        return f'<SegmentTemplate {media} startNumber="0">{entries}</SegmentTemplate>'

    body = template("a", segments) + template("b", others)
    return f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">{body}</MPD>'.encode()


def _growing(path: str = HLS, required: frozenset[str] = frozenset()) -> GrowingPlaylist:
    return GrowingPlaylist(path, required, lambda path, body: body)


@given(sizes=st.lists(st.integers(0, 12), max_size=6), target=st.integers(1, 9))
def test_names_of_all_versions_are_those_of_the_last(sizes: list[int], target: int) -> None:
    for path, body_of in ((HLS, lambda n: _hls(n, target if n > 6 else 4)), (MPD, lambda n: _mpd(n, n // 2))):
        reader, read = NewNames(path), set[str]()
        for size in sorted(sizes):
            read |= reader.read(body_of(size))

            assert read == set(parse_playlist(path, body_of(size)).names)
            assert reader.any_segment == (size > 0)


async def test_reads_only_what_was_appended(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    parse = playlists._parse_hls
    monkeypatch.setattr(playlists, "_parse_hls", lambda path, text: read.append(text) or parse(path, text))
    growing, stored = (
        _growing(),
        {"media/a/init.mp4", *(f"media/a/{number:05}.m4s" for number in range(1002))},
    )
    for size in (1000, 1001, 1002):
        growing.add(_hls(size))
        assert await growing.take(stored) == _hls(size)

    assert [len(text.splitlines()) for text in read] == [2003, 2, 2]


async def test_a_version_that_waits_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    parse = playlists._parse_hls
    monkeypatch.setattr(playlists, "_parse_hls", lambda path, text: read.append(text) or parse(path, text))
    growing = _growing()
    growing.add(_hls(3))
    for _ in range(10):
        assert await growing.take(set()) is None

    assert len(read) == 1


@pytest.mark.parametrize(("path", "body_of"), [(HLS, _hls), (MPD, _mpd)])
async def test_newest_version_whose_objects_are_stored_is_taken(path: str, body_of: object) -> None:
    assert callable(body_of)
    growing = _growing(path)
    stored = {"media/a/init.mp4", "media/b/init.mp4", "media/a/00000.m4s"}
    for size in (1, 2, 3):
        growing.add(body_of(size))
    assert await growing.take(stored) == body_of(1)
    stored.add("media/a/00001.m4s")
    assert await growing.take(stored) is None
    growing.add(body_of(4))
    stored.add("media/a/00002.m4s")
    assert await growing.take(stored) == body_of(3)

    stored.add("media/a/00003.m4s")

    assert await growing.take(stored) == body_of(4)
    assert not growing.waits


async def test_object_that_only_a_dropped_version_introduced_is_still_missing() -> None:
    growing, stored = _growing(), {"media/a/init.mp4"}
    growing.add(_hls(0))
    growing.add(_hls(2))
    assert await growing.take(stored) is None
    growing.add(_hls(3))
    growing.add(_hls(4))

    assert await growing.take({*stored, "media/a/00002.m4s", "media/a/00003.m4s"}) is None


async def test_last_version_is_read_in_full() -> None:
    growing, stored = _growing(), {"media/a/init.mp4", "media/a/00000.m4s", "media/a/00001.m4s"}
    growing.add(_hls(1))
    assert await growing.take(stored) == _hls(1)
    growing.add(_hls(2).replace(b"00000", b"00009"))

    assert await growing.take_last(stored) is None
    assert growing.waits


async def test_master_waits_until_it_names_every_stream() -> None:
    master = "hls/master.m3u8"
    growing = _growing(master, frozenset({"hls/a.m3u8", "hls/b.m3u8"}))
    stored = {"hls/a.m3u8", "hls/b.m3u8"}
    growing.add(b"#EXTM3U\na.m3u8\n")
    assert await growing.take(stored) is None
    growing.add(b"#EXTM3U\na.m3u8\nb.m3u8\n")

    assert await growing.take(stored) == b"#EXTM3U\na.m3u8\nb.m3u8\n"
