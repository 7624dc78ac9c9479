"""Slugs: each leads to one video, in every order of requests that change it, and after every crash."""

from datetime import UTC, datetime, timedelta

import pytest

from backend.core import keys
from backend.core.errors import SlugTaken, VideoNotFound
from backend.core.ids import new_id
from backend.core.library.slugs import VIDEO, find_slug, is_slug
from backend.core.library.videos import VideoEdit, add_video, delete_video, edit_video, read_video
from backend.core.records import Job, Video
from backend.core.store.interface import Buckets
from backend.core.sweep.sweeper import Kind, SweepRules, sweep
from tests.core.jobs.queue_lab import Fault, Lab, WorkerCrashed, crash
from tests.lab.turns import Race, Turns, TurnStore, every_order

NOW = datetime(2026, 11, 30, tzinfo=UTC)
ONE, TWO = new_id(1, 1), new_id(1, 2)
GRACE = timedelta(hours=1)


async def _with_videos(turns: Turns, slug: str = "") -> Buckets:
    """Return buckets with two videos. The first one may have a slug."""
    buckets = Buckets(raw=TurnStore(turns), video=TurnStore(turns))
    for video_id in (ONE, TWO):
        source = keys.upload(video_id)
        video = Video(id=video_id, title="film", filename="f.mp4", size_bytes=1, created_at=NOW)
        await buckets.raw.put(source, b"x")
        job = Job(id=video_id, request=video_id, source=source, source_size_bytes=1, created_at=NOW)
        await add_video(buckets, video, job)
    await edit_video(buckets, ONE, VideoEdit(slug=slug))
    return buckets


async def _set(buckets: Buckets, video_id: str, slug: str) -> Video:
    return await edit_video(buckets, video_id, VideoEdit(slug=slug))


async def _leads_to(buckets: Buckets, slug: str) -> str | None:
    return await find_slug(buckets.video, VIDEO, slug)


async def _claims(buckets: Buckets) -> list[str]:
    return [info.key async for info in buckets.video.list_all(keys.SLUGS)]


async def test_a_slug_leads_to_its_video_until_it_is_changed_or_removed() -> None:
    buckets = await _with_videos(Turns())

    assert (await _set(buckets, ONE, "spring")).slug == "spring"
    assert await _leads_to(buckets, "spring") == ONE
    with pytest.raises(SlugTaken):
        await _set(buckets, TWO, "spring")
    assert (await edit_video(buckets, ONE, VideoEdit(title="new"))).slug == "spring"
    await _set(buckets, ONE, "summer")
    assert [await _leads_to(buckets, slug) for slug in ("spring", "summer")] == [None, ONE]
    await _set(buckets, TWO, "spring")
    assert (await _set(buckets, ONE, "")).slug is None
    assert [await _leads_to(buckets, slug) for slug in ("spring", "summer")] == [TWO, None]


async def test_the_slug_of_a_deleted_video_is_free_at_once() -> None:
    buckets = await _with_videos(Turns(), "spring")
    await delete_video(buckets, ONE)
    with pytest.raises(VideoNotFound):
        await _set(buckets, ONE, "spring")

    await _set(buckets, TWO, "spring")

    assert await _leads_to(buckets, "spring") == TWO


async def test_only_one_of_two_videos_gets_a_slug() -> None:
    async def begin(turns: Turns) -> Race:
        buckets = await _with_videos(turns)
        return Race(buckets, _set(buckets, ONE, "spring"), _set(buckets, TWO, "spring"))

    async for ended in every_order(begin):
        outcomes = {ONE: ended.first, TWO: ended.second}
        (winner,) = (video_id for video_id, outcome in outcomes.items() if isinstance(outcome, Video))
        (loser,) = outcomes.keys() - {winner}
        assert isinstance(outcomes[loser], SlugTaken)
        assert await _leads_to(ended.buckets, "spring") == winner
        assert [(await read_video(ended.buckets, one)).slug for one in (winner, loser)] == ["spring", None]


@pytest.mark.parametrize("slugs", [("spring", "summer"), ("summer", "")])
async def test_the_slug_that_a_video_has_leads_to_it_and_no_other_does(slugs: tuple[str, str]) -> None:
    async def begin(turns: Turns) -> Race:
        buckets = await _with_videos(turns, "spring")
        return Race(buckets, _set(buckets, ONE, slugs[0]), _set(buckets, ONE, slugs[1]))

    async for ended in every_order(begin):
        slug = (await read_video(ended.buckets, ONE)).slug
        assert slug in (slugs[0], slugs[1] or None)
        for known in {"spring", *slugs} - {""}:
            assert await _leads_to(ended.buckets, known) == (ONE if known == slug else None)


async def test_a_slug_that_is_given_up_goes_to_the_video_that_takes_it() -> None:
    async def begin(turns: Turns) -> Race:
        buckets = await _with_videos(turns, "spring")
        return Race(buckets, _set(buckets, ONE, "summer"), _set(buckets, TWO, "spring"))

    async for ended in every_order(begin):
        assert isinstance(ended.second, (Video, SlugTaken))
        taken = isinstance(ended.second, Video)
        assert await _leads_to(ended.buckets, "spring") == (TWO if taken else None)
        assert await _leads_to(ended.buckets, "summer") == ONE


async def test_a_slug_goes_to_one_video_while_the_sweeper_removes_the_claim_of_a_deleted_one() -> None:
    async def sweeper(buckets: Buckets) -> None:
        """Remove the claim, as a sweep does that has found it."""
        await buckets.video.delete(keys.slug_claim(VIDEO, "spring", 1))

    async def late(buckets: Buckets) -> Video:
        await sweeper(buckets)
        return await _set(buckets, TWO, "spring")

    third = new_id(1, 3)

    async def begin(turns: Turns) -> Race:
        buckets = await _with_videos(turns, "spring")
        await delete_video(buckets, ONE)
        await buckets.video.put(
            keys.video_record(third),
            Video(id=third, title="film", filename="f.mp4", size_bytes=1, created_at=NOW).to_json(),
        )
        return Race(buckets, _set(buckets, third, "spring"), late(buckets))

    async for ended in every_order(begin):
        outcomes = {third: ended.first, TWO: ended.second}
        (winner,) = (video_id for video_id, outcome in outcomes.items() if isinstance(outcome, Video))
        assert await _leads_to(ended.buckets, "spring") == winner


async def _sweep(lab: Lab) -> list[tuple[Kind, str]]:
    report = await sweep(lab.buckets, lab.worker("sweeper"), SweepRules(grace=GRACE))
    return [(one.kind, one.key) for one in report.findings]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_change_that_was_killed_at_any_step_can_be_repeated_and_is_swept(after: bool) -> None:
    struck = 0
    for at_call in range(1, 30):
        lab = Lab()
        one, two = await lab.add_job(), await lab.add_job()
        await edit_video(lab.buckets, one.id, VideoEdit(slug="spring"))
        fault = Fault(at_call, crash, after)
        try:
            await edit_video(lab.faulty(fault), one.id, VideoEdit(slug="summer"))
        except WorkerCrashed:
            struck += 1
        slug = (await read_video(lab.buckets, one.id)).slug
        assert slug is not None
        assert await _leads_to(lab.buckets, slug) == one.id

        lab.clock.advance(2 * GRACE.total_seconds())
        await _sweep(lab)
        assert await _leads_to(lab.buckets, slug) == one.id
        await edit_video(lab.buckets, two.id, VideoEdit(slug="spring" if slug == "summer" else "summer"))
        await edit_video(lab.buckets, one.id, VideoEdit(slug=slug))
        assert await _leads_to(lab.buckets, slug) == one.id
    assert 5 < struck < 29


async def test_the_sweeper_leaves_slugs_that_are_in_use_and_removes_all_others() -> None:
    lab = Lab()
    kept, gone = await lab.add_job(), await lab.add_job()
    for slug in ("first", "second"):
        await edit_video(lab.buckets, kept.id, VideoEdit(slug=slug))
    await edit_video(lab.buckets, gone.id, VideoEdit(slug="third"))
    await delete_video(lab.buckets, gone.id)
    await lab.video.put(f"{keys.SLUGS}playlist/picture/999999998", b'{"schema_version": 1, "id": "x"}')
    await lab.video.put(f"{keys.SLUGS}foreign", b"")
    assert await _sweep(lab) == []
    lab.clock.advance(GRACE.total_seconds() + 1)

    found = await _sweep(lab)

    removed = {keys.slug_claim(VIDEO, "first", 2), keys.slug_claim(VIDEO, "third", 1)}
    assert set(found) == {(Kind.SLUG, key) for key in removed}
    assert await _claims(lab.buckets) == [
        f"{keys.SLUGS}foreign",
        f"{keys.SLUGS}playlist/picture/999999998",
        keys.slug_claim(VIDEO, "second", 1),
    ]


@pytest.mark.parametrize("text", ["a", "spring-2027", "a_b", "a--b", "0", "x" * 100])
def test_slugs(text: str) -> None:
    assert is_slug(text)


@pytest.mark.parametrize("text", ["", "-a", "a-", "Spring", "a b", "ü", "a/b", "a.b", "x" * 101, "a\n", ONE])
def test_what_is_no_slug(text: str) -> None:
    assert not is_slug(text)
