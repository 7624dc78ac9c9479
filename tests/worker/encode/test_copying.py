"""Which pictures become the top H.264 rung as they are."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.records import Codec, TranscodeOptions
from tests.worker.encode.test_look_plan import MEDIA, SIZE_BYTES, VIDEO
from worker.encode.copying import MAX_PEAK, MAX_RATE, with_copy
from worker.encode.ladder import EncodingPlan, plan_encoding
from worker.source.index.source_index import FrameTable, SourceIndex
from worker.source.media import Colour, MediaInfo

SECONDS, FPS, TICKS = 60, 30, 20
TIMESCALE, FRAMES = FPS * TICKS, SECONDS * FPS
GAP_SECONDS = 2
GROUPS = SECONDS // GAP_SECONDS
KEYFRAMES = tuple(range(0, SECONDS * TIMESCALE, GAP_SECONDS * TIMESCALE))
TABLE = FrameTable(FRAMES, TICKS, TICKS, (1_000_000,) * GROUPS)
INDEX = SourceIndex(TIMESCALE, KEYFRAMES, table=TABLE)


def planned(
    media: MediaInfo = MEDIA,
    index: SourceIndex = INDEX,
    codecs: tuple[Codec, ...] = ("av1", "h264"),
    segment_seconds: float = 4.0,
) -> EncodingPlan:
    plan = plan_encoding(media, codecs, TranscodeOptions())
    return with_copy(plan, media, index, SIZE_BYTES, segment_seconds)


@pytest.mark.parametrize("codecs", [("av1", "h264"), ("h264",)])
def test_top_h264_rung_is_copied_and_all_others_are_encoded(codecs: tuple[Codec, ...]) -> None:
    plan, encoded = planned(codecs=codecs), plan_encoding(MEDIA, codecs, TranscodeOptions())

    assert plan.copied_video is not None
    assert (plan.copied_video.name, plan.copied_video.copied_frames) == ("h264-1080p", FRAMES)
    assert plan.mp4_video is plan.copied_video
    assert plan.names == encoded.names
    assert plan.renditions == encoded.renditions
    assert plan.encoded.video == tuple(one for one in encoded.video if one.name != "h264-1080p")


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": "hevc"},
        {"display_width": 1919},
        {"display_width": 3840, "display_height": 2160},
        {"rotation": 90},
        {"progressive": False},
        {"colour": Colour(matrix="smpte170m")},
        {"colour": Colour(primaries="bt2020")},
        {"base_fps": Fraction(15)},
        {"end_seconds": 59.8},
    ],
    ids=str,
)
def test_other_pictures_are_encoded(changes: dict[str, object]) -> None:
    media = replace(MEDIA, video=replace(VIDEO, **changes))  # type: ignore[arg-type]  # names and types are above

    assert planned(media).copied_video is None


@pytest.mark.parametrize(
    "index",
    [
        replace(INDEX, table=None),
        replace(INDEX, is_plain=False),
        replace(INDEX, keyframes=(TICKS, *KEYFRAMES[1:])),
        replace(
            INDEX,
            keyframes=(0, 4 * TIMESCALE, 12 * TIMESCALE - TICKS, *KEYFRAMES[6:]),
            table=replace(TABLE, group_bytes=TABLE.group_bytes[3:]),
        ),
        replace(INDEX, table=replace(TABLE, longest_ticks=2 * TICKS)),
        replace(INDEX, table=replace(TABLE, shortest_ticks=1)),
    ],
    ids=[
        "Matroska",
        "open groups",
        "begins a frame late",
        "segment of one frame",
        "variable rate",
        "a burst of frames",
    ],
)
def test_pictures_whose_index_promises_too_little_are_encoded(index: SourceIndex) -> None:
    assert planned(index=index).copied_video is None


@pytest.mark.parametrize(("segment_seconds", "is_copied"), [(4.0, True), (1.0, True), (0.5, False)])
def test_keyframes_lie_within_a_few_segments(segment_seconds: float, *, is_copied: bool) -> None:
    assert bool(planned(segment_seconds=segment_seconds).copied_video) is is_copied


@given(st.lists(st.integers(0, 6_000_000), min_size=GROUPS, max_size=GROUPS))
def test_rate_is_limited_on_average_and_in_each_segment(sizes: list[int]) -> None:
    rung = plan_encoding(MEDIA, ("h264",), TranscodeOptions()).video[-2]
    assert rung.name == "h264-1080p"
    cap_bytes = Fraction(rung.max_bps, 8)

    plan = planned(index=replace(INDEX, table=replace(TABLE, group_bytes=tuple(sizes))))

    # a segment of 4 s holds two groups
    segments = [sum(sizes[number : number + 2]) for number in range(0, GROUPS, 2)]
    assert bool(plan.copied_video) == (
        sum(sizes) <= SECONDS * cap_bytes * MAX_RATE
        and all(size <= 4 * cap_bytes * MAX_PEAK for size in segments)
    )


def test_short_last_segment_does_not_count() -> None:
    media = replace(MEDIA, duration_seconds=60.5, video=replace(VIDEO, end_seconds=60.5), audio=())
    table = replace(TABLE, group_bytes=(*TABLE.group_bytes, 2_000_000))
    index = replace(INDEX, keyframes=(*KEYFRAMES, SECONDS * TIMESCALE), table=table)

    assert planned(media, index).copied_video is not None
