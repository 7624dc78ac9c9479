"""A player that has loaded a manifest stays in the run of that manifest, whatever is encoded meanwhile."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from backend.core import keys
from backend.core.records import Job, Outputs
from backend.core.store.interface import Buckets
from backend.playback import index, manifest_reads
from tests.backend.conftest import add_published, begin_run, links_of, publish, upload
from tests.worker.encode.graphics_card import tools_with_card
from tests.worker.media_lab import H264, TOOLS, ffmpeg, picture, tone
from worker.encode.video_encoders import SVT_AV1, Encoders, VideoEncoder
from worker.transcode.transcoder import EncodingProfile, Transcoder

HARDWARE, SOFTWARE = "r0-0-aaaa", "r0-1-bbbb"
MEDIA = '#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="../media/v/init.mp4"\n{segments}{end}'
MASTER = b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001e"\nv.m3u8\n'
MPD = b"""<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="%b"><Period id="0"><AdaptationSet><Representation>
<SegmentTemplate initialization="../media/v/init.mp4" media="../media/v/1.m4s"/>
</Representation></AdaptationSet></Period></MPD>"""
VTT = b"WEBVTT\n\n00:00.000 --> 00:02.000\n001.jpg#xywh=0,0,160,90\n"


@pytest.fixture(autouse=True)
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what may change at every request, as if the time had passed that it is cached for."""
    for module in (index, manifest_reads):
        monkeypatch.setattr(module, "IN_PROGRESS_SECONDS", 0)
        monkeypatch.setattr(module, "PUBLISHED_SECONDS", 0)


def objects(encoder: str, segments: int, *, ended: bool) -> dict[str, bytes]:
    """Return the objects of a run. The bodies of its init and segments name the encoder."""
    listed = "".join(f"#EXTINF:4,\n../media/v/{number}.m4s\n" for number in range(1, segments + 1))
    media = MEDIA.format(segments=listed, end="#EXT-X-ENDLIST\n" if ended else "")
    return {
        keys.MASTER_PLAYLIST: MASTER,
        "hls/v.m3u8": media.encode(),
        keys.DASH_MANIFEST: MPD % (b"static" if ended else b"dynamic"),
        "media/v/init.mp4": encoder.encode(),
        **{f"media/v/{number}.m4s": encoder.encode() for number in range(1, segments + 1)},
        keys.STORYBOARD: VTT,
        "storyboard/001.jpg": encoder.encode(),
    }


async def load(client: httpx.AsyncClient, url: str) -> tuple[str, str]:
    """Return the URL and text of a manifest, by way of redirects, as players load one."""
    answer = await client.get(url, follow_redirects=True)
    assert answer.status_code == 200, answer.text
    return str(answer.url), answer.text


def uris_in(manifest: str) -> list[str]:
    attributes = re.findall(r'(?:URI|initialization|media)="([^"]+)"|<BaseURL>([^<]+)<', manifest)
    lines = [line for line in manifest.splitlines() if re.match(r"[^#<\s].*\.(m3u8|m4s|vtt|jpg)", line)]
    return [one or other for one, other in attributes] + lines


async def reachable(client: httpx.AsyncClient, url: str) -> set[str]:
    """Return the keys of all objects that a manifest leads to, from the URLs that players are sent to."""
    found: set[str] = set()
    base, text = await load(client, url)
    for uri in uris_in(text):
        target = urljoin(base, uri)
        if re.search(r"\.(m3u8|vtt)$", urlsplit(target).path):
            found |= await reachable(client, target)
            continue
        answer = await client.get(target)
        assert answer.status_code == 307, (target, answer.text)
        found.add(urlsplit(answer.headers["location"]).path.partition(keys.VIDEOS)[2])
    return found


@pytest.mark.parametrize("entry", [keys.MASTER_PLAYLIST, keys.DASH_MANIFEST, keys.STORYBOARD])
async def test_everything_that_a_manifest_leads_to_is_of_one_run(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, entry: str
) -> None:
    video = await add_published(admin, buckets, HARDWARE, also=objects("nvenc", 3, ended=True))
    await admin.post(f"/api/videos/{video}/captions/en", content=VTT)
    links = await links_of(admin, video)
    url = links["hls"].replace(keys.MASTER_PLAYLIST, entry)
    first, manifest = await load(anyone, url)

    await publish(buckets, video, SOFTWARE, request=f"{video}.1", also=objects("software", 3, ended=True))

    base = urlsplit(first).path
    assert {key.split("/")[1] for key in await reachable(anyone, base)} <= {HARDWARE}
    assert {key.split("/")[1] for key in await reachable(anyone, url)} == {SOFTWARE}
    for uri in uris_in(manifest):
        answer = await anyone.get(urljoin(first, uri), follow_redirects=uri.endswith((".m3u8", ".vtt")))
        assert answer.status_code in (200, 307)


async def test_viewer_of_a_replaced_run_can_watch_to_its_end(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets, HARDWARE, also=objects("nvenc", 3, ended=True))
    links = await links_of(admin, video)
    master, _ = await load(anyone, links["hls"])

    await publish(buckets, video, SOFTWARE, request=f"{video}.1", also=objects("software", 3, ended=True))

    _, playlist = await load(anyone, urljoin(master, "v.m3u8"))
    assert playlist.endswith("#EXT-X-ENDLIST\n")
    segment = await anyone.get(urljoin(master, "../media/v/3.m4s"))
    key = urlsplit(segment.headers["location"]).path.partition(keys.VIDEOS)[2]
    assert (await buckets.video.get(f"{keys.VIDEOS}{key}")).body == b"nvenc"


@pytest.mark.parametrize("path", ["hls/v.m3u8", keys.DASH_MANIFEST])
async def test_playlist_of_a_run_that_was_given_up_is_not_found(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, path: str
) -> None:
    video = await upload(admin)
    await begin_run(buckets, video, HARDWARE, objects("nvenc", 2, ended=False))
    links = await links_of(admin, video)
    base, _ = await load(anyone, links["hls"])
    url = urljoin(base, f"../{path}")
    assert (await anyone.get(url)).status_code == 200

    await begin_run(buckets, video, SOFTWARE, objects("software", 1, ended=False))

    gone = await anyone.get(url)
    assert (gone.status_code, gone.json()["code"]) == (404, "object_not_found")
    again, _ = await load(anyone, links["hls"])
    assert f"/{SOFTWARE}/" in again


async def test_run_that_has_ended_before_publication_can_be_watched_after_another_took_over(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await upload(admin)
    await begin_run(buckets, video, HARDWARE, objects("nvenc", 2, ended=True))
    links = await links_of(admin, video)
    base, _ = await load(anyone, links["hls"])

    await begin_run(buckets, video, SOFTWARE, objects("software", 1, ended=False))

    assert (await anyone.get(urljoin(base, "v.m3u8"))).status_code == 200


async def test_links_lead_to_the_current_run_without_being_cached(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets, HARDWARE, also=objects("nvenc", 1, ended=True))
    links = await links_of(admin, video)

    for method in ("GET", "HEAD"):
        answer = await anyone.request(method, links["hls"])
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "private, no-cache")
        assert answer.headers["location"] == f"../{HARDWARE}/hls/master.m3u8"
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_finished_playlists_are_cached_by_browsers_for_the_life_of_a_presigned_url(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video = await add_published(admin, buckets, HARDWARE, also=objects("nvenc", 1, ended=True))
    links = await links_of(admin, video)
    base, _ = await load(anyone, links["hls"])

    playlist = await anyone.get(urljoin(base, "v.m3u8"))
    master = await anyone.get(base)

    assert playlist.headers["cache-control"] == "private, max-age=900, immutable"
    assert master.headers["cache-control"] == "private, no-cache"  # captions may be added


@pytest.mark.parametrize("run", ["r0-0-", "r0-0-aaaa%2F", "R0-0-aaaa", "r0-0-aaaa/..", "results", "captions"])
async def test_run_in_a_path_opens_nothing_but_a_run(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, run: str
) -> None:
    video = await add_published(admin, buckets, HARDWARE)
    root = (await links_of(admin, video))["hls"].removesuffix("/hls/master.m3u8")

    answer = await anyone.head(f"{root}/{run}/{video}", follow_redirects=True)

    assert answer.status_code == 404


@pytest.mark.heavy
async def test_viewer_decodes_the_run_they_loaded_after_another_encoder_has_replaced_it(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets, tmp_path: Path
) -> None:
    clip, work_dir = tmp_path / "clip.mp4", tmp_path / "work"
    work_dir.mkdir()
    ffmpeg(*picture(seconds=3), *tone(3), *H264, "-c:a", "aac", str(clip))
    video = await upload(admin, clip.read_bytes(), filename="clip.mp4")
    card = Encoders((SVT_AV1, VideoEncoder("h264", "nvenc", "h264_nvenc")))
    with_card = Transcoder(
        buckets,
        tools_with_card(tmp_path, "h264_nvenc"),
        EncodingProfile(("h264",), 1.0, encoders=card),
        work_dir,
    )
    in_software = Transcoder(buckets, TOOLS, EncodingProfile(("h264",), 1.0), work_dir)
    await encode(buckets, video, HARDWARE, clip, with_card)
    url = (await links_of(admin, video))["hls"]
    base, _ = await load(anyone, url)

    await encode(buckets, video, SOFTWARE, clip, in_software, number=1)

    old, new = await film(anyone, buckets, base), await film(anyone, buckets, url)
    for name, parts in (("old", old), ("new", new), ("mixed", [old[0], *new[1:]])):
        (tmp_path / f"{name}.mp4").write_bytes(b"".join(parts))
    assert decoding_errors(tmp_path / "old.mp4") == decoding_errors(tmp_path / "new.mp4") == ""
    assert decoding_errors(tmp_path / "mixed.mp4") != ""  # what viewers got before


async def film(client: httpx.AsyncClient, buckets: Buckets, master: str) -> list[bytes]:
    """Return the init and the segments of the only rendition, as a player gets them."""
    playlist, text = await load(client, urljoin((await load(client, master))[0], "h264-180p.m3u8"))
    parts = []
    for uri in uris_in(text):
        answer = await client.get(urljoin(playlist, uri))
        assert answer.status_code == 307, answer.text
        key = urlsplit(answer.headers["location"]).path.partition(keys.VIDEOS)[2]
        parts.append((await buckets.video.get(f"{keys.VIDEOS}{key}")).body)
    assert len(parts) == 4
    return parts


async def encode(
    buckets: Buckets,
    video: str,
    run: str,
    clip: Path,
    transcoder: Transcoder,
    number: int = 0,
) -> None:
    """Encode the clip and publish the run."""
    job = Job(
        id=video,
        request=keys.request_name(video, number),
        source=keys.upload(video),
        source_size_bytes=clip.stat().st_size,
        created_at=datetime.now(UTC),
    )
    done = await transcoder.run(job, run, lambda progress: None)
    outputs = Outputs(
        id=video,
        request=job.request,
        run=run,
        requested_at=job.created_at,
        published_at=job.created_at,
        duration_seconds=done.duration_seconds,
        qualities=done.qualities,
        renditions=done.renditions,
        objects=done.objects,
        encoder=done.encoder,
    )
    await buckets.video.create(keys.result(video, job.request), outputs.to_json())


def decoding_errors(path: Path) -> str:
    command = ("-v", "error", "-i", str(path), "-f", "null", "-")
    return subprocess.run([TOOLS.ffmpeg, *command], capture_output=True, text=True, timeout=60).stderr
