"""Object keys: our own can be parsed, foreign ones are rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core import keys
from backend.core.errors import BadRequest
from backend.core.ids import new_id

ids = st.builds(new_id, st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
numbers = st.integers(0, 999_999_999)
requests = st.builds(keys.request_name, ids, numbers)
VIDEO = new_id(1, 1)


@given(video_id=ids, number=numbers)
def test_a_request_contains_its_video_and_number(video_id: str, number: int) -> None:
    request = keys.request_name(video_id, number)

    assert keys.video_of_request(request) == video_id
    assert keys.request_number(request) == number


@given(request=requests, generation=numbers)
def test_lease_keys_round_trip(request: str, generation: int) -> None:
    parsed = keys.parse_lease(keys.lease(request, generation))

    assert (parsed.request, parsed.generation) == (request, generation)
    assert keys.lease(*parsed) == keys.lease(request, generation)
    assert keys.lease(request, generation).startswith(keys.leases_of(request))


@given(request=requests)
def test_marker_keys_round_trip(request: str) -> None:
    assert keys.parse_marker(keys.marker(request)) == request


@given(
    request=requests,
    plan=numbers,
    unit=st.sampled_from([keys.LOOK, keys.SIDES, keys.chunk(0), keys.chunk(399)]),
    generation=numbers,
)
def test_unit_keys_round_trip(request: str, plan: int, unit: str, generation: int) -> None:
    lease = keys.unit_lease(request, plan, unit, generation)
    end = keys.unit_end(request, plan, unit)

    assert keys.parse_unit(lease) == (request, plan, unit, generation)
    assert keys.parse_unit(end) == (request, plan, unit, None)
    assert keys.parse_unit_plan(keys.unit_plan(request, plan)) == (request, plan)
    for key in (lease, end, keys.unit_plan(request, plan), keys.wanted(request)):
        assert key.startswith(keys.units_of_request(request))
        assert key.startswith(keys.units_of_video(keys.video_of_request(request)))
        assert keys.request_of_units(key) == request


@pytest.mark.parametrize("key", ["0/plan", "wanted", "0/look", "0/look/", "0/c1/0", "0/look/01", "00/look/0"])
def test_rejects_keys_that_are_not_units(key: str) -> None:
    with pytest.raises(BadRequest):
        keys.parse_unit(keys.units_of_request(VIDEO) + key)


@given(request=requests, token=st.from_regex(r"[0-9a-f]{1,32}", fullmatch=True))
def test_a_look_is_stored_like_a_run_of_its_request(request: str, token: str) -> None:
    video_id = keys.video_of_request(request)
    look, run = keys.look_name(request, token), keys.run_name(request, 3, token)
    key = keys.run_prefix(video_id, look) + keys.MASTER_PLAYLIST

    assert keys.run_of_key(video_id, key) == look == keys.look_of_run(run)
    assert (keys.is_look(look), keys.is_look(run)) == (True, False)
    assert keys.request_of_run(video_id, look) == keys.request_of_run(video_id, run) == request
    assert key.startswith(keys.looks_of_request(video_id, request))
    assert not key.startswith(keys.runs_of_request(video_id, request))
    assert key < keys.results_of(video_id)


@given(first=ids, second=ids)
def test_the_catalog_lists_the_newest_video_first(first: str, second: str) -> None:
    assert keys.video_of_catalog_entry(keys.catalog_entry(first)) == first
    assert (keys.catalog_entry(first) < keys.catalog_entry(second)) == (second < first)


@given(request=requests, generation=numbers, token=st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True))
def test_the_key_of_an_output_contains_its_run(request: str, generation: int, token: str) -> None:
    video_id = keys.video_of_request(request)
    run = keys.run_name(request, generation, token)

    key = keys.run_prefix(video_id, run) + keys.MASTER_PLAYLIST

    assert keys.run_of_key(video_id, key) == run
    assert key.startswith(keys.runs_of_request(video_id, request))
    assert key.startswith(keys.video_prefix(video_id))


def test_records_do_not_belong_to_a_run() -> None:
    for key in (keys.video_record(VIDEO), keys.status(VIDEO), keys.result(VIDEO, VIDEO)):
        assert keys.run_of_key(VIDEO, key) is None


def test_requests_do_not_share_the_prefix_of_their_runs() -> None:
    tenth = keys.run_prefix(VIDEO, keys.run_name(keys.request_name(VIDEO, 10), 0, "t"))

    assert not tenth.startswith(keys.runs_of_request(VIDEO, keys.request_name(VIDEO, 1)))


@pytest.mark.parametrize(
    "key",
    ["", "queue/", f"queue/{VIDEO}/", f"queue/{VIDEO}.0", f"queue/{VIDEO}.01", f"leases/{VIDEO}", "queue/x"],
)
def test_rejects_keys_that_are_not_markers(key: str) -> None:
    with pytest.raises(BadRequest):
        keys.parse_marker(key)


@pytest.mark.parametrize(
    "key",
    [f"leases/{VIDEO}", f"leases/{VIDEO}/", f"leases/{VIDEO}/00", f"leases/{VIDEO}/-1", f"queue/{VIDEO}"],
)
def test_rejects_keys_that_are_not_leases(key: str) -> None:
    with pytest.raises(BadRequest):
        keys.parse_lease(key)


@pytest.mark.parametrize(
    "path", [keys.MASTER_PLAYLIST, keys.DASH_MANIFEST, keys.DOWNLOAD, "av1-1080p/00001.m4s"]
)
def test_accepts_paths_of_outputs(path: str) -> None:
    assert keys.parse_asset_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "a/./b",
        ".hidden",
        "a/.b",
        "a\\b",
        "a%2e%2e",
        "a b",
        "a\n",
        "ü",
        "a?b",
    ],
)
def test_rejects_paths_that_could_be_normalised(path: str) -> None:
    with pytest.raises(BadRequest):
        keys.parse_asset_path(path)


@given(st.text(max_size=300))
def test_an_accepted_path_stays_below_its_prefix(path: str) -> None:
    try:
        accepted = keys.parse_asset_path(path)
    except BadRequest:
        return
    assert all(segment and not segment.startswith(".") for segment in accepted.split("/"))
    assert len(accepted) <= 200


def test_players_get_uploaded_captions_or_objects_of_the_run() -> None:
    run = keys.run_prefix(VIDEO, "r0-0-abc")

    def found(path: str) -> str:
        return keys.playable_object(VIDEO, run, path)

    assert found(keys.captions_path("pt-BR")) == keys.captions(VIDEO, "pt-BR")
    assert found("captions/0-pt-BR.vtt") == f"{run}captions/0-pt-BR.vtt"
    assert found("hls/master.m3u8") == f"{run}hls/master.m3u8"


@pytest.mark.parametrize(
    "path", ["captions/../video.json", "captions//en.vtt", "../captions/en.vtt", "captions/.vtt"]
)
def test_players_cannot_leave_the_run(path: str) -> None:
    with pytest.raises(BadRequest):
        keys.playable_object(VIDEO, keys.run_prefix(VIDEO, "r0-0-abc"), path)


@pytest.mark.parametrize("path", ["captions/en.json", "video.json", "status.json", "captions/a/en.vtt"])
def test_players_cannot_read_records(path: str) -> None:
    run = keys.run_prefix(VIDEO, "r0-0-abc")
    assert keys.playable_object(VIDEO, run, path) == run + path
