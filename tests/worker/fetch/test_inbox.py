"""The inbox: each file becomes one video and none is lost, even if a process that looks at it dies."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import pytest

from backend.core import keys
from backend.core.errors import StoreError
from backend.core.jobs.retry import retry_video
from backend.core.library.videos import delete_video, list_videos, read_video
from backend.core.records import Job, Stage, Tombstone, Video, Visibility
from backend.core.sweep.sweeper import SweepRules, sweep
from backend.core.uploads import inbox as inbox_module
from backend.core.uploads.inbox import Inbox, Looked, video_of, withdraw
from backend.core.uploads.part_writer import UploadPlan
from backend.core.uploads.quota import Quota
from tests.core.jobs.queue_lab import Fault, WorkerCrashed, crash, lost_answer
from tests.lab.turns import Race, Turns, TurnStore, every_order
from tests.worker.fetch.import_lab import FILE, PART_BYTES, SETTLED, ImportLab

SIDECAR = {
    "title": "Holidays",
    "visibility": "public",
    "transcode": {"crf": 30, "rungs": [360], "keep_original": False},
}


@pytest.fixture
def lab() -> ImportLab:
    return ImportLab()


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadPlan, "for_size", lambda _: UploadPlan.of_parts(PART_BYTES))


async def _videos(lab: ImportLab) -> list[Video]:
    return [item.video for item in (await list_videos(lab.buckets, limit=1000)).items]


async def _job(lab: ImportLab) -> Job:
    (video,) = await _videos(lab)
    return Job.from_json((await lab.raw.get(keys.marker(video.id, keys.FETCHED))).body)


async def test_a_file_becomes_a_video_and_leaves_the_inbox(lab: ImportLab) -> None:
    await lab.drop("film.mp4")

    assert await lab.look() == Looked(added=1, removed=0, waiting=1)
    assert await lab.look() == Looked(added=0, removed=0, waiting=1)
    assert await lab.inbox() == ["inbox/film.mp4"]
    assert await lab.work() == 1
    assert await lab.look() == Looked(added=0, removed=1, waiting=0)

    assert await lab.titles() == ["film"]
    assert await lab.raw_keys() == []
    (video,) = await _videos(lab)
    assert (video.fetched_from, video.size_bytes, video.content_type) == (
        "s3:/inbox/film.mp4",
        len(FILE),
        "video/mp4",
    )


async def test_a_file_leaves_the_inbox_as_soon_as_its_copy_stands(lab: ImportLab) -> None:
    await lab.drop("film.mp4")
    await lab.look()
    await lab.fetch(Fault(0, crash, after_the_call=False))

    assert (await lab.look()).removed == 1
    (video,) = await _videos(lab)
    assert (await lab.raw.get(keys.upload(video.id))).body == FILE


async def test_what_is_said_about_a_file_counts(lab: ImportLab) -> None:
    await lab.raw.put("inbox/film.mp4.json", json.dumps(SIDECAR).encode())
    await lab.drop("film.mp4")
    await lab.look()
    job = await _job(lab)
    await lab.work()
    await lab.look()

    assert (job.options.crf, job.options.rungs) == (30, (360,))
    (video,) = await _videos(lab)
    assert (video.title, video.visibility) == ("Holidays", Visibility.PUBLIC)
    assert await lab.inbox() == []


async def test_what_is_said_may_follow_the_file(lab: ImportLab) -> None:
    await lab.raw.put("inbox/film.mp4", FILE)

    assert await lab.look() == Looked(added=0, removed=0, waiting=1)
    await lab.raw.put("inbox/film.mp4.json", b'{"title": "Holidays"}')
    lab.clock.advance(SETTLED)
    await lab.look()

    assert (await _job(lab)).fetch is not None
    assert [video.title for video in await _videos(lab)] == ["Holidays"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{title: Holidays}", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (b'{"titel": "Holidays"}', "titel: Extra inputs are not permitted"),
        (b'{"transcode": {"crf": 99}}', "transcode.crf: Input should be less than or equal to 63"),
        (b" " * (1024**2 + 1), "it is too large"),
    ],
)
async def test_what_cannot_be_read_is_ignored_and_the_video_says_so(
    lab: ImportLab, body: bytes, why: str
) -> None:
    await lab.raw.put("inbox/film.mp4.json", body)
    await lab.drop("film.mp4")
    await lab.look()
    await lab.work()

    assert await lab.titles() == ["film"]
    (video,) = await _videos(lab)
    shown = (await read_video(lab.buckets, video.id)).description or ""
    assert shown.startswith("film.mp4.json was ignored: ")
    assert why in shown


@pytest.mark.parametrize(
    "name",
    [
        "a b+c%20&d=1?#.mp4",
        "2026/08/ä 🎥.mp4",
        "'\"<>\\|*.mp4",
        "//x//.mp4",
        "no-extension",
        "..mp4",
        "\t.mp4",
    ],
)
async def test_files_may_have_any_name(lab: ImportLab, name: str) -> None:
    await lab.drop(name)
    await lab.look()
    await lab.work()
    await lab.look()

    assert len(await lab.titles()) == 1
    assert await lab.inbox() == []


async def test_other_objects_are_left_alone(lab: ImportLab) -> None:
    for name in ("", "folder/", "empty.mp4", "film.mp4.json"):
        await lab.raw.put(f"inbox/{name}", b"{}" if name.endswith(".json") else b"")
    before = await lab.raw_keys()
    lab.clock.advance(30 * 86_400)

    assert await lab.look() == Looked(0, 0, 0)
    await sweep(lab.buckets, lab.worker("sweeper"), SweepRules())
    assert await lab.raw_keys() == before


async def test_the_sweeper_leaves_files_alone_that_nobody_took(lab: ImportLab) -> None:
    await lab.drop("film.mp4")
    lab.clock.advance(30 * 86_400)
    await sweep(lab.buckets, lab.worker("sweeper"), SweepRules())
    assert await lab.inbox() == ["inbox/film.mp4"]


async def test_a_file_that_cannot_be_copied_stays_until_its_video_is_retried(lab: ImportLab) -> None:
    await lab.drop("film.mp4")
    await lab.look(Inbox(lab.buckets, len(FILE) - 1))
    await lab.work()

    assert await lab.look() == Looked(0, 0, 0)
    assert await lab.titles(Stage.FAILED) == ["film"]
    assert await lab.inbox() == ["inbox/film.mp4"]

    (video,) = await _videos(lab)
    await withdraw(lab.buckets, video.id)
    await delete_video(lab.buckets, video.id)
    await lab.drop("film.mp4")
    await lab.settle()
    assert await lab.titles() == ["film"]


async def test_a_retry_takes_the_file_that_is_still_there(lab: ImportLab) -> None:
    await lab.drop("film.mp4")
    await lab.look()
    (video,) = await _videos(lab)
    stored = await lab.raw.get("inbox/film.mp4")
    await lab.raw.delete("inbox/film.mp4")
    await lab.work()
    assert await lab.titles(Stage.FAILED) == ["film"]

    lab.raw._store("inbox/film.mp4", stored.body)
    lab.raw._objects["inbox/film.mp4"] = stored
    await retry_video(lab.buckets, video.id, now=lab.clock)
    await lab.settle()
    assert await lab.titles() == ["film"]
    assert await lab.raw_keys() == []


async def test_a_file_that_is_replaced_becomes_a_video_of_its_own(lab: ImportLab) -> None:
    await lab.drop("film.mp4")
    await lab.look()
    await lab.drop("film.mp4", FILE[::-1])
    await lab.look()
    (new, old) = await _videos(lab)
    await lab.work()
    await lab.look()

    items = {item.video.id: item.status for item in (await list_videos(lab.buckets, limit=10)).items}
    assert items[new.id].stage is Stage.COMPLETE
    error = items[old.id].error
    assert error is not None
    assert error.code == "fetch_changed"
    assert await lab.inbox() == []


async def test_a_replaced_file_is_not_removed_for_the_one_before(lab: ImportLab) -> None:
    await lab.drop("film.mp4")
    await lab.look()
    await lab.work()
    await lab.raw.put("inbox/film.mp4", FILE[::-1])

    assert (await lab.look()).removed == 0
    await lab.settle()
    assert await lab.titles() == ["film", "film"]


async def test_a_deleted_video_does_not_come_back(lab: ImportLab) -> None:
    await lab.raw.put("inbox/film.mp4.json", b"{}")
    await lab.drop("film.mp4")
    await lab.look()
    (video,) = await _videos(lab)
    await withdraw(lab.buckets, video.id)
    await delete_video(lab.buckets, video.id)
    await lab.settle()

    assert await _videos(lab) == []
    assert await lab.raw_keys() == []


async def test_the_quota_holds_and_files_wait_for_room(lab: ImportLab) -> None:
    inbox = Inbox(lab.buckets, 10**9, Quota(max_raw_bytes=2 * len(FILE) + 1))
    for name in "abc":
        await lab.drop(f"{name}.mp4")

    assert await lab.look(inbox) == Looked(added=2, removed=0, waiting=3)
    assert (await lab.look(inbox)).added == 0
    await lab.work()
    assert await lab.look(inbox) == Looked(added=1, removed=2, waiting=1)
    await lab.work()
    assert (await lab.look(inbox)).waiting == 0
    assert await lab.titles() == ["a", "b", "c"]


async def test_thousands_of_files_are_taken_in_batches(
    lab: ImportLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "MAX_WAITING", 20)
    for number in range(1_050):
        await lab.raw.put(f"inbox/{number:04}.mp4", FILE)
    lab.clock.advance(SETTLED)
    inbox = Inbox(lab.buckets, 10**9)

    assert await lab.look(inbox) == Looked(added=32, removed=0, waiting=1_050)
    assert (await lab.look(inbox)).added == 0
    await lab.work()
    assert (await lab.look(inbox)).removed == 32
    assert len(await lab.inbox()) == 1_018


async def test_a_file_whose_video_is_being_removed_does_not_hold_up_the_others(lab: ImportLab) -> None:
    await lab.drop("a.mp4")
    await lab.drop("b.mp4")
    first = await anext(lab.raw.list_all(keys.INBOX))
    tombstone = keys.video_record(video_of(first))
    await lab.video.put(tombstone, Tombstone(removed=True).to_json())

    assert (await lab.look()).added == 1
    await lab.video.delete(tombstone)
    await lab.settle()
    assert await lab.titles() == ["a", "b"]


async def _strike_every_call(
    act: Callable[[ImportLab, Fault], Awaitable[None]], raises: Callable[[], BaseException]
) -> int:
    """Let a process die at each of its calls, before and after it; others do the rest."""
    for at_call in count(1):
        for after_the_call in (False, True):
            lab, fault = ImportLab(), Fault(at_call, raises, after_the_call)
            await lab.raw.put("inbox/film.mp4.json", b'{"title": "Holidays"}')
            await lab.drop("film.mp4")
            with suppress(WorkerCrashed, StoreError):
                await act(lab, fault)
            await lab.settle()
            assert await lab.titles() == ["Holidays"]
            assert await lab.raw_keys() == []
            assert [upload async for upload in lab.raw.list_uploads("")] == []
        if not fault.struck:
            return at_call
    raise AssertionError


async def _take(lab: ImportLab, fault: Fault) -> None:
    await Inbox(lab.faulty(fault), 10**9).look()


async def _copy(lab: ImportLab, fault: Fault) -> None:
    await lab.look()
    await lab.fetch(fault)


async def _take_out(lab: ImportLab, fault: Fault) -> None:
    await lab.look()
    await lab.work()
    await Inbox(lab.faulty(fault), 10**9).look()


@pytest.mark.parametrize("raises", [crash, lost_answer])
@pytest.mark.parametrize(("act", "calls"), [(_take, 11), (_copy, 12), (_take_out, 6)])
async def test_whoever_dies_at_any_call_the_file_becomes_one_video(
    act: Callable[[ImportLab, Fault], Awaitable[None]], calls: int, raises: Callable[[], BaseException]
) -> None:
    assert await _strike_every_call(act, raises) > calls


@pytest.mark.parametrize("taken", [False, True])
async def test_two_processes_that_look_at_once_make_one_video(taken: bool) -> None:
    labs = list[ImportLab]()

    async def begin(turns: Turns) -> Race:
        now = datetime.now(UTC)  # of the store that takes turns
        lab = ImportLab(
            TurnStore(turns) if taken else None, None if taken else TurnStore(turns), settle_seconds=0
        )
        lab.clock.now = now
        labs.append(lab)
        await lab.drop("film.mp4")
        if taken:
            await lab.look()
            await lab.work()
        return Race(lab.buckets, lab.look(), lab.look())

    async for _ in every_order(begin):
        lab = labs.pop()
        await lab.settle()
        assert await lab.titles() == ["film"]
        assert await lab.raw_keys() == []
