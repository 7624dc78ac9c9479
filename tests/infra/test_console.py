"""How `make run` shows log lines."""

import json

import pytest

from infra.local.console import readable


def test_a_structured_line_is_shown_as_its_event_and_fields() -> None:
    line = json.dumps({"event": "job_done", "level": "info", "timestamp": "2026-11-21T03:00:00Z", "id": 7})

    shown = readable(line)

    assert shown.endswith("job_done id=7")
    assert len(shown.split()[0]) == len("03:00:00")


def test_levels_above_info_are_shown() -> None:
    assert readable('{"event": "slow", "level": "warning"}') == "warning slow"


def test_a_traceback_keeps_its_lines() -> None:
    assert readable(json.dumps({"event": "crash", "exception": "one\ntwo"})) == "crash\none\ntwo"


@pytest.mark.parametrize("line", ["plain text", "{broken", "[1]", '{"no": "event"}', "3", ""])
def test_other_lines_are_unchanged(line: str) -> None:
    assert readable(line) == line
