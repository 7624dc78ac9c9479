"""How `make run` shows log lines."""

import json

import pytest

from infra.local.console import readable, relay

GET_ENDED = "s3api_object_handlers.go:887 GetObjectHandler: failed to stream raw/uploads/0.orig"


def test_a_structured_line_is_shown_as_its_event_and_fields() -> None:
    line = json.dumps({"event": "job_done", "level": "info", "timestamp": "2026-11-21T03:00:00Z", "id": 7})

    shown = readable(line)

    assert shown.endswith("job_done id=7")
    assert len(shown.split()[0]) == len("03:00:00")


def test_levels_above_info_are_shown() -> None:
    assert readable('{"event": "slow", "level": "warning"}') == "warning slow"


def test_a_traceback_keeps_its_lines() -> None:
    assert readable(json.dumps({"event": "crash", "exception": "one\ntwo"})) == "crash\n    one\n    two"


def test_nothing_from_outside_forges_lines_fields_or_colours(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "/x\x1b[31m\nstore | all is lost\r\x9b2J\u202e status=200"
    relay("api", json.dumps({"event": "request", "path": hostile}))
    relay("api", json.dumps({"event": "crash", "exception": f"ValueError: {hostile}", hostile: 1}))
    relay("store", f"E1130 {hostile}".replace("\n", " "))

    printed = capsys.readouterr().out
    assert all(char.isprintable() for char in printed.replace("\n", ""))
    lines = printed.splitlines()
    assert [line[:7] for line in lines] == ["api   |", "api   |", "    Val", "    sto", "store |"]
    assert ' path="/x' in lines[0]


@pytest.mark.parametrize("line", ["plain text", "{broken", "[1]", '{"no": "event"}', "3", ""])
def test_other_lines_are_unchanged(line: str) -> None:
    assert readable(line) == line


def test_of_the_store_only_what_matters_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    relay("store", "I1130 03:51:33.202814 s3api_object_handlers_delete.go:209 DeleteObjectHandler raw q/0")
    relay("store", "W1130 03:51:33.202814 filer_server.go:227 skipping default store dir in data/filerldb2")
    relay("store", f"E1130 03:51:33.202814 {GET_ENDED}: write: connection reset by peer")
    relay("store", "E1130 03:42:09.593594 upload_chunked.go:281 chunked upload failed")
    relay("api", "I1130 03:51:33.202814 not the store's")

    assert [line.partition("| ")[2][:5] for line in capsys.readouterr().out.splitlines()] == [
        "E1130",
        "I1130",
    ]
