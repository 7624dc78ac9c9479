"""Videos whose renditions were removed: what players get, and how the next one has them made again."""

import httpx

from backend.core import keys
from backend.core.library.videos import published_outputs, reduce_video
from backend.core.records import Job, Stage, Status
from backend.core.store.interface import Buckets
from tests.backend.conftest import Clock, add_published, begin_run, links_of

DAY = 86_400


async def _reduce(buckets: Buckets, video_id: str) -> str:
    """Remove the renditions of the video, and return the prefix of what is left."""
    outputs = await published_outputs(buckets, video_id)
    assert outputs is not None
    assert await reduce_video(buckets, outputs, 1)
    await buckets.raw.delete_many([keys.upload(video_id), keys.marker(video_id)])
    return keys.run_prefix(video_id, outputs.run)


async def _queued(buckets: Buckets) -> list[Job]:
    found = [info.key async for info in buckets.raw.list_all(keys.QUEUE)]
    return [Job.from_json((await buckets.raw.get(key)).body) for key in found]


async def test_playback_offers_the_download_and_has_the_rest_made_again(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video_id = await add_published(admin, buckets)
    prefix = await _reduce(buckets, video_id)
    status = (await admin.get(f"/api/videos/{video_id}/status")).json()
    assert (status["stage"], status["reduced"]) == ("complete", True)

    links = await links_of(admin, video_id)

    assert links["presentation"] == "reduced"
    webm = await anyone.get(links["webm"])
    assert webm.status_code == 307
    assert prefix + keys.DOWNLOAD in webm.headers["location"]
    assert (links["mp4"], links["poster"] is None) == (None, False)
    [job] = await _queued(buckets)
    assert (job.request, job.source) == (f"{video_id}.1", prefix + keys.DOWNLOAD)
    status = (await admin.get(f"/api/videos/{video_id}/status")).json()
    assert (status["stage"], status["reduced"]) == ("queued", True)
    assert (await links_of(admin, video_id))["presentation"] == "reduced"
    assert [job.request for job in await _queued(buckets)] == [f"{video_id}.1"]
    assert (
        (await admin.get(f"/api/videos/{video_id}")).json()["poster"].partition("?")[0].endswith(keys.POSTER)
    )


async def test_a_first_look_plays_while_the_download_stays(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video_id = await add_published(admin, buckets)
    prefix = await _reduce(buckets, video_id)
    look = await begin_run(buckets, video_id, "l1-abc")
    status = Status.from_json((await buckets.video.get(keys.status(video_id))).body)
    again = status.replace(request=f"{video_id}.1", stage=Stage.TRANSCODING)
    await buckets.video.put(keys.status(video_id), again.to_json())

    links = await links_of(admin, video_id)

    assert links["presentation"] == "first_look"
    master = await admin.get(links["hls"], follow_redirects=True)
    assert (master.status_code, look.rpartition("/")[0].rpartition("/")[2] in str(master.url)) == (200, True)
    download = await admin.get(f"/videos/{video_id}/download", follow_redirects=False)
    to = await anyone.get(download.headers["location"])
    assert prefix + keys.DOWNLOAD in to.headers["location"]
    assert links["webm"] is not None


async def test_players_of_what_was_removed_are_told_and_have_it_made_again(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    video_id = await add_published(admin, buckets, run="r0-0-abc")
    prefix = await _reduce(buckets, video_id)
    links = (await links_of(admin, video_id))["hls"]
    for marker in await _queued(buckets):
        await buckets.raw.delete(marker.marker)

    assert (await admin.get(links)).status_code == 503
    named = links.replace(keys.MASTER_PLAYLIST, "r0-0-abc/hls/av1/00001.m4s")
    assert (await admin.get(named)).status_code == 404
    assert (await admin.get(f"/videos/{video_id}/hls/master.m3u8")).status_code == 503
    poster = await anyone.get(named.replace("hls/av1/00001.m4s", keys.POSTER))
    assert prefix + keys.POSTER in poster.headers["location"]


async def test_watching_is_noted_once_a_day(admin: httpx.AsyncClient, buckets: Buckets, clock: Clock) -> None:
    video_id = await add_published(admin, buckets)
    key = keys.watched(video_id)
    await admin.get(f"/api/videos/{video_id}/status")
    assert key not in [info.key async for info in buckets.video.list_all(keys.VIDEOS)]

    for days in (0, 1):
        clock.unix += days * DAY
        await links_of(admin, video_id)
        assert (await buckets.video.head(key)).size_bytes == 0
        await buckets.video.delete(key)
        await links_of(admin, video_id)
        assert key not in [info.key async for info in buckets.video.list_all(keys.VIDEOS)]


async def test_the_original_is_a_download_as_long_as_it_is_stored(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient, buckets: Buckets
) -> None:
    answer = await admin.post("/api/videos", content=b"a video", params={"filename": "film.mkv"})
    video_id = answer.json()["id"]
    path = f"/api/videos/{video_id}/original"

    found = await admin.get(path)
    assert found.status_code == 307
    assert keys.upload(video_id) in found.headers["location"]
    assert (await anyone.get(path)).status_code == 401
    await buckets.raw.delete(keys.upload(video_id))
    gone = await admin.get(path)
    assert (gone.status_code, gone.json()["code"]) == (409, "source_gone")
